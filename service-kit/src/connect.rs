//! Connections that are made: over TCP for `http://`, over TLS for `https://`, with the certificates of that moment.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::ClientTls;

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A connection is asked this often whether it lives, whether or not calls are in flight on it.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// And given up when it has not answered after this.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(3);

/// Anything that bytes go over.
trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// An IPv6 address stands in brackets in a URL, and without them elsewhere.
pub(crate) fn bare_host(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

/// Where a client connects to.
#[derive(Debug, Clone)]
pub struct Target {
    uri: Uri,
    host: String,
    port: u16,
    encrypted: bool,
}

/// What is no address of a service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a URL such as http://127.0.0.1:50051 or https://encoder:50051, found {0:?}")]
pub struct InvalidTarget(String);

impl Target {
    /// Parses `http://HOST:PORT` or `https://HOST:PORT`.
    pub fn parse(url: &str) -> Result<Self, InvalidTarget> {
        let wrong = || InvalidTarget(url.to_owned());
        let uri: Uri = url.trim().parse().map_err(|_| wrong())?;
        let encrypted = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(wrong()),
        };
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(wrong)?.to_owned();
        let port = uri.port_u16().unwrap_or(if encrypted { 443 } else { 80 });
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(wrong());
        }
        Ok(Self { uri, host, port, encrypted })
    }

    /// Whether it is an `https://` address.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.encrypted
    }

    /// All addresses that the host's name stands for now.
    pub async fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        let mut addresses: Vec<_> =
            tokio::net::lookup_host((bare_host(&self.host), self.port)).await?.collect();
        addresses.sort_unstable();
        addresses.dedup();
        Ok(addresses)
    }

    /// A channel, connected when it is first used and again after it broke: to `address` where one is given, else to
    /// whatever the host's name stands for at that time.
    #[must_use]
    pub fn channel(&self, address: Option<SocketAddr>, tls: Option<ClientTls>) -> Channel {
        let endpoint = Endpoint::from(self.uri.clone())
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true);
        let target = self.clone();
        endpoint.connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
            let (target, tls) = (target.clone(), tls.clone());
            async move { target.connect(address, tls).await.map(TokioIo::new) }
        }))
    }

    async fn connect(self, address: Option<SocketAddr>, tls: Option<ClientTls>) -> io::Result<Box<dyn Io>> {
        let stream = if let Some(address) = address {
            TcpStream::connect(address).await?
        } else {
            TcpStream::connect((bare_host(&self.host), self.port)).await?
        };
        stream.set_nodelay(true)?;
        match tls {
            Some(tls) if self.encrypted => Ok(Box::new(tls.connect(&self.host, stream).await?)),
            None if self.encrypted => Err(io::Error::other("https without TLS settings")),
            _ => Ok(Box::new(stream)),
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.encrypted { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_address_of_a_service_is_refused() {
        for wrong in ["", "encoder:50051", "ftp://a:1", "http://", "http://a:1/path", "http://a:1?q", "a b"] {
            assert!(Target::parse(wrong).is_err(), "{wrong:?} was accepted");
        }
        assert_eq!(Target::parse("https://encoder").unwrap().to_string(), "https://encoder:443");
        assert_eq!(Target::parse(" http://[::1]:9 ").unwrap().to_string(), "http://[::1]:9");
    }

    #[tokio::test]
    async fn a_name_stands_for_each_of_its_addresses_once() {
        let found = Target::parse("http://127.0.0.1:9").unwrap().resolve().await.unwrap();
        assert_eq!(found, ["127.0.0.1:9".parse().unwrap()]);
    }
}
