//! TLS for clients.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use super::material::{TlsError, authorities, identity, provider};
use super::reload::watch;
use super::settings::ClientTlsSettings;
use crate::Shutdown;

/// Removes the brackets that an IPv6 address has in a URL.
pub(crate) fn bare_host(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

/// The TLS configuration of a client. Clones share its certificates.
#[derive(Clone)]
pub struct ClientTls {
    config: Arc<ArcSwap<ClientConfig>>,
    settings: ClientTlsSettings,
}

impl ClientTls {
    /// Reads the files. `tls.ca` is required: there are no default authorities.
    pub fn new(settings: &ClientTlsSettings) -> Result<Self, TlsError> {
        let config = Arc::new(ArcSwap::new(config(settings)?));
        Ok(Self { config, settings: settings.clone() })
    }

    /// Reloads the files when they change, until shutdown.
    pub fn watch(&self, shutdown: Shutdown) {
        let settings = self.settings.clone();
        let files = [&settings.ca, &settings.certificate, &settings.key];
        let files = files.into_iter().flatten().cloned().collect();
        let current = self.config.clone();
        watch(files, shutdown, move || {
            current.store(config(&settings)?);
            Ok(())
        });
    }

    /// Performs the handshake on a new connection to `host`.
    pub async fn connect<S>(&self, host: &str, connection: S) -> std::io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let name = self.settings.server_name.as_deref().unwrap_or(host);
        let name = ServerName::try_from(bare_host(name).to_owned())
            .map_err(|_| std::io::Error::other(TlsError::ServerName(name.to_owned())))?;
        TlsConnector::from(self.config.load_full()).connect(name, connection).await
    }
}

impl std::fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ClientTls").field(&self.settings).finish()
    }
}

fn config(settings: &ClientTlsSettings) -> Result<Arc<ClientConfig>, TlsError> {
    let ca = settings.ca.as_deref().ok_or(TlsError::NoAuthorities)?;
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(authorities(ca)?);
    let identity = identity(settings.certificate.as_deref(), settings.key.as_deref())?;
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => builder.with_client_auth_cert(chain, key)?,
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}
