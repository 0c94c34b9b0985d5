//! Settings from defaults, file, environment and flags, and the checks that turn them into usable
//! values.
//!
//! No setting of a service is defined here: each service passes in its prefix and defaults.

pub(crate) mod error;
pub(crate) mod keys;
pub(crate) mod redaction;
pub(crate) mod secret;
pub(crate) mod setting_check;
pub(crate) mod settings;
pub(crate) mod sweep;
mod variables;
