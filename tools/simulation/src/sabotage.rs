//! Deliberate defects, which prove that the simulation detects broken promises.
//!
//! Each breaks a promise that depends on one part of the product alone.

/// A defect that lasts for a whole run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Sabotage {
    /// An encoder returns the vectors of a batch in another order.
    Reorder,
    /// An encoder returns the vectors of another encoder under the expected fingerprint, as if
    /// fingerprints were not verified.
    ForeignVectors,
    /// The classifier states a model that it did not use.
    OtherModel,
    /// A stream repeats a response.
    RepeatResponse,
    /// A stream omits a response.
    LoseResponse,
    /// A stream returns the response of another movie.
    SwapResponses,
    /// Runs of some texts never end.
    HangRun,
    /// An encoder serves texts in order of arrival, whoever sends them.
    OneQueue,
}
