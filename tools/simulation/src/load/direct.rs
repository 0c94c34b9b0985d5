//! An HTTP/2 client without a timer, so that a response at the deadline comes from the service.
//!
//! tonic's `Channel` always enforces the deadline itself.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use service_kit::Transport as _;
use tonic::body::Body;

use crate::network::SimulatedNetwork;

/// An HTTP/2 connection.
#[derive(Clone)]
pub(crate) struct Direct {
    sender: SendRequest<Body>,
    authority: String,
}

impl Direct {
    /// Connects to a port of a host.
    pub(crate) async fn connect(network: &SimulatedNetwork, host: &str, port: u16) -> io::Result<Self> {
        let addresses = network.resolve(host, port).await?;
        let address = *addresses.first().ok_or(io::ErrorKind::NotFound)?;
        let stream = TokioIo::new(network.connect(address).await?);
        let (sender, connection) = handshake(TokioExecutor::new(), stream).await.map_err(io::Error::other)?;
        tokio::spawn(connection);
        Ok(Self { sender, authority: format!("{host}:{port}") })
    }
}

impl tower::Service<http::Request<Body>> for Direct {
    type Response = http::Response<Incoming>;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.sender.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let path = request.uri().path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        match format!("http://{}{path}", self.authority).parse() {
            Ok(uri) => *request.uri_mut() = uri,
            Err(error) => return Box::pin(async move { Err(http::Error::from(error).into()) }),
        }
        let response = self.sender.send_request(request);
        Box::pin(async move { Ok(response.await?) })
    }
}
