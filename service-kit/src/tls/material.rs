//! Certificates and keys from PEM files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, RootCertStore};

/// A TLS configuration that cannot be used. Messages name files and never their content.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is missing or malformed.
    #[error("{what} {path}: {reason}")]
    File {
        /// The kind of file: certificate, key or authority.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with the file.
        reason: String,
    },
    /// One of two settings that require each other is missing.
    #[error("setting {missing}: expected a file because {given} is set, found none")]
    Incomplete {
        /// The missing key.
        missing: &'static str,
        /// The key that requires it.
        given: &'static str,
    },
    /// There is an https address, but no trusted authorities.
    #[error("setting tls.ca: expected a file of trusted authorities for https addresses, found none")]
    NoAuthorities,
    /// A server name that no certificate can have.
    #[error("expected a host name or IP address, found {0:?}")]
    ServerName(String),
    /// rustls rejects the configuration, for example because certificate and key do not match.
    #[error("TLS: {0}")]
    Rustls(#[from] rustls::Error),
    /// rustls rejects the authorities for client certificates.
    #[error("TLS: {0}")]
    ClientVerifier(#[from] rustls::server::VerifierBuilderError),
}

/// A certificate chain with its key.
pub(super) type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Reads the identity from two files; `None` if neither is given.
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

/// Reads authorities from a file.
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
