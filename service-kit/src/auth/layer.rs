//! The layer that checks API keys before handlers and says whose call it is, for gRPC and HTTP.

use http::{Request, Response};
use tower_http::validate_request::ValidateRequestHeaderLayer;

use super::api_keys::ApiKeys;
use super::caller::Caller;
use crate::ApiError;

/// Returns a layer that rejects requests without one of `keys`, and puts the [`Caller`] into the
/// extensions of the others. Without `keys`, it rejects nothing, and the connection is the caller.
///
/// Paths for which `is_open` returns true need no key. `rejection` builds the response to a
/// rejected request.
pub fn require_api_key<R, B>(
    keys: Option<ApiKeys>,
    is_open: impl Fn(&str) -> bool + Clone,
    rejection: fn(ApiError) -> Response<B>,
) -> ValidateRequestHeaderLayer<impl FnMut(&mut Request<R>) -> Result<(), Response<B>> + Clone> {
    ValidateRequestHeaderLayer::custom(move |request: &mut Request<R>| {
        let caller = match &keys {
            Some(keys) if !is_open(request.uri().path()) => {
                keys.check(request.headers()).map_err(rejection)?
            }
            // A client that can open connections at will may as well name its callers.
            _ => Caller::in_extensions(request.extensions()).on_behalf(request.headers()),
        };
        request.extensions_mut().insert(caller);
        Ok(())
    })
}
