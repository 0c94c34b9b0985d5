//! Turns tables of movies from outside, which `movie-table` reads, into usable movies and a report.
//!
//! The tables that we write ourselves are read in the folder above.

mod genres;
pub mod label_set;
pub mod prepare;
pub mod reader;
pub mod report;
