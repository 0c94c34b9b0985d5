//! The gRPC server around the handlers: health and reflection beside them, connections, shutdown.

use std::convert::Infallible;

use futures_util::{Stream, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::{Routes, RoutesBuilder};
use tonic_reflection::server::Builder;
use tower::ServiceBuilder;

use super::served::{Served, answer_early, is_grpc, not_grpc, speaks_grpc};
use super::stack::Stack;
use crate::body::RequestBody;
use crate::http2::ConnectionRules;
use crate::memory::{ConnectionGuard, ConnectionLimit, MemoryMetrics};
use crate::net::server::{Listens, serve_connections};
use crate::{ApiKeys, Drain, Health, MemoryBudget, MessageBudget, Metrics, Readiness, Shutdown};

/// The most connections of a gRPC listener if nothing else is set.
pub const DEFAULT_MAX_CONNECTIONS: usize = 1024;

/// A failure to build a server.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The descriptor set for reflection is invalid.
    #[error("reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// A gRPC server with health and reflection beside its handlers.
pub struct GrpcServer {
    routes: RoutesBuilder,
    health: Health,
    /// Cancelled when no new calls are accepted any more.
    closing: Shutdown,
    keys: Option<ApiKeys>,
    drain: Drain,
    metrics: Metrics,
    descriptors: &'static [u8],
    memory: MemoryBudget,
    max_connections: usize,
    rules: ConnectionRules,
    own: Vec<&'static str>,
    open: Vec<&'static str>,
    stack: Option<Stack>,
    http_port: Option<u16>,
}

impl GrpcServer {
    /// Returns a server without handlers. Reflection answers from `descriptors`, an encoded
    /// `FileDescriptorSet`.
    ///
    /// # Errors
    /// Fails if `descriptors` is not a descriptor set.
    pub fn new(descriptors: &'static [u8], drain: Drain, metrics: Metrics) -> Result<Self, ServeError> {
        reflection(descriptors).build_v1()?;
        let closing = Shutdown::new();
        let (health, health_service) = Health::new(closing.clone());
        let mut routes = Routes::builder();
        routes.add_service(health_service);
        Ok(Self {
            routes,
            health,
            closing,
            keys: None,
            drain,
            metrics,
            descriptors,
            memory: MemoryBudget::for_messages_of(0),
            max_connections: DEFAULT_MAX_CONNECTIONS,
            rules: ConnectionRules::default(),
            own: Vec::new(),
            open: Vec::new(),
            stack: None,
            http_port: None,
        })
    }

    /// Requires one of `keys` for every call except health checks and
    /// [open methods](Self::with_open_methods). With `None`, no call needs a key.
    #[must_use]
    pub fn with_keys(mut self, keys: Option<ApiKeys>) -> Self {
        self.keys = keys;
        self
    }

    /// Sizes the memory budget of the process for handlers, of any listener, whose largest message
    /// has `max_bytes`.
    #[must_use]
    pub fn with_max_message_bytes(mut self, max_bytes: usize) -> Self {
        self.memory = MemoryBudget::for_messages_of(max_bytes);
        self
    }

    /// Limits the open connections.
    #[must_use]
    pub fn with_max_connections(mut self, max: usize) -> Self {
        self.max_connections = max;
        self
    }

    /// Sets the rules of each connection.
    #[must_use]
    pub fn with_rules(mut self, rules: ConnectionRules) -> Self {
        self.rules = rules;
        self
    }

    /// Names the port of the HTTP listener to clients that take this one for it.
    pub(crate) fn with_http_port(mut self, port: Option<u16>) -> Self {
        self.http_port = port;
        self
    }

    /// Returns the memory budget, which the HTTP listener shares.
    #[must_use]
    pub fn memory(&self) -> MemoryBudget {
        self.memory.clone()
    }

    pub(crate) fn connection_limit(&self) -> ConnectionLimit {
        ConnectionLimit::new(self.memory.clone(), self.max_connections)
    }

    /// Adds handlers.
    #[must_use]
    pub fn with_service<S>(mut self, service: S) -> Self
    where
        S: tower::Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        self.health.add_service(S::NAME);
        self.own.push(S::NAME);
        self.routes.add_service(service);
        self
    }

    /// Opens methods to callers without an API key, because orchestrators probe them. A path is such
    /// as `/package.Service/Method`.
    #[must_use]
    pub fn with_open_methods(mut self, paths: &[&'static str]) -> Self {
        self.open.extend(paths);
        self
    }

    /// Returns the flag that [`Health::set_serving`] sets.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        self.health.readiness()
    }

    /// Returns the health of the services added so far, which are not serving at first.
    pub async fn health(&self) -> Health {
        self.health.set_serving(false).await;
        self.health.clone()
    }

    pub(crate) fn drain(&self) -> Drain {
        self.drain
    }

    /// Serves connections over any transport until `shutdown`, then drains as [`Drain`] specifies.
    pub async fn serve_incoming<I, C>(self, incoming: I, shutdown: Shutdown)
    where
        I: Stream<Item = std::io::Result<C>>,
        C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let closing = self.closing_after(shutdown);
        let limit = self.connection_limit();
        let incoming = incoming.filter_map(|connection| {
            let counted = connection.ok().and_then(|connection| Some((connection, limit.open()?)));
            std::future::ready(counted)
        });
        self.serve_until(incoming, closing).await;
    }

    /// Returns a token that is cancelled [`Drain::removal`] after `shutdown`; in between, health
    /// reports `NOT_SERVING`.
    pub(crate) fn closing_after(&self, shutdown: Shutdown) -> Shutdown {
        let (health, removal, token) = (self.health.clone(), self.drain.removal, self.closing.clone());
        tokio::spawn(async move {
            shutdown.cancelled().await;
            health.set_serving(false).await;
            if !removal.is_zero() {
                let seconds = removal.as_secs_f64();
                tracing::info!(seconds, "not serving: accepting calls until load balancers have noticed");
                tokio::time::sleep(removal).await;
            }
            token.cancel();
        });
        self.closing.clone()
    }

    /// Returns the handlers with all their layers. No service can be added after that.
    pub(super) fn stack(&mut self) -> Stack {
        if let Some(stack) = &self.stack {
            return stack.clone();
        }
        self.metrics.register_collector(MemoryMetrics(self.memory.clone()));
        let served = Served::new(self.own.clone(), self.descriptors);
        let accepted = "`new` has built reflection from the same descriptors";
        let reflection = || served.names().fold(reflection(self.descriptors), Builder::with_service_name);
        let mut routes = std::mem::take(&mut self.routes);
        routes.add_service(reflection().build_v1().expect(accepted));
        // Python's grpcio-reflection and older versions of grpcurl ask for v1alpha.
        routes.add_service(reflection().build_v1alpha().expect(accepted));
        let budget = MessageBudget::new(self.memory.clone());
        let (keys, open) = (self.keys.take(), self.open.clone());
        let stack = Stack::new(routes.routes().prepare(), served, keys, open, &self.metrics, budget);
        self.stack.insert(stack).clone()
    }

    /// Serves until `closing`. Then accepts no new connections and lets calls in flight run for up
    /// to [`Drain::finish`].
    pub(crate) async fn serve_until<I, C>(mut self, incoming: I, closing: Shutdown)
    where
        I: Stream<Item = (C, ConnectionGuard)>,
        C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let http_port = self.http_port;
        let listens = Listens::Grpc { refusal: speaks_grpc(http_port).into(), rules: self.rules };
        let service = ServiceBuilder::new()
            // Answers 415 to requests that are not gRPC.
            .layer(answer_early(move |request: &http::Request<_>| {
                (!is_grpc(request.headers())).then(|| not_grpc(request.headers(), http_port))
            }))
            .service(self.stack().service::<RequestBody>());
        serve_connections(incoming, listens, service, self.drain.finish, closing).await;
    }
}

