//! TLS for listeners.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::server::TlsStream;

use super::material::{TlsError, authorities, identity, provider};
use super::reload::watch;
use super::settings::ServerTlsSettings;
use crate::Shutdown;

/// The TLS configuration of a listener. Clones share its certificates.
#[derive(Clone)]
pub struct ServerTls {
    config: Arc<ArcSwap<ServerConfig>>,
    settings: ServerTlsSettings,
}

impl ServerTls {
    /// Reads the files. Returns `None` if no certificate is configured.
    pub fn new(settings: &ServerTlsSettings) -> Result<Option<Self>, TlsError> {
        if settings.client_ca.is_some() && settings.certificate.is_none() {
            return Err(TlsError::Incomplete { missing: "tls.certificate", given: "tls.client_ca" });
        }
        let config = config(settings)?;
        Ok(config.map(|config| Self { config: Arc::new(ArcSwap::new(config)), settings: settings.clone() }))
    }

    /// Reloads the files when they change, until shutdown.
    pub fn watch(&self, shutdown: Shutdown) {
        let settings = self.settings.clone();
        let files = [&settings.certificate, &settings.key, &settings.client_ca];
        let files = files.into_iter().flatten().cloned().collect();
        let current = self.config.clone();
        watch(files, shutdown, move || {
            if let Some(new) = config(&settings)? {
                current.store(new);
            }
            Ok(())
        });
    }

    /// Performs the handshake on a new connection.
    pub async fn accept(&self, connection: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        TlsAcceptor::from(self.config.load_full()).accept(connection).await
    }
}

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ServerTls").field(&self.settings).finish()
    }
}

fn config(settings: &ServerTlsSettings) -> Result<Option<Arc<ServerConfig>>, TlsError> {
    let Some((chain, key)) = identity(settings.certificate.as_deref(), settings.key.as_deref())? else {
        return Ok(None);
    };
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let builder = match &settings.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => builder.with_client_cert_verifier(
            WebPkiClientVerifier::builder_with_provider(authorities(path)?, provider()).build()?,
        ),
    };
    let mut config = builder.with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Some(Arc::new(config)))
}
