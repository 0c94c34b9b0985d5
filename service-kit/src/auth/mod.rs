//! API keys: who may call, and how often.
//!
//! Only hashes of keys are configured, so that a configuration may be read without giving anything away. Where no key
//! is configured, everybody may call.

mod api_keys;
mod layer;

pub use api_keys::{ApiKeySettings, ApiKeys, AuthSettings};
pub use layer::require_api_key;
