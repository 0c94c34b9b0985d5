//! Measures models: evaluation, baselines, the report and its plots.
//!
//! Nothing here changes a model or chooses between models.

pub mod baselines;
pub mod evaluation;
pub mod plots;
pub mod report;
