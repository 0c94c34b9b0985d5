//! Data sets as people have them: CSV in many layouts, compressed or not, to movies and a report.
//!
//! Our own tables are read in the folder above.

pub mod columns;
mod genres_literal;
pub mod input;
pub mod kaggle;
pub mod prepare;
mod quote_watch;
pub mod report;
