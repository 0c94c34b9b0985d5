//! How a table is read, and the options of the command line that say so.
#![allow(clippy::doc_markdown, reason = "these comments are the help that is printed")]

use std::str::FromStr;

use clap::{Args, ValueEnum};

use crate::columns::ColumnNames;

/// How a table is read. What is `None` is detected.
#[derive(Debug, Clone)]
pub struct TableOptions {
    /// The columns or keys that are read.
    pub columns: ColumnNames,
    /// The format.
    pub format: Option<Format>,
    /// The delimiter.
    pub delimiter: Option<Delimiter>,
    /// How quotes are written inside quoted fields.
    pub quoting: Option<Quoting>,
    /// The most bytes that are read, after unpacking.
    pub max_bytes: u64,
}

impl TableOptions {
    /// Default of [`max_bytes`](Self::max_bytes): 16 GiB, some 30 million movies.
    pub const DEFAULT_MAX_BYTES: u64 = 16 << 30;
}

impl Default for TableOptions {
    fn default() -> Self {
        Self {
            columns: ColumnNames::default(),
            format: None,
            delimiter: None,
            quoting: None,
            max_bytes: Self::DEFAULT_MAX_BYTES,
        }
    }
}

/// Format of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Separated values with a header; the delimiter is detected
    Csv,
    /// Tab-separated values with a header
    Tsv,
    /// JSON Lines: one object in each line
    #[value(alias = "ndjson")]
    Jsonl,
    /// A JSON array of objects, or JSON Lines
    Json,
}

/// How a quote is written inside a quoted field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Quoting {
    /// "" as in RFC 4180, spreadsheets and pandas
    Double,
    /// \" as Spark and MySQL write it
    Backslash,
}

/// The byte between two fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delimiter(pub(crate) u8);

impl FromStr for Delimiter {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.as_bytes() {
            b"\\t" => Ok(Self(b'\t')),
            _ if text.eq_ignore_ascii_case("tab") => Ok(Self(b'\t')),
            [byte] if byte.is_ascii() && !byte.is_ascii_alphanumeric() && !b"\"\r\n\\".contains(byte) => {
                Ok(Self(*byte))
            }
            _ => Err("expected one character such as , ; | or the word tab"),
        }
    }
}

/// The options of every command that reads a table of movies.
#[derive(Debug, Clone, Args)]
pub struct TableArgs {
    /// Column or key of ids. Names match in any case
    #[arg(long, value_name = "NAME", default_value = "id")]
    pub id_column: String,
    /// Column or key of titles
    #[arg(long, value_name = "NAME", default_value = "title")]
    pub title_column: String,
    /// Column or key of overviews
    #[arg(long, value_name = "NAME", default_value = "overview")]
    pub overview_column: String,
    /// Format of the input [default: from the file name, otherwise from the content]
    #[arg(long, value_name = "FORMAT", value_enum)]
    pub input_format: Option<Format>,
    /// Delimiter of the input: one character, or the word tab [default: detected at the header]
    #[arg(long, value_name = "CHARACTER")]
    pub delimiter: Option<Delimiter>,
    /// How quotes are written inside quoted fields [default: detected]
    #[arg(long, value_name = "QUOTING", value_enum)]
    pub quoting: Option<Quoting>,
    /// The most bytes of input, after unpacking, that are read
    #[arg(long, value_name = "BYTES", default_value_t = TableOptions::DEFAULT_MAX_BYTES)]
    pub max_input_bytes: u64,
}

impl TableArgs {
    /// Returns the options for a table whose genres are not read.
    #[must_use]
    pub fn options(&self) -> TableOptions {
        TableOptions {
            columns: ColumnNames {
                id: self.id_column.clone(),
                title: self.title_column.clone(),
                overview: self.overview_column.clone(),
                ..ColumnNames::default()
            },
            format: self.input_format,
            delimiter: self.delimiter,
            quoting: self.quoting,
            max_bytes: self.max_input_bytes,
        }
    }
}
