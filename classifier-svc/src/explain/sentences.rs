//! The sentences of an overview.
//!
//! `unicode-segmentation` finds sentence boundaries in any script but knows no abbreviations.
//! Crates that do, such as `punkt` and `srx`, need training data or rule files for each language.

use unicode_segmentation::UnicodeSegmentation as _;

/// The most sentences of an overview, because an explanation encodes one text for each. The last
/// sentence takes the rest of the overview.
const MAX_SENTENCES: usize = 31;

/// Words whose full stop does not end a sentence, which the Unicode rule (UAX #29) cannot know.
const ABBREVIATIONS: [&str; 24] = [
    "mr", "mrs", "ms", "dr", "prof", "st", "jr", "sr", "lt", "col", "gen", "capt", "sgt", "maj", "rev",
    "hon", "sen", "gov", "vs", "no", "mt", "ft", "messrs", "mme",
];

/// Splits a text into trimmed sentences. Only white space between them is lost.
pub(super) fn sentences(text: &str) -> Vec<&str> {
    let mut ends = Vec::new();
    let mut at = 0;
    for piece in text.split_sentence_bounds() {
        at += piece.len();
        if !ends_in_abbreviation(&text[..at]) && !piece.trim().is_empty() {
            ends.push(at);
        }
    }
    // The last sentence takes the rest of the text.
    ends.truncate(MAX_SENTENCES);
    if let Some(last) = ends.last_mut() {
        *last = text.len();
    } else {
        ends.push(text.len());
    }
    let starts = std::iter::once(0).chain(ends.iter().copied());
    let parts = starts.zip(&ends).map(|(start, &end)| text[start..end].trim());
    parts.filter(|part| !part.is_empty()).collect()
}

/// Returns whether the text ends in an abbreviation such as `Dr.` or an initial such as `J.`.
fn ends_in_abbreviation(text: &str) -> bool {
    let Some(before) = text.trim_end().strip_suffix('.') else { return false };
    let word = before.rsplit(|c: char| !c.is_alphabetic()).next().unwrap_or_default();
    let mut letters = word.chars();
    match (letters.next(), letters.next()) {
        (Some(letter), None) => letter.is_uppercase() && letter != 'I',
        _ => ABBREVIATIONS.contains(&word.to_lowercase().as_str()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn splits_at_full_stops_but_not_after_abbreviations() {
        assert_eq!(
            sentences("Dr. Ada J. Finch returns to St. Mary. Who else? Nobody! "),
            ["Dr. Ada J. Finch returns to St. Mary.", "Who else?", "Nobody!"]
        );
        assert_eq!(sentences("It was I. Then it rained."), ["It was I.", "Then it rained."]);
        assert_eq!(sentences("no stop at all"), ["no stop at all"]);
        assert_eq!(sentences("He asks for Dr."), ["He asks for Dr."]);
        assert!(sentences(" \n ").is_empty());
    }

    #[test]
    fn splits_other_scripts() {
        assert_eq!(sentences("彼は来た。彼女は去った。"), ["彼は来た。", "彼女は去った。"]);
    }

    #[test]
    fn a_long_text_has_a_bounded_number_of_sentences_and_loses_nothing() {
        let text = "It rains. ".repeat(100);
        let parts = sentences(&text);
        assert_eq!(parts.len(), MAX_SENTENCES);
        assert_eq!(parts.join(" "), text.trim());
    }

    proptest! {
        #[test]
        fn keeps_every_character_once(text in "\\PC{0,200}") {
            let bare = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
            prop_assert_eq!(bare(&sentences(&text).concat()), bare(&text));
        }
    }
}
