//! One row, and the check of its texts.

use movie_table::{MAX_TEXT_BYTES, is_placeholder};
use service_kit::is_blank;

/// One row of the input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputRow {
    /// The id, as found.
    pub id: Option<String>,
    /// The movie, or why the row is none.
    pub movie: Result<MovieText, String>,
}

/// The texts of a movie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MovieText {
    /// The title; empty if there is none.
    pub title: String,
    /// The overview, which is not blank.
    pub overview: String,
}

/// Checks the texts of a row. `place` names it in messages.
pub(super) fn input_row(
    place: &str,
    id: Option<String>,
    title: Option<String>,
    overview: Option<String>,
) -> InputRow {
    let title = title.unwrap_or_default();
    let movie = match overview {
        Some(overview) if !is_placeholder(&overview) && !is_blank(&overview) => {
            let longest = title.len().max(overview.len());
            if longest <= MAX_TEXT_BYTES {
                Ok(MovieText { title, overview })
            } else {
                Err(format!("{place}: expected texts of at most {MAX_TEXT_BYTES} bytes, found {longest}"))
            }
        }
        Some(text) if !is_blank(&text) => {
            Err(format!("{place}: expected a text as the overview, found the placeholder {text:?}"))
        }
        _ => Err(format!("{place}: expected a text as the overview, found none")),
    };
    InputRow { id, movie }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_without_an_overview_is_a_row_with_a_reason() {
        let row = |overview: Option<&str>| {
            input_row("line 3", Some("7".to_owned()), None, overview.map(str::to_owned)).movie
        };
        assert_eq!(row(Some("A ship.")).unwrap().overview, "A ship.");
        assert_eq!(row(None).unwrap_err(), "line 3: expected a text as the overview, found none");
        assert_eq!(
            row(Some(" \u{feff}")).unwrap_err(),
            "line 3: expected a text as the overview, found none"
        );
        assert!(row(Some("nan")).unwrap_err().ends_with("found the placeholder \"nan\""));
        let long = "x".repeat(MAX_TEXT_BYTES + 1);
        assert!(row(Some(&long)).unwrap_err().contains("at most 65536 bytes, found 65537"));
    }
}
