//! A handler that panics costs its own call: `INTERNAL`, or 500 over HTTP, and everybody else is served.
//!
//! The panic itself is in the log, by the hook that every panic meets. What a stream's items do after its answer has
//! begun is not in here: there, a panic ends the stream.

use std::any::Any;

use axum::Router;
use tonic::Status;
use tonic::body::Body;
use tower_http::catch_panic::CatchPanicLayer;

use crate::ApiError;

/// What is said of it to the caller, to whom the cause is of no use.
fn internal() -> ApiError {
    ApiError::Internal { message: "the call met a defect of the service".to_owned() }
}

/// The answer over gRPC, for the layer that catches.
#[allow(clippy::needless_pass_by_value, reason = "as the layer wants it")]
pub(crate) fn grpc_answer(_: Box<dyn Any + Send>) -> http::Response<Body> {
    Status::from(internal()).into_http()
}

/// Routes whose panics are answered.
pub fn catch_panics(routes: Router) -> Router {
    routes.layer(CatchPanicLayer::custom(|_| internal().to_http()))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::Ready;
    use std::task::{Context, Poll};

    use axum::routing::get;
    use tonic::server::NamedService;
    use tower::{Service, ServiceExt as _};

    use super::*;
    use crate::{Drain, GrpcServer, Listeners, Metrics, Shutdown};

    const ANYWHERE: std::net::SocketAddr =
        std::net::SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

    /// A handler with a defect.
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
            panic!("a defect, as this test wants it")
        }
    }

    #[tokio::test]
    async fn one_call_fails_and_the_same_connection_goes_on() {
        let metrics = Metrics::default();
        let server = GrpcServer::new(proto::FILE_DESCRIPTOR_SET, Drain::default(), metrics.clone()).unwrap();
        let server = server.with_service(Defective);
        server.health().await.set_serving(true).await;
        let listeners = Listeners::bind(ANYWHERE, None).unwrap();
        let url = format!("http://{}", listeners.grpc.local_addr().unwrap());
        let shutdown = Shutdown::new();
        let serving = tokio::spawn(server.serve(Router::new(), listeners, None, shutdown.clone()));
        let mut channel = tonic::transport::Endpoint::new(url).unwrap().connect().await.unwrap();
        for _ in 0..3 {
            let request = http::Request::post("/test.Defective/Call")
                .header("content-type", "application/grpc")
                .body(Body::default())
                .unwrap();
            let answer = channel.ready().await.unwrap().call(request).await.unwrap();
            let status = Status::from_header_map(answer.headers()).unwrap();
            assert_eq!(status.code(), tonic::Code::Internal, "{status:?}");
        }
        let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
        health.check(tonic_health::pb::HealthCheckRequest::default()).await.unwrap();
        drop(health);
        shutdown.cancel();
        serving.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn over_http_it_is_a_problem_of_ours() {
        async fn defect() -> &'static str {
            panic!("a defect, as this test wants it")
        }
        let routes = catch_panics(Router::new().route("/", get(defect)));
        let answer =
            routes.oneshot(http::Request::get("/").body(axum::body::Body::empty()).unwrap()).await.unwrap();
        assert_eq!(answer.status(), 500);
        assert_eq!(answer.headers()["content-type"], crate::PROBLEM_CONTENT_TYPE);
    }
}
