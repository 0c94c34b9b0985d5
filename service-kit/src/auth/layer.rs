//! The layer that checks API keys before handlers, for gRPC and HTTP.

use http::{Request, Response};
use tower_http::validate_request::ValidateRequestHeaderLayer;

use super::api_keys::ApiKeys;
use crate::ApiError;

/// Returns a layer that rejects requests without one of `keys`. Without `keys`, it rejects nothing.
///
/// Paths for which `is_open` returns true need no key. `rejection` builds the response to a
/// rejected request.
pub fn require_api_key<R, B>(
    keys: Option<ApiKeys>,
    is_open: fn(&str) -> bool,
    rejection: fn(ApiError) -> Response<B>,
) -> ValidateRequestHeaderLayer<impl FnMut(&mut Request<R>) -> Result<(), Response<B>> + Clone> {
    ValidateRequestHeaderLayer::custom(move |request: &mut Request<R>| match &keys {
        Some(keys) if !is_open(request.uri().path()) => {
            keys.check(request.headers()).map(|_| ()).map_err(rejection)
        }
        _ => Ok(()),
    })
}
