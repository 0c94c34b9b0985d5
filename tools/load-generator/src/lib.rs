//! The encoder under load, held against ONNX Runtime alone on the same texts and cores.

pub mod collector;
pub mod figures;
pub mod load;
pub mod raw;
pub mod server;
pub mod texts;
