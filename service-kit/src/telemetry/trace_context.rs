//! W3C trace context in the headers of received and sent calls.
//!
//! The trace layer of tower-http does not fit: it enters the call's span each time a stream is
//! polled, which would put all items of the stream into one trace.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use axum::extract::MatchedPath;
use http::HeaderMap;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator as _};
use opentelemetry::trace::TraceContextExt as _;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tower::{Layer, Service};
use tracing::{Instrument as _, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// Whether spans are exported.
static ON: AtomicBool = AtomicBool::new(false);

pub(crate) fn switch_on() {
    ON.store(true, Ordering::Relaxed);
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

struct HeadersMut<'a>(&'a mut HeaderMap);

impl Injector for HeadersMut<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(name), Ok(value)) = (http::HeaderName::try_from(key), http::HeaderValue::try_from(value)) {
            self.0.insert(name, value);
        }
    }
}

/// Adds the current span to the headers of a call; does nothing if traces are off.
pub fn propagate_trace(headers: &mut HeaderMap) {
    if ON.load(Ordering::Relaxed) {
        TraceContextPropagator::new().inject_context(&Span::current().context(), &mut HeadersMut(headers));
    }
}

/// A layer that creates a span for each call: in the client's trace if the headers name one,
/// otherwise as the root of a new trace. It creates no span if traces are not exported and the
/// client sent no trace.
#[derive(Debug, Clone, Copy, Default)]
pub struct TraceLayer;

impl<S> Layer<S> for TraceLayer {
    type Service = TraceService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        TraceService { inner }
    }
}

/// The service of [`TraceLayer`].
#[derive(Debug, Clone)]
pub struct TraceService<S> {
    inner: S,
}

/// Health checks, reflection and probes are not traced.
fn is_traced(path: &str) -> bool {
    !path.starts_with("/grpc.") && !matches!(path, "/livez" | "/readyz" | "/metrics")
}

fn span_of<B>(request: &http::Request<B>) -> Option<Span> {
    let path = request.uri().path();
    let on = ON.load(Ordering::Relaxed);
    if !is_traced(path) || !(on || request.headers().contains_key("traceparent")) {
        return None;
    }
    let context = TraceContextPropagator::new().extract(&Headers(request.headers()));
    let matched = request.extensions().get::<MatchedPath>();
    let name = matched.map_or_else(|| path.trim_start_matches('/'), MatchedPath::as_str);
    let span = tracing::info_span!(
        "call",
        otel.name = name,
        otel.kind = "server",
        trace_id = tracing::field::Empty,
        code = tracing::field::Empty,
        method = name
    );
    let trace_id = if on {
        // Fails only if no subscriber records the span.
        let _ = span.set_parent(context);
        span.context().span().span_context().trace_id()
    } else {
        context.span().span_context().trace_id()
    };
    span.record("trace_id", tracing::field::display(trace_id));
    Some(span)
}

impl<S, B> Service<http::Request<B>> for TraceService<S>
where
    S: Service<http::Request<B>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        match span_of(&request) {
            Some(span) => {
                let response = span.in_scope(|| self.inner.call(request));
                Box::pin(response.instrument(span))
            }
            None => Box::pin(self.inner.call(request)),
        }
    }
}
