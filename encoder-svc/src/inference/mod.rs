//! ONNX Runtime: sessions, the threads that run them, and the check that their vectors are right.
//!
//! Nothing outside this folder names ONNX Runtime.

pub mod device;
pub mod onnx_runtime;
mod replies;
pub(crate) mod self_check;
pub mod session;
pub mod shared_weights;
pub mod task_pool;
mod tensors;
mod turn;
pub mod worker_pool;
