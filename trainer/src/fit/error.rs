//! Why a fit gives no model.

use crate::data::training_data::FittingDataError;
use crate::fit::mlp::estimator::FitError;

/// Why there is no model.
#[derive(Debug, thiserror::Error)]
pub enum FitJobError {
    /// The network cannot be fitted.
    #[error(transparent)]
    Fit(#[from] FitError),
    /// The movies may not be fitted on.
    #[error(transparent)]
    Data(#[from] FittingDataError),
    /// The model of words cannot be fitted.
    #[error("words: {0}")]
    Words(String),
    /// What was fitted is no sound model.
    #[error("fitted model: {0}")]
    Model(String),
}
