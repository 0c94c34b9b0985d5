//! W3C trace context in the headers of received and sent calls.
//!
//! The trace layer of tower-http does not fit: it enters the call's span each time a stream is
//! polled, which would put all items of the stream into one trace.

use std::collections::HashSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use axum::extract::MatchedPath;
use http::HeaderMap;
use opentelemetry::Context as TraceContext;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator as _};
use opentelemetry::trace::TraceContextExt as _;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tower::{Layer, Service};
use tracing::{Instrument as _, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::ApiKeys;

/// The header of W3C trace context.
const TRACEPARENT: &str = "traceparent";

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

/// The name of calls to paths that are not served. Clients can invent paths.
const OTHER: &str = "other";

/// A layer that creates a span for each call: in the client's trace if the headers name one,
/// otherwise as the root of a new trace. It creates no span if traces are not exported and the
/// client sent no trace.
///
/// With API keys, only a client with a key can put its calls into a trace, because a trace that
/// the client samples is exported whole.
#[derive(Debug, Clone, Default)]
pub struct TraceLayer {
    keys: Option<ApiKeys>,
    /// The paths of gRPC methods; routes of HTTP name themselves.
    methods: Arc<HashSet<String>>,
}

impl TraceLayer {
    /// Returns the layer of HTTP routes.
    #[must_use]
    pub fn new(keys: Option<ApiKeys>) -> Self {
        Self { keys, methods: Arc::default() }
    }

    /// Returns the layer of gRPC methods with these paths.
    pub(crate) fn of_methods(keys: Option<ApiKeys>, paths: impl IntoIterator<Item = String>) -> Self {
        Self { keys, methods: Arc::new(paths.into_iter().collect()) }
    }

    fn name<'a, B>(&self, request: &'a http::Request<B>) -> &'a str {
        let path = request.uri().path();
        match request.extensions().get::<MatchedPath>() {
            Some(route) => route.as_str(),
            None if self.methods.contains(path) => path.trim_start_matches('/'),
            None => OTHER,
        }
    }

    /// Whether the caller's trace context counts.
    fn trusts(&self, headers: &HeaderMap) -> bool {
        headers.contains_key(TRACEPARENT) && self.keys.as_ref().is_none_or(|keys| keys.know(headers))
    }

    fn span_of<B>(&self, request: &http::Request<B>) -> Option<Span> {
        let path = request.uri().path();
        let on = ON.load(Ordering::Relaxed);
        if !is_traced(path) || !(on || request.headers().contains_key(TRACEPARENT)) {
            return None;
        }
        let trusted = self.trusts(request.headers());
        if !on && !trusted {
            return None;
        }
        let context = if trusted {
            TraceContextPropagator::new().extract(&Headers(request.headers()))
        } else {
            TraceContext::new()
        };
        let name = self.name(request);
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
}
impl<S> Layer<S> for TraceLayer {
    type Service = TraceService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        TraceService { inner, layer: self.clone() }
    }
}

/// The service of [`TraceLayer`].
#[derive(Debug, Clone)]
pub struct TraceService<S> {
    inner: S,
    layer: TraceLayer,
}

/// Health checks, reflection and probes are not traced.
fn is_traced(path: &str) -> bool {
    !path.starts_with("/grpc.") && !matches!(path, "/livez" | "/readyz" | "/metrics")
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
        match self.layer.span_of(&request) {
            Some(span) => {
                let response = span.in_scope(|| self.inner.call(request));
                Box::pin(response.instrument(span))
            }
            None => Box::pin(self.inner.call(request)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ApiKeySettings, AuthSettings};

    fn keys() -> Option<ApiKeys> {
        use sha2::{Digest as _, Sha256};
        let key = ApiKeySettings {
            name: "ci".to_owned(),
            sha256: hex::encode(Sha256::digest("one")),
            ..ApiKeySettings::default()
        };
        ApiKeys::new(&AuthSettings { keys: vec![key] }).unwrap()
    }

    fn headers(key: Option<&'static str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        headers.insert(TRACEPARENT, http::HeaderValue::from_static(trace));
        if let Some(key) = key {
            headers.insert("x-api-key", http::HeaderValue::from_static(key));
        }
        headers
    }

    #[test]
    fn with_keys_only_a_client_with_a_key_joins_its_own_trace() {
        let guarded = TraceLayer::new(keys());
        assert!(guarded.trusts(&headers(Some("one"))));
        assert!(!guarded.trusts(&headers(Some("two"))));
        assert!(!guarded.trusts(&headers(None)));
        assert!(TraceLayer::new(None).trusts(&headers(None)));
        assert!(!guarded.trusts(&HeaderMap::new()));
    }

    #[test]
    fn unknown_paths_share_one_name() {
        let layer = TraceLayer::of_methods(None, ["/a.B/C".to_owned()]);
        let name = |path: &str| layer.name(&http::Request::get(path).body(()).unwrap()).to_owned();
        assert_eq!(name("/a.B/C"), "a.B/C");
        assert_eq!((name("/x/1"), name("/x/2")), (OTHER.to_owned(), OTHER.to_owned()));
    }
}
