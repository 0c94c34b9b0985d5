//! The gRPC server around the handlers, and everything that a call passes on its way to them.

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use futures_util::Stream;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::{Routes, RoutesBuilder};
use tonic::transport::Server;
use tonic::transport::server::Connected;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tower::util::{MapRequestLayer, MapResponseLayer};
use tower_http::catch_panic::CatchPanicLayer;

use crate::catch_panic;
use crate::grpc::decode_error::map_malformed;
use crate::grpc::metrics::RpcMetricsLayer;
use crate::{
    ApiError, ApiKeys, AuthLayer, BodyBudget, DeadlineLayer, Incoming, Listeners, Metrics, Readiness,
    ServerTls, Shutdown, TraceLayer, serve_http,
};

/// A connection whose peer is silent for this long is asked whether it lives.
pub(crate) const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// And is closed when it has not answered after this.
pub(crate) const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a server could not be made or stopped early.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The descriptor set is not one.
    #[error("reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The listener or a connection failed for good.
    #[error("gRPC server: {0}")]
    Transport(#[from] tonic::transport::Error),
}

/// Handlers with health and reflection beside them.
pub struct GrpcServer {
    routes: RoutesBuilder,
    health: Health,
    keys: Option<ApiKeys>,
    drain: Drain,
    metrics: Metrics,
    descriptors: &'static [u8],
    budget: BodyBudget,
}

/// What happens between the wish to stop and the end.
#[derive(Debug, Clone, Copy, Default)]
pub struct Drain {
    /// Health says no, and calls are still taken: so long it takes until everybody who balances over this replica has
    /// heard of it.
    pub removal: Duration,
    /// Nothing new is taken any more; calls in flight get so long.
    pub finish: Duration,
}

/// What `grpc.health.v1` answers: one status for the whole server (the empty name) and for each of its services.
#[derive(Clone)]
pub struct Health {
    reporter: HealthReporter,
    names: Vec<&'static str>,
    readiness: Readiness,
}

impl Health {
    /// Reports everything here as serving or not.
    pub async fn set_serving(&self, serving: bool) {
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        self.readiness.set(serving);
        for name in &self.names {
            self.reporter.set_service_status(*name, status).await;
        }
    }

    /// The same for `/readyz`.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }
}

/// Orchestrators ask for health without a key.
fn is_health(path: &str) -> bool {
    path.starts_with("/grpc.health.v1.Health/")
}

impl GrpcServer {
    /// A server without handlers; `descriptors` is the encoded `FileDescriptorSet` that reflection answers from, and
    /// `drain` what happens once shutdown is asked for.
    pub fn new(descriptors: &'static [u8], drain: Drain, metrics: Metrics) -> Result<Self, ServeError> {
        let (reporter, health_service) = tonic_health::server::health_reporter();
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(descriptors)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        let mut routes = Routes::builder();
        routes.add_service(health_service);
        routes.add_service(reflection().build_v1()?);
        // Python's grpcio-reflection and older grpcurl still ask by this name.
        routes.add_service(reflection().build_v1alpha()?);
        let health = Health { reporter, names: vec![""], readiness: Readiness::default() };
        let budget = BodyBudget::for_messages_of(0);
        Ok(Self { routes, health, keys: None, drain, metrics, descriptors, budget })
    }

    /// Only calls with one of these keys are let in; `None` lets in everybody.
    #[must_use]
    pub fn with_keys(mut self, keys: Option<ApiKeys>) -> Self {
        self.keys = keys;
        self
    }

    /// Has room for unfinished messages of so many bytes, the largest that its handlers take.
    #[must_use]
    pub fn with_messages_of(mut self, max_bytes: usize) -> Self {
        self.budget = BodyBudget::for_messages_of(max_bytes);
        self
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
        self.health.names.push(S::NAME);
        self.routes.add_service(service);
        self
    }

