//! Turns vectors into a model: networks, word model, interpolation, ensemble, calibration,
//! thresholds.
//!
//! Nothing here sees a test movie; figures on test movies come from `evaluate`.

pub mod calibration;
pub mod ensemble;
pub mod error;
pub mod hyper_parameters;
pub(crate) mod interpolation;
pub mod job;
pub mod loss_curves;
pub mod mlp;
pub mod preset;
pub mod thresholds;
pub(crate) mod word_model;
