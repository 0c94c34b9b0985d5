//! How good a model is: metrics, baselines, the report and its plots.
//!
//! Nothing here changes a model.

pub mod baselines;
pub mod evaluation;
pub mod plots;
pub mod report;
