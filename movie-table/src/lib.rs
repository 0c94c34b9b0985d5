//! Reads tables of movies: CSV, TSV and the like, JSON Lines or a JSON array, plain, gzipped or
//! zipped, from a file, a folder or standard input.
//!
//! - [`Source`] is where a table comes from; its folder unpacks it, and `foreign` names the formats
//!   that are not read, with the command that converts them;
//! - [`TableOptions`] says how to read it; `dialect` detects what they leave open;
//! - [`TableReader`] yields one [`Row`] after another, through `delimited` or `json`. A row that
//!   cannot be read is a [`RowProblem`], and the rows after it are still read. Where the next row
//!   is unknown, such as after a quote that is never closed, reading ends with a [`TableError`].
//!
//! So every row of the input is returned, reported, or ends the run. Rows are as found: this crate
//! does not know which genres exist or how movies are split. Memory is bounded by the longest row.

mod columns;
mod delimited;
mod dialect;
mod error;
mod genres;
mod ids;
mod json;
mod options;
mod placeholders;
mod quotes;
mod reader;
mod row;
mod source;

pub use columns::{ColumnNames, is_table_name, places_of};
pub use error::{ProblemKind, RowProblem, TableError};
pub use genres::{Genre, GenresField, GenresFormat, UnreadableGenres};
pub use ids::{InvalidId, movie_id};
pub use options::{Delimiter, Format, Quoting, TableArgs, TableOptions};
pub use placeholders::is_placeholder;
pub use reader::TableReader;
pub use row::{MAX_TEXT_BYTES, Row};
pub use source::{Progress, Source};
