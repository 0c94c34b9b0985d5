//! Why a table, or a row of it, cannot be read.

use std::fmt;
use std::io;

/// Why reading a table ends. No row after it is read.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The table cannot be opened or read.
    #[error("{name}: {source}")]
    Io {
        /// The file, or `standard input`.
        name: String,
        /// The cause.
        source: io::Error,
    },
    /// The input is not a table of movies.
    #[error("{name}: {reason}")]
    Invalid {
        /// The file, or `standard input`.
        name: String,
        /// The expectation, and the value found.
        reason: String,
    },
}

impl TableError {
    pub(crate) fn invalid(name: &str, reason: impl Into<String>) -> Self {
        Self::Invalid { name: name.to_owned(), reason: reason.into() }
    }

    /// Turns errors that this crate raises while it reads into [`Self::Invalid`].
    pub(crate) fn reading(name: &str, error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::InvalidData => Self::invalid(name, error.to_string()),
            _ => Self::Io { name: name.to_owned(), source: error },
        }
    }
}

/// Raises an error inside a reader, which ends the run.
pub(crate) fn invalid_data(reason: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.into())
}

/// The kind of a problem with one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProblemKind {
    /// A field is not UTF-8.
    NotUtf8,
    /// The row is not in the form of the table.
    Malformed,
    /// The row has more fields than the header.
    ExtraFields,
    /// A text is too long.
    TextTooLong,
}

/// A row that cannot be read. The rows after it are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowProblem {
    /// The line on which the row begins, from 1.
    pub line: u64,
    /// The kind of the problem.
    pub kind: ProblemKind,
    /// The expectation, and the value found.
    pub reason: String,
}

impl fmt::Display for RowProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.reason)
    }
}

/// Quotes a text for a message, cut to a readable length.
pub(crate) fn shown(text: &str) -> String {
    const MAX_CHARS: usize = 120;
    let short: String = text.chars().take(MAX_CHARS).collect();
    if short.len() < text.len() { format!("{short:?} …") } else { format!("{short:?}") }
}
