//! Settings from defaults, file, environment and flags, and the checks that turn them into usable
//! values.
//!
//! Knows no setting of any service; the prefix and the defaults are passed in.

pub(crate) mod secret;
pub(crate) mod setting_check;
pub(crate) mod settings;
