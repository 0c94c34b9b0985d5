//! Canonical composition (Unicode NFC), so that the forms of a text that look the same are the same.
//!
//! Keyboards and file systems write an accented letter as one character, or as a letter and a
//! combining mark. Both forms must get the same vector and the same word features.

use std::borrow::Cow;

use icu_normalizer::ComposingNormalizer;

/// Returns the text in NFC. A text that is in NFC already, as almost all are, is not copied.
#[must_use]
pub fn nfc(text: &str) -> Cow<'_, str> {
    ComposingNormalizer::new_nfc().normalize(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn composes_letters_and_marks_and_copies_nothing_else() {
        assert_eq!(nfc("pin\u{303}ata"), "pi\u{f1}ata");
        // Marks in either order, a Korean syllable of its parts, and the sign of the unit ohm.
        assert_eq!(nfc("a\u{323}\u{302}"), nfc("a\u{302}\u{323}"));
        assert_eq!(nfc("\u{1112}\u{1161}\u{11ab}"), "\u{d55c}");
        assert_eq!(nfc("\u{2126}"), "\u{3a9}");
        assert!(matches!(nfc("A pi\u{f1}ata, \u{6771}\u{4eac}"), Cow::Borrowed(_)));
    }

    proptest! {
        #[test]
        fn is_idempotent(text in "\\PC{0,80}") {
            let once = nfc(&text).into_owned();
            prop_assert_eq!(&*nfc(&once), &once);
        }
    }
}
