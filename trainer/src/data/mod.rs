//! Movies and vectors: their Parquet tables, the split, and the part of them that a fit may see.
//!
//! `ingest` reads data sets from outside. Nothing here encodes, fits or evaluates.

mod checked_pages;
pub mod ingest;
pub mod movie;
pub(crate) mod movie_columns;
pub mod movie_source;
pub mod movies_file;
pub(crate) mod object_footer;
pub mod split;
pub mod table_file;
pub mod training_data;
pub mod vectors;
pub mod vectors_file;
