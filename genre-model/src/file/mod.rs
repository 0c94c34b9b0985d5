//! The model file: its format, the checks before it is believed, and writing that is all or nothing.
//!
//! The arithmetic of a model lives outside this folder.

pub(crate) mod atomic;
pub(crate) mod format;
pub(crate) mod integrity;
