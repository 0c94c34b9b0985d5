//! The Open Inference Protocol (KServe V2) for a service with one model of texts.
//!
//! A service implements [`Model`] and gets [`OpenInference`] for its gRPC server and [`routes`] for
//! its HTTP listener. A request flows one way: `grpc` or `rest` reads it, [`model`] checks it against
//! the description of the model, the model runs, and `grpc` or `rest` writes its tensors. [`tensor`]
//! is the only place that knows how the elements of tensors are laid out.
//!
//! Nothing is allocated by a size that a request only claims, such as a shape or a length.

mod grpc;
pub mod model;
mod rest;
pub mod tensor;

pub use crate::grpc::{OPEN_METHODS, OpenInference};
pub use crate::model::{Call, Description, Inference, Inferred, Model, Parameter, ServerDescription};
pub use crate::rest::{JSON_LENGTH, openapi, routes};
pub use crate::tensor::{Datatype, Elements, OutputTensor, TensorDescription};
