//! Why a movie has its genres: each part of its text is left out in turn.
//!
//! Classifies through `classifier`; it never talks to an encoder itself.

pub(crate) mod explanation;
pub mod segments;
