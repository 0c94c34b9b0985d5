//! Durations and outcomes of calls, by method and code.
//!
//! A call ends with its trailers, so a stream is measured from its first byte to its status. Only
//! methods that are served get their own labels, because clients can invent paths. The
//! metrics and trace layers of tower-http do not fit: they see neither the status in the trailers
//! nor a call that its client cancels.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use http_body::{Body as HttpBody, Frame, SizeHint};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer, Service};
use tracing::Span;

use crate::{Metrics, latency_histogram};

/// The label of methods that are not served.
const OTHER: &str = "other";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    method: String,
    code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MethodLabel {
    method: String,
}

/// The metrics of one method. A code's histogram is created by the first call that ends with it.
struct Method {
    name: String,
    in_flight: Gauge,
    by_code: [OnceLock<Histogram>; CODES.len()],
}

struct Methods {
    durations: Family<Labels, Histogram, fn() -> Histogram>,
    by_path: HashMap<String, Arc<Method>>,
    other: Arc<Method>,
}

/// A layer that measures every call; see the [module](self).
#[derive(Clone)]
pub(crate) struct RpcMetricsLayer(Arc<Methods>);

impl RpcMetricsLayer {
    /// Returns a layer that knows methods such as `package.Service/Method`.
    pub(crate) fn new<'a>(metrics: &Metrics, methods: impl Iterator<Item = &'a str>) -> Self {
        let durations: Family<_, _, fn() -> Histogram> = metrics.register(
            "rpc_seconds",
            "gRPC calls from first byte to status, by method and code",
            Family::new_with_constructor(latency_histogram),
        );
        let in_flight: Family<MethodLabel, Gauge> =
            metrics.register("rpc_in_flight_calls", "gRPC calls without a status yet", Family::default());
        let method = |name: &str| {
            let label = MethodLabel { method: name.to_owned() };
            let in_flight = in_flight.get_or_create_owned(&label);
            Arc::new(Method { name: name.to_owned(), in_flight, by_code: Default::default() })
        };
        let by_path = methods.map(|name| (format!("/{name}"), method(name))).collect();
        Self(Arc::new(Methods { durations, by_path, other: method(OTHER) }))
    }
}

/// Returns `package.Service/Method` of all methods in a descriptor set, or nothing if it is not
/// one.
pub(super) fn methods_of(encoded: &[u8]) -> Vec<String> {
    let files = FileDescriptorSet::decode(encoded).unwrap_or_default().file;
    let mut names = Vec::new();
    for file in &files {
        for service in &file.service {
            for method in &service.method {
                names.push(format!("{}.{}/{}", file.package(), service.name(), method.name()));
            }
        }
    }
    names
}

/// The names of the gRPC codes, by number.
const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// A call in flight. Dropping it without a status counts it as cancelled by its client.
struct Call {
    methods: Arc<Methods>,
    method: Arc<Method>,
    begin: Instant,
    code: Code,
    /// Kept so that the span lasts as long as the call.
    span: Span,
}

impl Call {
    fn end(mut self, code: Code) {
        self.code = code;
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.method.in_flight.dec();
        let index = usize::try_from(i32::from(self.code)).unwrap_or_default().min(CODES.len() - 1);
        let histogram = self.method.by_code[index].get_or_init(|| {
            let labels = Labels { method: self.method.name.clone(), code: CODES[index] };
            self.methods.durations.get_or_create_owned(&labels)
        });
        let took = self.begin.elapsed();
        histogram.observe(took.as_secs_f64());
        self.span.record("code", CODES[index]);
        self.span.in_scope(|| {
            let milliseconds = took.as_secs_f64() * 1e3;
            tracing::debug!(method = self.method.name, code = CODES[index], milliseconds, "call ended");
        });
    }
}

impl<S> Layer<S> for RpcMetricsLayer {
    type Service = RpcMetricsService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RpcMetricsService { inner, methods: self.0.clone() }
    }
}

