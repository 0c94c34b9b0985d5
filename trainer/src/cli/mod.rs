//! The command line of `trainer`: arguments, and one function a command.
//!
//! Commands put parts of the library together; they compute nothing themselves.

pub(crate) mod args;
pub(crate) mod commands;
