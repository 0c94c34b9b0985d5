//! Random search: trials in parallel, a journal that survives a crash, and the model of the winner.
//!
//! The result of a trial depends only on the movies, the space and `seed + trial`. The files of a
//! finished search do not depend on threads, order or interruptions. Nothing here sees a test
//! movie.

mod display;
mod job;
mod journal;
mod plot;
mod results;
mod space;
mod trial;

pub use display::text as trials_table;
pub use job::{SearchError, SearchJob, SearchOutcome, run};
pub use space::Space;
pub use trial::Trial;

#[cfg(test)]
mod tests;
