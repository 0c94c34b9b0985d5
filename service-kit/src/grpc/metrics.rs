//! How long calls take and how they end, by method and code.
//!
//! A call ends with its trailers, so its answer is measured to the last message: a stream counts from its first byte to its
//! status. Only methods of the served descriptors are told apart, since paths are the caller's to invent.

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

/// What a method that is none of ours is called.
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

/// One method's figures; a histogram is there once a call ended so.
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

/// Measures every call that passes; see the [module](self).
#[derive(Clone)]
pub(crate) struct RpcMetricsLayer(Arc<Methods>);

impl RpcMetricsLayer {
    /// For the methods of encoded descriptor sets.
    pub(crate) fn new(metrics: &Metrics, descriptors: &[&[u8]]) -> Self {
        let durations: Family<_, _, fn() -> Histogram> = metrics.register(
            "rpc_seconds",
            "gRPC calls from their first byte to their status, by method and code",
            Family::new_with_constructor(latency_histogram),
        );
        let in_flight: Family<MethodLabel, Gauge> =
            metrics.register("rpc_in_flight_calls", "gRPC calls that have no status yet", Family::default());
        let method = |name: &str| {
            let label = MethodLabel { method: name.to_owned() };
            let in_flight = in_flight.get_or_create_owned(&label);
            Arc::new(Method { name: name.to_owned(), in_flight, by_code: Default::default() })
        };
        let names = descriptors.iter().flat_map(|encoded| methods_of(encoded));
        let by_path = names.map(|name| (format!("/{name}"), method(&name))).collect();
        Self(Arc::new(Methods { durations, by_path, other: method(OTHER) }))
    }
}

/// `package.Service/Method` of all methods in a descriptor set; none of what is no descriptor set.
fn methods_of(encoded: &[u8]) -> Vec<String> {
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

/// Names of the codes, by their numbers.
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

/// A call that has not ended; one that is dropped was cancelled by its caller.
struct Call {
    methods: Arc<Methods>,
    method: Arc<Method>,
    begin: Instant,
    code: Code,
    /// Lasts as long as the call does.
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

/// What [`RpcMetricsLayer`] makes.
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

/// An answer whose status is yet to come.
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
        RpcMetricsLayer::new(metrics, &[tonic_health::pb::FILE_DESCRIPTOR_SET])
    }

    async fn call(layer: &RpcMetricsLayer, path: &str, status: Status) {
        let answer = tower::service_fn(move |_: http::Request<()>| {
            let response = status.clone().into_http();
            async move { Ok::<_, Infallible>(response) }
        });
        let request = http::Request::builder().uri(path).body(()).unwrap();
        layer.layer(answer).call(request).await.unwrap();
    }

    #[tokio::test]
    async fn a_refusal_counts_under_its_method_and_code() {
        let metrics = Metrics::default();
        let layer = layer(&metrics);
        call(&layer, "/grpc.health.v1.Health/Check", Status::unavailable("full")).await;
        let text = metrics.render();
        let line = "rpc_seconds_count{method=\"grpc.health.v1.Health/Check\",code=\"UNAVAILABLE\"} 1";
        assert!(text.contains(line), "{text}");
    }

    #[tokio::test]
    async fn paths_that_callers_invent_are_one() {
        let metrics = Metrics::default();
        let layer = layer(&metrics);
        for path in ["/a/B", "/c/D"] {
            call(&layer, path, Status::unimplemented("")).await;
        }
        let text = metrics.render();
        assert!(text.contains("{method=\"other\",code=\"UNIMPLEMENTED\"} 2"), "{text}");
        assert!(!text.contains("a/B"));
    }

    /// An answer of which nothing has come yet.
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
    async fn an_answer_that_nobody_reads_to_its_end_was_cancelled() {
        let metrics = Metrics::default();
        let answer = tower::service_fn(|_: http::Request<()>| async {
            Ok::<_, Infallible>(http::Response::new(Body::new(Silent)))
        });
        let path = "/grpc.health.v1.Health/Watch";
        let request = http::Request::builder().uri(path).body(()).unwrap();
        let response = layer(&metrics).layer(answer).call(request).await.unwrap();
        let in_flight = format!("rpc_in_flight_calls{{method=\"{}\"}}", &path[1..]);
        assert!(metrics.render().contains(&format!("{in_flight} 1")), "{}", metrics.render());
        drop(response);
        let text = metrics.render();
        assert!(text.contains("code=\"CANCELLED\"} 1") && text.contains(&format!("{in_flight} 0")), "{text}");
    }
}
