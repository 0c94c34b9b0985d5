//! Running the graph: ONNX Runtime sessions, the worker threads that use them, and the check of
//! their vectors.
//!
//! Workers pull entries from the queue of [`scheduler`](crate::scheduler). This folder must not
//! know the cache, gRPC or the settings.

pub(crate) mod core_choice;
pub mod device;
mod niceness;
mod onnx_file;
pub mod onnx_runtime;
mod replies;
pub(crate) mod self_check;
pub mod session;
pub mod shared_weights;
mod tensors;
pub mod worker_pool;
