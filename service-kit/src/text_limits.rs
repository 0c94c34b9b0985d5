//! The checks that every text from outside passes.

use crate::FieldViolation;

/// `None` where the text is fit to be encoded: not blank, and at most `max_bytes` of UTF-8.
#[must_use]
pub fn check_text(field: impl Into<String>, text: &str, max_bytes: usize) -> Option<FieldViolation> {
    if text.len() > max_bytes {
        let description = format!("expected at most {max_bytes} bytes, found {}", text.len());
        return Some(FieldViolation { field: field.into(), description, reason: "TEXT_TOO_LONG" });
    }
    if text.trim().is_empty() {
        let description = "expected a text, found nothing but white space".to_owned();
        return Some(FieldViolation { field: field.into(), description, reason: "EMPTY_TEXT" });
    }
    None
}

/// The same in Unicode characters, as forms and JSON schemas count: at most `max_chars` of them.
#[must_use]
pub fn check_text_length(
    field: impl Into<String>,
    text: &str,
    max_chars: usize,
    may_be_blank: bool,
) -> Option<FieldViolation> {
    let violation = |reason, description| Some(FieldViolation { field: field.into(), description, reason });
    // Bytes are at hand, and never fewer than characters.
    if text.len() > max_chars {
        let found = text.chars().count();
        if found > max_chars {
            return violation(
                "TEXT_TOO_LONG",
                format!("expected at most {max_chars} characters, found {found}"),
            );
        }
    }
    if !may_be_blank && text.trim().is_empty() {
        return violation("EMPTY_TEXT", "expected a text, found nothing but white space".to_owned());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blank_and_oversized_texts_are_told_apart() {
        assert_eq!(check_text("t", " \u{2003}\n", 10).unwrap().reason, "EMPTY_TEXT");
        assert_eq!(check_text("t", "12345678901", 10).unwrap().reason, "TEXT_TOO_LONG");
        assert_eq!(check_text("t", "1234567890", 10), None);
    }

    #[test]
    fn characters_are_counted_not_bytes() {
        assert_eq!(check_text_length("t", "éééé", 4, false), None);
        assert_eq!(check_text_length("t", "ééééé", 4, false).unwrap().reason, "TEXT_TOO_LONG");
        assert_eq!(check_text_length("t", " ", 4, false).unwrap().reason, "EMPTY_TEXT");
        assert_eq!(check_text_length("t", " ", 4, true), None);
    }
}