    /// To report whether the services added so far are ready for calls. Nothing is until it says so.
    pub async fn health(&self) -> Health {
        self.health.set_serving(false).await;
        self.health.clone()
    }

    /// Serves the gRPC listener and, where there is an HTTP listener, `http` on it, both until shutdown; `tls` is for both.
    pub async fn serve(
        self,
        http: Router,
        listeners: Listeners,
        tls: Option<ServerTls>,
        shutdown: Shutdown,
    ) -> Result<(), ServeError> {
        let shutdown = self.after_removal(shutdown);
        // Once for both listeners: they share their certificates.
        if let Some(tls) = &tls {
            tls.watch(shutdown.clone());
        }
        let drain = self.drain.finish;
        let grpc = Incoming::new(listeners.grpc, tls.clone(), shutdown.clone());
        let http = async {
            if let Some(listener) = listeners.http {
                let incoming = Incoming::new(listener, tls, shutdown.clone());
                serve_http(http, incoming, drain, shutdown.clone()).await;
            }
        };
        let (grpc, ()) = tokio::join!(self.serve_until(grpc, shutdown.clone()), http);
        grpc
    }

    /// Cancelled when nothing new is to be taken any more: some time after `shutdown`, during which health says no.
    fn after_removal(&self, shutdown: Shutdown) -> Shutdown {
        let (health, removal, closing) = (self.health.clone(), self.drain.removal, Shutdown::new());
        let token = closing.clone();
        tokio::spawn(async move {
            shutdown.cancelled().await;
            health.set_serving(false).await;
            if !removal.is_zero() {
                tracing::info!(
                    seconds = removal.as_secs_f64(),
                    "not serving: calls are taken until balancers know"
                );
                tokio::time::sleep(removal).await;
            }
            token.cancel();
        });
        closing
    }

    /// Serves any kind of connection until shutdown, and as long after it as [`Drain`] says.
    pub async fn serve_incoming<I, C>(self, incoming: I, shutdown: Shutdown) -> Result<(), ServeError>
    where
        I: Stream<Item = std::io::Result<C>>,
        C: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    {
        let closing = self.after_removal(shutdown);
        self.serve_until(incoming, closing).await
    }

    /// Serves until `closing`; then nothing new is accepted, and calls in flight are finished.
    async fn serve_until<I, C>(self, incoming: I, closing: Shutdown) -> Result<(), ServeError>
    where
        I: Stream<Item = std::io::Result<C>>,
        C: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    {
        let budget = self.budget;
        let server = Server::builder()
            .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            // From the outside in: a call is part of a trace; it is measured, however it ends; the caller's deadline bounds
            // all that follows; who has no key goes no further; refusals that tonic itself makes get the codes of our
            // contract; all unfinished messages have one bound; a handler that panics answers; then the handler.
            .layer(TraceLayer)
            .layer(RpcMetricsLayer::new(
                &self.metrics,
                &[self.descriptors, tonic_health::pb::FILE_DESCRIPTOR_SET],
            ))
            .layer(DeadlineLayer)
            .layer(AuthLayer::new(self.keys, is_health, |error: ApiError| Status::from(error).into_http()))
            .layer(MapResponseLayer::new(map_malformed))
            .layer(MapResponseLayer::new(|response: http::Response<_>| response.map(Body::new)))
            .layer(MapRequestLayer::new(move |request: http::Request<Body>| {
                request.map(|body| Body::new(budget.messages(body)))
            }))
            .layer(CatchPanicLayer::custom(catch_panic::grpc_answer))
            .add_routes(self.routes.routes())
            .serve_with_incoming_shutdown(incoming, closing.cancelled());
        let drain = self.drain.finish;
        let drained = async {
            closing.cancelled().await;
            tokio::time::sleep(drain).await;
        };
        tokio::select! {
            result = server => Ok(result?),
            () = drained => {
                tracing::warn!(seconds = drain.as_secs_f64(), "calls were still in flight after the drain time");
                Ok(())
            }
        }
    }
}
