//! The sentences of an overview.
//!
//! `icu_segmenter` finds sentence boundaries in any script but knows no abbreviations. Crates that
//! do, such as `punkt` and `srx`, need training data or rule files for each language.
//! `unicode-segmentation` finds the same boundaries, but in quadratic time: after a full stop, it
//! looks ahead for a lowercase letter again at every character.

use icu_segmenter::SentenceSegmenter;
use icu_segmenter::options::SentenceBreakInvariantOptions;

/// The most sentences of an overview, because an explanation encodes one text for each. The last
/// sentence takes the rest of the overview.
const MAX_SENTENCES: usize = 31;

/// Words whose full stop does not end a sentence, which the Unicode rule (UAX #29) cannot know.
const ABBREVIATIONS: [&str; 24] = [
    "mr", "mrs", "ms", "dr", "prof", "st", "jr", "sr", "lt", "col", "gen", "capt", "sgt", "maj", "rev",
    "hon", "sen", "gov", "vs", "no", "mt", "ft", "messrs", "mme",
];

/// Splits a text into trimmed sentences, in time linear in its length. Only white space between
/// them is lost.
#[must_use]
pub fn sentences(text: &str) -> Vec<&str> {
    let mut ends = Vec::new();
    let mut start = 0;
    let segmenter = SentenceSegmenter::new(SentenceBreakInvariantOptions::default());
    for end in segmenter.segment_str(text) {
        let piece = &text[start..end];
        start = end;
        // Blank pieces come first: a look back from each of them to the last word would take
        // quadratic time.
        if !piece.trim().is_empty() && !ends_in_abbreviation(&text[..end]) {
            ends.push(end);
        }
        if ends.len() == MAX_SENTENCES {
            break;
        }
    }
    // The last sentence takes the rest of the text.
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

    /// Each would take half a second or more in quadratic time.
    #[test]
    fn splits_the_longest_overviews_in_a_moment() {
        let shapes = [
            ("a.", " ", ","),
            ("a.", ")", "-"),
            ("a.", " \u{301}", "1"),
            ("a.", "\u{2029}", "\u{2029}"),
            (&"a".repeat(20_000), ".", "\u{2029}"),
        ];
        for (start, middle, end) in shapes {
            let text = format!("{start}{}{}", middle.repeat(20_000), end.repeat(20_000));
            let begin = std::time::Instant::now();
            assert!(!sentences(&text).is_empty());
            let took = begin.elapsed();
            assert!(took.as_millis() < 200, "{middle:?} and {end:?} took {took:?}");
        }
    }

    proptest! {
        #[test]
        fn keeps_every_character_once(text in "\\PC{0,200}") {
            let bare = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
            prop_assert_eq!(bare(&sentences(&text).concat()), bare(&text));
        }
    }
}
