//! Explanations: which segments of a movie to leave out, and what each one contributes.
//!
//! Nothing here encodes or scores; `pipeline` does that for the movies that [`occlusion`] lists.

pub(crate) mod occlusion;
pub mod sentences;
