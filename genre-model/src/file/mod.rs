//! The model file: reading, verifying and writing it.
//!
//! The arithmetic of a model lives outside this folder.

pub(crate) mod atomic;
pub(crate) mod content;
mod format;
mod integrity;
pub(crate) mod read;
pub(crate) mod write;
