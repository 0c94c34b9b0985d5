//! Certificates and keys out of PEM files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, RootCertStore};

/// TLS that cannot be set up. The messages name files and never what is in them.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read as what it should be.
    #[error("{what} {path}: {reason}")]
    File {
        /// Certificate, key or authority.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// One of two settings that need each other is missing.
    #[error("setting {missing}: expected a file, as {given} is given, found none")]
    Incomplete {
        /// The key of the one that is missing.
        missing: &'static str,
        /// The key of the other.
        given: &'static str,
    },
    /// An https address without authorities to trust.
    #[error("setting tls.ca: expected a file of trusted authorities for https addresses, found none")]
    NoAuthorities,
    /// A name that no certificate can have.
    #[error("expected a host name or IP address, found {0:?}")]
    ServerName(String),
    /// Certificate and key do not belong together, or the like.
    #[error("TLS: {0}")]
    Rustls(#[from] rustls::Error),
    /// The authorities for client certificates cannot be used.
    #[error("TLS: {0}")]
    ClientVerifier(#[from] rustls::server::VerifierBuilderError),
}

/// A certificate chain with its key.
pub(super) type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// The identity in two files, `None` where neither is given.
pub(super) fn identity(certificate: Option<&Path>, key: Option<&Path>) -> Result<Option<Identity>, TlsError> {
    match (certificate, key) {
        (None, None) => Ok(None),
        (Some(_), None) => Err(TlsError::Incomplete { missing: "tls.key", given: "tls.certificate" }),
        (None, Some(_)) => Err(TlsError::Incomplete { missing: "tls.certificate", given: "tls.key" }),
        (Some(certificate), Some(path)) => {
            let chain = certificates("certificate", certificate)?;
            let key = PrivateKeyDer::from_pem_file(path).map_err(|error| file("key", path, &error))?;
            Ok(Some((chain, key)))
        }
    }
}

/// The authorities in a file.
pub(super) fn authorities(path: &Path) -> Result<Arc<RootCertStore>, TlsError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates("authority", path)? {
        store.add(certificate).map_err(|error| file("authority", path, &error))?;
    }
    Ok(Arc::new(store))
}

fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |error: &dyn std::fmt::Display| file(what, path, error);
    let all: Vec<_> = CertificateDer::pem_file_iter(path)
        .map_err(|error| wrong(&error))?
        .collect::<Result<_, _>>()
        .map_err(|error| wrong(&error))?;
    if all.is_empty() {
        return Err(wrong(&"expected certificates in PEM, found none"));
    }
    Ok(all)
}

fn file(what: &'static str, path: &Path, reason: &dyn std::fmt::Display) -> TlsError {
    TlsError::File { what, path: path.to_owned(), reason: reason.to_string() }
}
