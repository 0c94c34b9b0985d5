//! Client connections: TCP for `http://`, TLS for `https://`. Each new connection uses the current
//! certificates.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::net::transport::{Io, Tcp, Transport};
use crate::tls::bare_host;
use crate::{ClientTls, redact_urls};

/// The timeout for opening a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// The reply bytes of a stream that wait for their reader.
const STREAM_WINDOW: u32 = 1 << 20;
/// The reply bytes of a connection. h2 closes a connection that holds more small DATA frames than
/// half of this in 256-byte slots, so the window is as large as that of 20 streams full of empty
/// messages. Streams have their own windows, and servers are trusted not to fill them in vain.
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;
/// The time between HTTP/2 pings, with or without calls in flight.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// The timeout for the reply to a ping, after which the connection is closed.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(3);

/// The address of a service.
#[derive(Debug, Clone)]
pub struct Target {
    uri: Uri,
    host: String,
    port: u16,
    encrypted: bool,
    transport: Arc<dyn Transport>,
}

/// A string that is not the address of a service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected a URL such as http://127.0.0.1:50051 or https://encoder:50051, without user name, found {0:?}"
)]
pub struct InvalidTarget(String);

impl Target {
    /// Parses `http://HOST:PORT` or `https://HOST:PORT`.
    pub fn parse(url: &str) -> Result<Self, InvalidTarget> {
        let wrong = || InvalidTarget(redact_urls(url));
        let uri: Uri = url.trim().parse().map_err(|_| wrong())?;
        let encrypted = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(wrong()),
        };
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(wrong)?.to_owned();
        // `port_u16` is `None` also for a port that is no number of 16 bits.
        let has_port = uri.authority().is_some_and(|authority| authority.as_str().len() > host.len());
        let port = match uri.port_u16() {
            Some(port) => port,
            None if has_port => return Err(wrong()),
            None if encrypted => 443,
            None => 80,
        };
        let has_user = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
        if has_user || !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(wrong());
        }
        Ok(Self { uri, host, port, encrypted, transport: Arc::new(Tcp) })
    }

    /// Returns the same address, reached over `transport` instead of TCP.
    #[must_use]
    pub fn over(self, transport: Arc<dyn Transport>) -> Self {
        Self { transport, ..self }
    }

    /// Returns the host name or IP address.
    #[must_use]
    pub fn host(&self) -> &str {
        bare_host(&self.host)
    }

    /// Returns the port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns whether this is an `https://` address.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.encrypted
    }

    /// Returns all current addresses of the host name, sorted, each once.
    pub async fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        let mut addresses = self.transport.resolve(bare_host(&self.host), self.port).await?;
        addresses.sort_unstable();
        addresses.dedup();
        Ok(addresses)
    }

    /// Returns a channel that connects on first use and reconnects after a failure. It connects to
    /// `address` if given, otherwise to a current address of the host name.
    #[must_use]
    pub fn channel(&self, address: Option<SocketAddr>, tls: Option<ClientTls>) -> Channel {
        let endpoint = Endpoint::from(self.uri.clone())
            .connect_timeout(CONNECT_TIMEOUT)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
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
        let stream = match address {
            Some(address) => self.transport.connect(address).await?,
            None => self.connect_any().await?,
        };
        match tls {
            Some(tls) if self.encrypted => Ok(Box::new(tls.connect(&self.host, stream).await?)),
            None if self.encrypted => {
                Err(io::Error::other("expected TLS settings for an https address, found none"))
            }
            _ => Ok(stream),
        }
    }

    /// Tries the addresses of the host name in the resolver's order and returns the first
    /// connection that opens.
    async fn connect_any(&self) -> io::Result<Box<dyn Io>> {
        let mut failure = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for address in self.transport.resolve(bare_host(&self.host), self.port).await? {
            match self.transport.connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => failure = error,
            }
        }
        Err(failure)
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
    use futures_util::future::BoxFuture;

    use super::*;

    #[test]
    fn rejects_invalid_addresses() {
        let ports = ["http://a:65536", "http://a:", "https://[::1]:x"];
        let others = ["", "encoder:50051", "ftp://a:1", "http://", "http://a:1/path", "http://a:1?q", "a b"];
        for wrong in ports.iter().chain(&others) {
            assert!(Target::parse(wrong).is_err(), "{wrong:?} was accepted");
        }
        let message = Target::parse("http://user:hunter2@encoder:1").unwrap_err().to_string();
        assert!(message.contains("encoder:1") && !message.contains("hunter2"), "{message}");
        assert_eq!(Target::parse("https://encoder").unwrap().to_string(), "https://encoder:443");
        assert_eq!(Target::parse(" http://[::1]:9 ").unwrap().to_string(), "http://[::1]:9");
    }

    /// Accepts connections and sends nothing.
    #[derive(Debug)]
    struct Silent(std::sync::Mutex<Vec<tokio::io::DuplexStream>>);

    impl Transport for Silent {
        fn resolve<'a>(&'a self, _: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
            Box::pin(async move { Ok(vec![SocketAddr::from(([192, 0, 2, 1], port))]) })
        }

        fn connect(&self, _: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Io>>> {
            let (near, far) = tokio::io::duplex(1 << 16);
            self.0.lock().unwrap().push(far);
            Box::pin(async move { Ok(Box::new(near) as Box<dyn Io>) })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn closes_a_connection_that_falls_silent() {
        let transport = std::sync::Arc::new(Silent(std::sync::Mutex::default()));
        let channel = Target::parse("http://silent:1").unwrap().over(transport.clone()).channel(None, None);
        let mut client = tonic_health::pb::health_client::HealthClient::new(channel);
        let begin = tokio::time::Instant::now();
        client.check(tonic_health::pb::HealthCheckRequest::default()).await.unwrap_err();
        assert!(begin.elapsed() <= KEEPALIVE_INTERVAL + KEEPALIVE_TIMEOUT * 2, "{:?}", begin.elapsed());
        assert_eq!(transport.0.lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn resolves_each_address_of_a_name_once() {
        let found = Target::parse("http://127.0.0.1:9").unwrap().resolve().await.unwrap();
        assert_eq!(found, ["127.0.0.1:9".parse().unwrap()]);
    }
}
