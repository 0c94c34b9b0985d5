//! Defects that are put in on purpose: each breaks a promise that no part of the product could keep for another, and a
//! simulation that does not notice is of no use.

/// What is broken for a whole run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Sabotage {
    /// An encoder gives the vectors of a batch in another order.
    Reorder,
    /// An encoder states the right fingerprint and gives the vectors of another: what would reach the model if fingerprints were
    /// not checked.
    ForeignVectors,
    /// The classifier states a model that did not answer.
    OtherModel,
    /// A stream gives one of its answers twice.
    AnswerTwice,
    /// A stream leaves out one of its answers.
    LoseAnswer,
    /// A stream gives a movie the answer of another.
    SwapAnswers,
    /// An encoder's session never comes back from some texts.
    KeepText,
}
