//! API keys: which clients may call, and how often.
//!
//! Settings hold only hashes of keys, so that a configuration reveals none. Without configured
//! keys, every client may call.

mod api_keys;
mod layer;

pub use api_keys::{ApiKeySettings, ApiKeys, AuthSettings};
pub use layer::require_api_key;
