//! The checks that every text of a request must pass.

use crate::FieldViolation;

/// Whether a text has only white space, control characters, U+180E (formerly a space) and byte
/// order marks.
#[must_use]
pub fn is_blank(text: &str) -> bool {
    text.chars().all(|c| c.is_whitespace() || c.is_control() || matches!(c, '\u{180e}' | '\u{feff}'))
}

/// Checks that a text is not blank and has at most `max_bytes` bytes of UTF-8.
#[must_use]
pub fn check_text(field: impl Into<String>, text: &str, max_bytes: usize) -> Option<FieldViolation> {
    check(field, text, text.len(), max_bytes, "bytes", false)
}

/// Checks that a text has at most `max_chars` Unicode characters, which is how forms and JSON
/// schemas count. Unless `may_be_blank`, also checks that it is not blank.
#[must_use]
pub fn check_text_length(
    field: impl Into<String>,
    text: &str,
    max_chars: usize,
    may_be_blank: bool,
) -> Option<FieldViolation> {
    // A text never has more characters than bytes, so a short one need not be counted.
    let length = if text.len() > max_chars { text.chars().count() } else { 0 };
    check(field, text, length, max_chars, "characters", may_be_blank)
}

fn check(
    field: impl Into<String>,
    text: &str,
    found: usize,
    max: usize,
    unit: &str,
    may_be_blank: bool,
) -> Option<FieldViolation> {
    let violation = |reason, description| Some(FieldViolation { field: field.into(), description, reason });
    if found > max {
        return violation("TEXT_TOO_LONG", format!("expected at most {max} {unit}, found {found}"));
    }
    if !may_be_blank && is_blank(text) {
        return violation("EMPTY_TEXT", "expected a text, found only white space".to_owned());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_blank_and_oversized_texts_apart() {
        assert_eq!(check_text("t", " \u{2003}\n", 10).unwrap().reason, "EMPTY_TEXT");
        assert_eq!(check_text("t", "12345678901", 10).unwrap().reason, "TEXT_TOO_LONG");
        assert_eq!(check_text("t", "1234567890", 10), None);
    }

    #[test]
    fn control_characters_are_blank() {
        for blank in ["", " \u{3000}\n", "\0\u{1d}\u{7f}\u{85}", "\u{feff}\u{180e}"] {
            assert!(is_blank(blank), "{blank:?}");
        }
        assert!(!is_blank("\u{feff}."));
    }

    #[test]
    fn counts_characters_not_bytes() {
        assert_eq!(check_text_length("t", "éééé", 4, false), None);
        assert_eq!(check_text_length("t", "ééééé", 4, false).unwrap().reason, "TEXT_TOO_LONG");
        assert_eq!(check_text_length("t", " ", 4, false).unwrap().reason, "EMPTY_TEXT");
        assert_eq!(check_text_length("t", " ", 4, true), None);
    }
}
