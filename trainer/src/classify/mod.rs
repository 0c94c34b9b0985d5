//! Classifies the rows of a table into a table of results, as a batch job: resumable, in shards, and
//! with one result for every row.
//!
//! - [`input`] finds and reads the rows, of tables of any form and of Parquet files of other programs,
//!   on disk and in object stores; [`output`] is where the table goes;
//! - [`job`] encodes and scores them, a chunk at a time, and remembers finished chunks;
//! - [`results`] is the table, [`merge`] joins those of shards, and [`summary`] counts.
//!
//! Scores are those of `genre-model`, row by row, as the classifier service computes them.

pub mod error;
pub mod input;
pub mod job;
pub mod merge;
pub mod output;
pub mod results;
mod results_chunks;
pub mod summary;
