//! The command line of `trainer`: arguments, and one function per command.
//!
//! Commands combine the library; they compute nothing themselves.

pub(crate) mod args;
pub(crate) mod commands;
mod encoder;
mod runtime;
mod source_arg;
