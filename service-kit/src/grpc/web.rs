//! gRPC-Web: the calls of browsers, over HTTP/1 or HTTP/2, through the stack of every other call.
//!
//! tonic-web translates the frames. It knows neither deadlines nor stalled bodies, which HTTP/1 has
//! no ping for.

use std::time::Duration;

use axum::Router;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use tonic::body::Body;
use tonic_web::GrpcWebLayer;
use tower::ServiceBuilder;
use tower::util::MapRequestLayer;
use tower_http::timeout::RequestBodyTimeoutLayer;

use super::deadline::{GRPC_TIMEOUT, parse_timeout};
use super::served::answer_early;
use crate::{API_KEY, ApiError, GrpcServer};

/// The beginning of every content type of gRPC-Web.
const GRPC_WEB: &[u8] = b"application/grpc-web";

/// The headers that clients of gRPC-Web send, for CORS.
pub const GRPC_WEB_REQUEST_HEADERS: [HeaderName; 6] = [
    CONTENT_TYPE,
    AUTHORIZATION,
    API_KEY,
    HeaderName::from_static("x-grpc-web"),
    HeaderName::from_static("x-user-agent"),
    GRPC_TIMEOUT,
];
/// The headers of a call that failed at once, which scripts must be able to read.
pub const GRPC_WEB_RESPONSE_HEADERS: [HeaderName; 4] = [
    HeaderName::from_static("grpc-status"),
    HeaderName::from_static("grpc-message"),
    HeaderName::from_static("grpc-status-details-bin"),
    HeaderName::from_static(crate::PUSHBACK),
];

/// Whether a request is a call of gRPC-Web.
#[must_use]
pub fn is_grpc_web(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(GRPC_WEB))
}

impl GrpcServer {
    /// Returns routes of an HTTP listener that serve the services added so far over gRPC-Web, with
    /// the keys, limits and metrics of this server. No reply begins later than `timeout`, and no item
    /// of a stream is worked on after it.
    pub fn web_routes(&mut self, timeout: Duration) -> Router {
        let stack = self.stack();
        let service = ServiceBuilder::new()
            .layer(answer_early(|request: &Request<axum::body::Body>| {
                (!is_grpc_web(request.headers())).then(|| expected_grpc_web(request.headers()).to_http())
            }))
            .layer(MapRequestLayer::new(move |request| with_deadline(request, timeout)))
            // Ends a stream whose client sends nothing more, which HTTP/1 does not notice.
            .layer(RequestBodyTimeoutLayer::new(timeout))
            .map_response(|response: http::Response<Body>| response.map(axum::body::Body::new))
            .layer(GrpcWebLayer::new())
            .service(stack.service::<Body>());
        stack.served.own().iter().fold(Router::new(), |routes, name| {
            routes.route_service(&format!("/{name}/{{method}}"), service.clone())
        })
    }
}

/// Shortens the deadline of a call to `timeout`.
fn with_deadline<B>(mut request: Request<B>, timeout: Duration) -> Request<B> {
    let asked = request.headers().get(GRPC_TIMEOUT).and_then(|value| parse_timeout(value.to_str().ok()?));
    if asked.is_none_or(|asked| asked > timeout) {
        // A header has at most eight digits.
        let millis = timeout.as_millis().clamp(1, 99_999_999);
        let value = HeaderValue::try_from(format!("{millis}m")).expect("digits and a letter");
        request.headers_mut().insert(GRPC_TIMEOUT, value);
    }
    request
}

fn expected_grpc_web(headers: &HeaderMap) -> ApiError {
    let found =
        headers.get(CONTENT_TYPE).map_or("none".into(), |kind| String::from_utf8_lossy(kind.as_bytes()));
    ApiError::Http {
        status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
        reason: "UNSUPPORTED_MEDIA_TYPE",
        message: format!("expected content-type application/grpc-web, found {found}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_has_the_earlier_of_two_deadlines() {
        let deadline = |asked: Option<&'static str>| {
            let mut request = Request::new(());
            if let Some(asked) = asked {
                request.headers_mut().insert(GRPC_TIMEOUT, HeaderValue::from_static(asked));
            }
            let request = with_deadline(request, Duration::from_secs(30));
            request.headers()[GRPC_TIMEOUT].to_str().unwrap().to_owned()
        };
        assert_eq!(deadline(None), "30000m");
        assert_eq!(deadline(Some("5S")), "5S");
        assert_eq!(deadline(Some("2H")), "30000m");
        assert_eq!(deadline(Some("nonsense")), "30000m");
    }
}
