//! The host names under which an HTTP listener answers.
//!
//! A page on the web can give its own name the address of a service on the reader's machine or
//! network, and then call it as its own origin (DNS rebinding). A name that the service does not
//! know is therefore rejected. An IP address cannot be rebound, so it is always allowed, as probes
//! use it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::IntoResponse as _;
use http::StatusCode;
use http::header::HOST;
use http::uri::Authority;

use crate::{ApiError, InvalidSetting};

/// The names of this machine itself.
const LOCAL: &str = "localhost";

/// The host names under which a listener answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowedHosts {
    /// Any name.
    Any,
    /// These names, in lower case, and IP addresses.
    Only(Arc<[String]>),
}

impl AllowedHosts {
    /// Checks the setting `key`. If it lists no names, a listener on a loopback address without API
    /// keys answers as `localhost` only, and any other listener under any name.
    pub fn new(
        key: &'static str,
        names: &[String],
        listen: SocketAddr,
        has_keys: bool,
    ) -> Result<Self, InvalidSetting> {
        if names.iter().any(|name| name == "*") {
            return Ok(Self::Any);
        }
        if names.is_empty() {
            let is_local = listen.ip().is_loopback() && !has_keys;
            return Ok(if is_local { Self::Only([LOCAL.to_owned()].into()) } else { Self::Any });
        }
        let lower = |name: &String| {
            // A pattern such as *.example would match no host.
            let is_name = !name.contains('*')
                && name.parse::<Authority>().is_ok_and(|authority| authority.as_str() == authority.host());
            is_name.then(|| name.to_ascii_lowercase()).ok_or_else(|| InvalidSetting {
                key,
                expected: "whole host names without ports, such as movies.example, or * for all".to_owned(),
                found: format!("{name:?}"),
            })
        };
        Ok(Self::Only(names.iter().map(lower).collect::<Result<_, _>>()?))
    }

    fn allows(&self, host: &str) -> bool {
        let Self::Only(names) = self else { return true };
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let name = host.trim_end_matches('.').to_ascii_lowercase();
        bare.parse::<IpAddr>().is_ok() || names.contains(&name)
    }
}

/// Rejects requests for other hosts than `allowed`.
pub(super) fn check_hosts(routes: Router, allowed: AllowedHosts) -> Router {
    if allowed == AllowedHosts::Any {
        return routes;
    }
    routes.layer(from_fn(move |request: Request, next: Next| {
        let rejected = host_of(&request).filter(|host| !allowed.allows(host)).map(|host| ApiError::Http {
            status: StatusCode::MISDIRECTED_REQUEST,
            reason: "HOST_NOT_ALLOWED",
            message: format!("host {host:?} is not among the allowed hosts of this service"),
        });
        async move {
            match rejected {
                Some(error) => error.into_response(),
                None => next.run(request).await,
            }
        }
    }))
}

/// Returns the host that a request is for, without its port. Clients without one are no browsers.
fn host_of<B>(request: &http::Request<B>) -> Option<String> {
    if let Some(host) = request.uri().host() {
        return Some(host.to_owned());
    }
    let text = request.headers().get(HOST)?.to_str().unwrap_or("(not ASCII)");
    Some(text.parse::<Authority>().map_or_else(|_| text.to_owned(), |authority| authority.host().to_owned()))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::routing::get;
    use tower::ServiceExt as _;

    use super::*;

    fn hosts(names: &[&str], listen: &str, has_keys: bool) -> AllowedHosts {
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        AllowedHosts::new("rest.allowed_hosts", &names, listen.parse().unwrap(), has_keys).unwrap()
    }

    async fn status(allowed: &AllowedHosts, host: &str) -> u16 {
        let routes = check_hosts(Router::new().route("/", get(|| async {})), allowed.clone());
        let request = Request::get("/").header(HOST, host).body(Body::empty()).unwrap();
        routes.oneshot(request).await.unwrap().status().as_u16()
    }

    #[tokio::test]
    async fn a_local_listener_without_keys_rejects_other_names() {
        let local = hosts(&[], "127.0.0.1:8081", false);
        for host in ["localhost", "localhost:8081", "LOCALHOST.", "127.0.0.1:1", "10.0.0.7", "[::1]:8081"] {
            assert_eq!(status(&local, host).await, 200, "{host}");
        }
        for host in
            ["evil.example", "evil.example:8081", "localhost.evil.example", "127.0.0.1.evil.example", "é"]
        {
            assert_eq!(status(&local, host).await, 421, "{host}");
        }
    }

    #[tokio::test]
    async fn allows_the_names_that_are_set() {
        let set = hosts(&["Movies.example"], "0.0.0.0:8081", true);
        assert_eq!(status(&set, "movies.example:443").await, 200);
        assert_eq!(status(&set, "localhost").await, 421);
        assert_eq!(status(&set, "10.1.2.3").await, 200);
    }

    #[tokio::test]
    async fn checks_the_authority_of_http_2() {
        let routes = check_hosts(Router::new().route("/", get(|| async {})), hosts(&[], "[::1]:1", false));
        let request = Request::get("http://evil.example/").body(Body::empty()).unwrap();
        assert_eq!(routes.oneshot(request).await.unwrap().status(), 421);
    }

    #[test]
    fn other_listeners_answer_under_any_name() {
        assert_eq!(hosts(&[], "0.0.0.0:8081", false), AllowedHosts::Any);
        assert_eq!(hosts(&[], "127.0.0.1:8081", true), AllowedHosts::Any);
        assert_eq!(hosts(&["a", "*"], "127.0.0.1:8081", false), AllowedHosts::Any);
        for name in ["a:80", "*.example", ""] {
            let names = [name.to_owned()];
            assert!(AllowedHosts::new("k", &names, "127.0.0.1:1".parse().unwrap(), false).is_err(), "{name}");
        }
    }
}
