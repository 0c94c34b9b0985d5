//! API keys and callers: which clients may call, how often, how much, and on whose behalf.
//!
//! Settings hold only hashes of keys, so that a configuration reveals none. Without configured
//! keys, every client may call.

mod api_keys;
mod caller;
mod layer;
mod text_quota;

pub use api_keys::{API_KEY, ApiKeySettings, ApiKeys, AuthSettings};
pub use caller::{CALLER_TAG, Caller, CallerId};
pub use layer::require_api_key;
