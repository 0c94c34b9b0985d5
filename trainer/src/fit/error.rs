//! Why a fit fails.

use crate::data::training_data::FittingDataError;
use crate::fit::mlp::estimator::FitError;

/// Why a fit fails.
#[derive(Debug, thiserror::Error)]
pub enum FitJobError {
    /// A network cannot be fitted.
    #[error(transparent)]
    Fit(#[from] FitError),
    /// The movies may not be used in a fit.
    #[error(transparent)]
    Data(#[from] FittingDataError),
    /// The word model cannot be fitted.
    #[error("word model: {0}")]
    WordModel(String),
    /// The fitted parts do not form a valid model.
    #[error("fitted model: {0}")]
    Model(String),
}