/// The service of [`RpcMetricsLayer`].
#[derive(Clone)]
pub(crate) struct RpcMetricsService<S> {
    inner: S,
    methods: Arc<Methods>,
}

impl<S, B> Service<http::Request<B>> for RpcMetricsService<S>
where
    S: Service<http::Request<B>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let methods = self.methods.clone();
        let method = methods.by_path.get(request.uri().path()).unwrap_or(&methods.other).clone();
        method.in_flight.inc();
        let call =
            Call { methods, method, begin: Instant::now(), code: Code::Cancelled, span: Span::current() };
        let response = self.inner.call(request);
        Box::pin(async move {
            let response = response.await?;
            if let Some(status) = Status::from_header_map(response.headers()) {
                call.end(status.code());
                return Ok(response);
            }
            Ok(response.map(|body| Body::new(Measured { body, call })))
        })
    }
}

/// A response body whose status has not been sent yet.
struct Measured {
    body: Body,
    call: Call,
}

impl HttpBody for Measured {
    type Data = <Body as HttpBody>::Data;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(status) = frame.trailers_ref().and_then(Status::from_header_map) {
                    self.call.code = status.code();
                }
            }
            Some(Err(status)) => self.call.code = status.code(),
            None => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(metrics: &Metrics) -> RpcMetricsLayer {
        let methods = methods_of(tonic_health::pb::FILE_DESCRIPTOR_SET);
        RpcMetricsLayer::new(metrics, methods.iter().map(String::as_str))
    }

    async fn call(layer: &RpcMetricsLayer, path: &str, status: Status) {
        let handler = tower::service_fn(move |_: http::Request<()>| {
            let response = status.clone().into_http();
            async move { Ok::<_, Infallible>(response) }
        });
        let request = http::Request::builder().uri(path).body(()).unwrap();
        layer.layer(handler).call(request).await.unwrap();
    }

    #[tokio::test]
    async fn counts_a_rejection_under_its_method_and_code() {
        let metrics = Metrics::default();
        let layer = layer(&metrics);
        call(&layer, "/grpc.health.v1.Health/Check", Status::unavailable("full")).await;
        let text = metrics.render();
        let line = "rpc_seconds_count{method=\"grpc.health.v1.Health/Check\",code=\"UNAVAILABLE\"} 1";
        assert!(text.contains(line), "{text}");
    }

    #[tokio::test]
    async fn counts_unknown_paths_under_one_label() {
        let metrics = Metrics::default();
        let layer = layer(&metrics);
        for path in ["/a/B", "/c/D"] {
            call(&layer, path, Status::unimplemented("")).await;
        }
        let text = metrics.render();
        assert!(text.contains("{method=\"other\",code=\"UNIMPLEMENTED\"} 2"), "{text}");
        assert!(!text.contains("a/B"));
    }

    /// A body that never yields a frame.
    struct Silent;

    impl HttpBody for Silent {
        type Data = <Body as HttpBody>::Data;
        type Error = Status;

        fn poll_frame(
            self: Pin<&mut Self>,
            _context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Self::Data>, Status>>> {
            Poll::Pending
        }
    }

    #[tokio::test]
    async fn counts_a_dropped_response_as_cancelled() {
        let metrics = Metrics::default();
        let handler = tower::service_fn(|_: http::Request<()>| async {
            Ok::<_, Infallible>(http::Response::new(Body::new(Silent)))
        });
        let path = "/grpc.health.v1.Health/Watch";
        let request = http::Request::builder().uri(path).body(()).unwrap();
        let response = layer(&metrics).layer(handler).call(request).await.unwrap();
        let in_flight = format!("rpc_in_flight_calls{{method=\"{}\"}}", &path[1..]);
        assert!(metrics.render().contains(&format!("{in_flight} 1")), "{}", metrics.render());
        drop(response);
        let text = metrics.render();
        assert!(text.contains("code=\"CANCELLED\"} 1") && text.contains(&format!("{in_flight} 0")), "{text}");
    }
}
