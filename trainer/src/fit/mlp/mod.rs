//! The network: hyper-parameters, loss and gradient, Adam, early stopping.
//!
//! Nothing here predicts: predictions use the forward pass of `genre-model`, as in the classifier.

mod adam;
mod backpropagation;
mod early_stopping;
pub mod estimator;
pub mod params;
mod simd;
mod standardiser;
pub(crate) mod weights;
