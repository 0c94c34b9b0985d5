//! Text to vector over gRPC, on ONNX Runtime.
//!
//! One request, file by file: [`grpc`] checks it; [`encoder`] looks its texts up in the [`cache`]
//! and asks [`scheduler::admission`] for a permit for each of the others; [`scheduler::queue`]
//! holds their entries in two classes. A worker of [`inference::worker_pool`] takes the next entry,
//! makes token ids with the [`tokenizer`], runs the graph in an [`inference::session`], and sends
//! the reply. [`bundle`] defines the encoder.
//!
//! Texts are tokenized after the queue. Admission estimates costs from bytes, so a rejected request
//! is never tokenized.
//!
//! Modules depend on each other in one direction: [`serve`] → [`startup`] and [`grpc`] →
//! [`encoder`] → [`inference`] → [`scheduler`], with [`tokenizer`] and [`bundle`] below. Workers
//! pull from the queue, so `inference` knows `scheduler` and not the other way round.

pub mod bundle;
pub mod cache;
pub mod calibration;
pub mod config;
pub mod embedded;
pub mod encoder;
mod error;
pub mod grpc;
pub mod inference;
pub mod limited_encoder;
pub mod metrics;
mod open_inference;
pub mod rest;
pub mod scheduler;
pub mod serve;
pub mod startup;
pub mod tokenizer;

pub use crate::config::{EncoderSettings, EncoderSvcConfig, EncoderSvcSettings};
pub use crate::encoder::Encoder;
pub use crate::error::StartError;
pub use crate::serve::run;
