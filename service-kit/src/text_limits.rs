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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blank_and_oversized_texts_are_told_apart() {
        assert_eq!(check_text("t", " \u{2003}\n", 10).unwrap().reason, "EMPTY_TEXT");
        assert_eq!(check_text("t", "12345678901", 10).unwrap().reason, "TEXT_TOO_LONG");
        assert_eq!(check_text("t", "1234567890", 10), None);
    }
}
