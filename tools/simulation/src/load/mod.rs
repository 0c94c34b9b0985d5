//! The clients of a simulated run: what they call, and whether each response is one they may get.
//!
//! Faults are planned and injected in the folder above.

pub mod clients;
mod direct;
mod items;
pub mod outcome;
mod overload;
pub mod reader;
pub mod sharers;
