//! The network: hyper-parameters, loss and gradient, Adam, early stopping.
//!
//! Prediction uses the forward pass of `genre-model`, the same as the classifier.

mod adam;
mod backpropagation;
mod early_stopping;
pub mod estimator;
pub mod params;
mod simd;
mod standardiser;
pub(crate) mod weights;
