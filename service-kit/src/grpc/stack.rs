//! The stack of layers that every gRPC call passes, on either listener.

use std::convert::Infallible;
use std::error::Error;

use axum::body::Bytes;
use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tonic::service::Routes;
use tower::util::{MapRequestLayer, MapResponseLayer};
use tower::{Service, ServiceBuilder};
use tower_http::catch_panic::CatchPanicLayer;

use super::deadline::DeadlineLayer;
use super::decode_error::map_malformed;
use super::health::is_health;
use super::metrics::RpcMetricsLayer;
use super::served::{Served, answer_early};
use crate::{ApiError, ApiKeys, MessageBudget, Metrics, TraceLayer, require_api_key};

/// The handlers of a server, and what their layers need. Clones share both.
#[derive(Clone)]
pub(super) struct Stack {
    pub(super) served: Served,
    routes: Routes,
    keys: Option<ApiKeys>,
    open: Vec<&'static str>,
    metrics: RpcMetricsLayer,
    budget: MessageBudget,
}

impl Stack {
    /// Returns the stack around `routes`, and registers its metrics. The paths in `open` need no
    /// API key, like those of health.
    pub(super) fn new(
        routes: Routes,
        served: Served,
        keys: Option<ApiKeys>,
        open: Vec<&'static str>,
        metrics: &Metrics,
        budget: MessageBudget,
    ) -> Self {
        let metrics = RpcMetricsLayer::new(metrics, served.measured());
        Self { served, routes, keys, open, metrics, budget }
    }

    /// Returns the whole service, for requests with bodies of one kind.
    pub(super) fn service<B>(
        &self,
    ) -> impl Service<Request<B>, Response = Response<Body>, Error = Infallible, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static
    + use<B>
    where
        B: http_body::Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Unpin + Send + 'static,
    {
        let Self { served, routes, keys, open, metrics, budget } = self.clone();
        let is_open = move |path: &str| is_health(path) || open.contains(&path);
        let paths: Vec<_> = served.measured().map(|method| format!("/{method}")).collect();
        ServiceBuilder::new()
            // Outermost layer first: a request passes the layers downwards, its response upwards.
            //
            // Puts the call into the caller's trace.
            .layer(TraceLayer::of_methods(keys.clone(), paths))
            // Measures every call, including those that a layer below rejects or the client
            // cancels.
            .layer(metrics)
            // Answers DEADLINE_EXCEEDED when the caller's deadline passes before a reply begins. Items of a
            // stream have the deadline, too, but the stream itself goes on.
            .layer(DeadlineLayer)
            // Rejects calls without a valid API key.
            .layer(require_api_key(keys, is_open, |error| Status::from(error).into_http()))
            // Answers UNIMPLEMENTED, and what is served, to calls of anything else.
            .layer(answer_early(move |request: &Request<_>| {
                served.check(request.uri().path()).map(|error| Status::from(error).into_http())
            }))
            // Replaces tonic's codes for rejected messages with those of our contract.
            .layer(MapResponseLayer::new(|response: Response<_>| map_malformed(response.map(Body::new))))
            // Bounds the bytes of unfinished messages over all calls.
            .layer(MapRequestLayer::new(move |request: Request<B>| {
                budget.grpc_messages(request).map(Body::new)
            }))
            // Answers INTERNAL when the handler panics; the panic hook logs the cause. If a stream
            // panics after its response has begun, the stream ends instead.
            .layer(CatchPanicLayer::custom(|_| Status::from(ApiError::defect()).into_http::<Body>()))
            .service(routes)
    }
}
