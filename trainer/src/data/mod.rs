//! Movies and vectors as Parquet tables, the split, and what a fit may see of them.
//!
//! `ingest` reads data sets from outside; nothing here encodes or fits.

mod checked_pages;
pub mod ingest;
pub mod movie;
pub(crate) mod movie_columns;
pub mod movie_source;
pub mod movies_file;
pub mod split;
pub mod table_file;
pub mod training_data;
pub mod vectors;
pub mod vectors_file;
