//! Reads data sets from outside, CSV with any columns, plain or compressed, into movies and a
//! report.
//!
//! The tables that we write ourselves are read in the folder above.

pub mod columns;
mod genres_literal;
pub mod input;
pub mod kaggle;
pub mod label_set;
pub mod prepare;
mod quote_watch;
pub mod report;
mod written_genre;
