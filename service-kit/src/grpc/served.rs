//! What a gRPC listener serves, and the answers to everything else.
//!
//! tonic answers an unknown method with an empty status and takes any content type for gRPC, so a
//! client that calls the wrong port learns nothing.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use tonic::body::Body;
use tower_http::validate_request::ValidateRequestHeaderLayer;

use super::metrics::methods_of;
use crate::ApiError;

/// The content type of gRPC. A suffix such as `+proto` may follow.
const GRPC: &[u8] = b"application/grpc";
/// How much of a path an error quotes.
const QUOTED: usize = 200;

/// The services that answer on every gRPC listener.
const COMMON: [&str; 3] = [
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
];

/// The services of a gRPC listener and their methods. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Served {
    /// The services of the listener's own.
    own: Vec<&'static str>,
    /// The paths of all methods, each with the name of its service.
    paths: Arc<HashMap<String, String>>,
}

impl Served {
    /// Returns the methods in encoded `descriptors` of the services `own`, of health and of
    /// reflection.
    pub(crate) fn new(own: Vec<&'static str>, descriptors: &[u8]) -> Self {
        let sets = [
            descriptors,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ];
        let services = |method: &str| method.split_once('/').map(|(service, _)| service.to_owned());
        let paths = sets.into_iter().flat_map(methods_of).filter_map(|method| {
            let service = services(&method)?;
            let is_served = own.iter().chain(&COMMON).any(|served| *served == service);
            is_served.then(|| (format!("/{method}"), service))
        });
        Self { paths: Arc::new(paths.collect()), own }
    }

    /// Returns the services of the listener's own.
    pub(crate) fn own(&self) -> &[&'static str] {
        &self.own
    }

    /// Returns the names of the services that reflection lists.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.own.clone().into_iter().chain(COMMON)
    }

    /// Returns `package.Service/Method` of the methods that are measured by name: all except those
    /// of reflection.
    pub(crate) fn measured(&self) -> impl Iterator<Item = &str> {
        let is_measured = |service: &String| !service.starts_with("grpc.reflection.");
        let measured = self.paths.iter().filter(move |(_, service)| is_measured(service));
        measured.map(|(path, _)| path.trim_start_matches('/'))
    }

    /// Returns an error if no method has this path.
    pub(crate) fn check(&self, path: &str) -> Option<ApiError> {
        (!self.paths.contains_key(path)).then(|| self.not_served(path))
    }

    fn not_served(&self, path: &str) -> ApiError {
        let quoted: String = path.chars().take(QUOTED).collect();
        let service = path.trim_start_matches('/').split('/').next().unwrap_or_default();
        let methods: BTreeMap<_, _> = self.paths.iter().filter(|(_, of)| *of == service).collect();
        let served = if methods.is_empty() {
            format!("{} and the health and reflection services", self.own.join(", "))
        } else {
            let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
            let names: Vec<_> = methods.keys().map(|path| name(path)).collect();
            format!("the methods {} of {service}", names.join(", "))
        };
        let message = format!("{quoted} is not served here; this port serves {served}");
        ApiError::NotServed { message, services: self.own.join(",") }
    }
}

/// A layer that answers the requests for which `early` has an answer, and lets others pass.
pub(crate) fn answer_early<R, B>(
    early: impl Fn(&Request<R>) -> Option<Response<B>> + Clone,
) -> ValidateRequestHeaderLayer<impl FnMut(&mut Request<R>) -> Result<(), Response<B>> + Clone> {
    ValidateRequestHeaderLayer::custom(move |request: &mut Request<R>| early(request).map_or(Ok(()), Err))
}

/// Whether a request is a gRPC call. gRPC-Web is not: its frames differ.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.as_bytes().strip_prefix(GRPC));
    kind.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';' | b' ')))
}

/// Returns what a gRPC port tells clients of other protocols.
pub(crate) fn speaks_grpc(http_port: Option<u16>) -> String {
    let http = http_port.map(|port| format!("; HTTP is served on port {port}"));
    format!("this port speaks gRPC{}\n", http.unwrap_or_default())
}

/// Answers 415 to a request of HTTP/2 that is not gRPC, as gRPC's protocol asks for
/// (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md#requests>).
pub(crate) fn not_grpc(headers: &HeaderMap, http_port: Option<u16>) -> Response<Body> {
    let found = headers.get(CONTENT_TYPE).map_or("none".into(), |kind| {
        let quoted: String = String::from_utf8_lossy(kind.as_bytes()).chars().take(QUOTED).collect();
        quoted
    });
    let text = format!("expected content-type application/grpc, found {found}; {}", speaks_grpc(http_port));
    tracing::debug!(found, "a request at the gRPC listener is not gRPC");
    let mut response = Response::new(Body::new(axum::body::Body::from(text)));
    *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

/// Returns the error of a gRPC call at an HTTP listener.
pub(crate) fn speaks_http(grpc_port: Option<u16>) -> ApiError {
    let grpc = grpc_port.map(|port| format!("; gRPC is on port {port}")).unwrap_or_default();
    let message = format!("this port speaks HTTP/JSON, not gRPC{grpc}");
    tracing::debug!("a gRPC call at the HTTP listener");
    ApiError::NotServed { message, services: String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_grpc_type(kind: &str) -> bool {
        is_grpc(&HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_str(kind).unwrap())]))
    }

    #[test]
    fn tells_grpc_from_grpc_web_and_json() {
        for grpc in ["application/grpc", "application/grpc+proto", "application/grpc; charset=utf-8"] {
            assert!(is_grpc_type(grpc), "{grpc}");
        }
        for other in
            ["application/grpc-web", "application/grpc-web-text", "application/json", "", "text/html"]
        {
            assert!(!is_grpc_type(other), "{other}");
        }
        assert!(!is_grpc(&HeaderMap::new()));
    }

    #[test]
    fn the_error_of_an_unknown_service_or_method_lists_those_served() {
        let served = Served::new(vec!["a.B"], &[]);
        let message = |path: &str| served.check(path).unwrap().to_string();
        let unknown = message("/c.D/E");
        let expected =
            "/c.D/E is not served here; this port serves a.B and the health and reflection services";
        assert_eq!(unknown, expected);
        let mistyped = message("/grpc.health.v1.Health/Chek");
        let expected = "; this port serves the methods Check, Watch of grpc.health.v1.Health";
        assert!(mistyped.ends_with(expected), "{mistyped}");
        assert_eq!(served.check("/grpc.health.v1.Health/Check"), None);
        assert!(message(&"/x".repeat(10_000)).len() < 400);
    }
}