fn reflection(descriptors: &[u8]) -> Builder<'_> {
    Builder::configure()
        .register_encoded_file_descriptor_set(descriptors)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::Ready;
    use std::task::{Context, Poll};

    use prost::Message as _;
    use prost_types::{
        FileDescriptorProto, FileDescriptorSet, MethodDescriptorProto, ServiceDescriptorProto,
    };
    use tonic::Status;
    use tower::{Service, ServiceExt as _};

    use super::*;

    /// A handler that panics.
    #[derive(Clone)]
    struct Defective;

    impl NamedService for Defective {
        const NAME: &'static str = "test.Defective";
    }

    impl Service<http::Request<Body>> for Defective {
        type Response = http::Response<Body>;
        type Error = Infallible;
        type Future = Ready<Result<Self::Response, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: http::Request<Body>) -> Self::Future {
            panic!("on purpose")
        }
    }

    /// The encoded descriptor of [`Defective`].
    fn descriptors() -> &'static [u8] {
        let method = MethodDescriptorProto { name: Some("Call".to_owned()), ..Default::default() };
        let service = ServiceDescriptorProto {
            name: Some("Defective".to_owned()),
            method: vec![method],
            ..Default::default()
        };
        let file = FileDescriptorProto {
            name: Some("test.proto".to_owned()),
            package: Some("test".to_owned()),
            service: vec![service],
            ..Default::default()
        };
        FileDescriptorSet { file: vec![file] }.encode_to_vec().leak()
    }

    #[tokio::test]
    async fn a_panic_fails_one_call_but_not_the_connection() {
        let server = GrpcServer::new(descriptors(), Drain::default(), Metrics::default()).unwrap();
        let server = server.with_service(Defective);
        server.health().await.set_serving(true).await;
        let mut channel = server.in_memory(Shutdown::new());
        for _ in 0..3 {
            let request = http::Request::post("/test.Defective/Call")
                .header("content-type", "application/grpc")
                .body(Body::default())
                .unwrap();
            let response = channel.ready().await.unwrap().call(request).await.unwrap();
            let status = Status::from_header_map(response.headers()).unwrap();
            assert_eq!(status.code(), tonic::Code::Internal, "{status:?}");
        }
        let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
        health.check(tonic_health::pb::HealthCheckRequest::default()).await.unwrap();
    }
}
