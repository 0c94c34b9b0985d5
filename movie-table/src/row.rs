//! A row of a table: the fields of one movie, as found.

use crate::error::{ProblemKind, RowProblem};
use crate::genres::GenresField;

/// The longest title or overview that is read. Overviews have at most a few kilobytes, and encoders
/// read no more than 32 KiB of a text.
pub const MAX_TEXT_BYTES: usize = 64 << 10;

/// The fields of one movie. A field that is missing, null or empty is `None`, and so is a title of
/// a data frame's `NaN`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Row {
    /// The line on which the row begins, from 1.
    pub line: u64,
    /// The id, trimmed.
    pub id: Option<String>,
    /// The title.
    pub title: Option<String>,
    /// The overview, which is not blank.
    pub overview: Option<String>,
    /// The genres, in the form in which they were found.
    pub genres: Option<GenresField>,
    /// The original language; empty if the table has the column but not the value.
    pub language: Option<String>,
}

impl Row {
    /// Removes blank fields and checks the lengths of the texts.
    pub(crate) fn checked(mut self) -> Result<Self, RowProblem> {
        for field in [&mut self.id, &mut self.title, &mut self.overview] {
            field.take_if(|text| text.trim().is_empty());
        }
        if let Some(id) = &mut self.id
            && id.trim().len() < id.len()
        {
            *id = id.trim().to_owned();
        }
        self.title.take_if(|title| matches!(title.trim(), "nan" | "NaN" | "\\N"));
        for (name, text) in [("title", &self.title), ("overview", &self.overview)] {
            let bytes = text.as_ref().map_or(0, String::len);
            if bytes > MAX_TEXT_BYTES {
                let kind = ProblemKind::TextTooLong;
                let reason = format!("expected at most {MAX_TEXT_BYTES} bytes as the {name}, found {bytes}");
                return Err(RowProblem { line: self.line, kind, reason });
            }
        }
        Ok(self)
    }
}
