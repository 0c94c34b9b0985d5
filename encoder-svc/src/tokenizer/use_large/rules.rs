//! The text rules of an encoder converted from TensorFlow, read from its graph.
//!
//! They turn a text into words, which are then looked up in the vocabulary. Each rule is an
//! operation of TensorFlow (<https://www.tensorflow.org/api_docs/python/tf/raw_ops>).

use serde::Deserialize;

use super::re2::{Re2Error, Replacement};

/// A step in the form of the bundle's file.
#[derive(Debug, Deserialize)]
#[serde(tag = "step", rename_all = "lowercase", deny_unknown_fields)]
pub(super) enum StepEntry {
    /// `StaticRegexReplace`.
    Replace { pattern: String, rewrite: String, all: bool },
    /// `StringLower`, of ASCII or of Unicode letters.
    Lower { unicode: bool },
    /// `StringStrip`, of ASCII blanks.
    Strip,
    /// `StringJoin` of the text and constants.
    Join { before: String, after: String },
}

/// How a text is split into words.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Split {
    /// `StringSplit`, at each of these characters.
    AnyOf { separators: String, skip_empty: bool },
    /// `StringSplitV2` at this string. Empty tokens are kept.
    String { separator: String },
    /// `StringSplitV2` at runs of ASCII blanks.
    Blanks,
}

/// A step, ready to run.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Replace(Replacement),
    Lower { unicode: bool },
    Strip,
    Join { before: String, after: String },
}

impl TryFrom<StepEntry> for Step {
    type Error = Re2Error;

    fn try_from(entry: StepEntry) -> Result<Self, Re2Error> {
        Ok(match entry {
            StepEntry::Replace { pattern, rewrite, all } => {
                Self::Replace(Replacement::new(&pattern, &rewrite, all)?)
            }
            StepEntry::Lower { unicode } => Self::Lower { unicode },
            StepEntry::Strip => Self::Strip,
            StepEntry::Join { before, after } => Self::Join { before, after },
        })
    }
}

impl Step {
    pub(super) fn apply(&self, text: &str) -> String {
        match self {
            Self::Replace(replacement) => replacement.apply(text),
            // TensorFlow passes the text as a C string, so it ends at the first NUL.
            Self::Lower { unicode: true } => text.split('\0').next().unwrap_or_default().to_lowercase(),
            Self::Lower { unicode: false } => text.to_ascii_lowercase(),
            Self::Strip => text.trim_matches(is_blank).to_owned(),
            Self::Join { before, after } => format!("{before}{text}{after}"),
        }
    }
}

impl Split {
    /// Returns the tokens of `text` in order.
    pub(super) fn tokens<'a>(&'a self, text: &'a str) -> Box<dyn Iterator<Item = &'a str> + 'a> {
        match self {
            Self::AnyOf { separators, skip_empty } => {
                // Unlike StringSplitV2, this operation finds no token in an empty text.
                let no_empty = *skip_empty || text.is_empty();
                let tokens = text.split(|character| separators.contains(character));
                Box::new(tokens.filter(move |token| !(no_empty && token.is_empty())))
            }
            Self::String { separator } => Box::new(text.split(separator.as_str())),
            Self::Blanks => Box::new(text.split(is_blank).filter(|token| !token.is_empty())),
        }
    }
}

/// Whether C's `isspace` is true, as it is for a vertical tab.
fn is_blank(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\n' | '\x0b' | '\x0c' | '\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(split: &str, text: &str) -> Vec<String> {
        let split: Split = serde_json::from_str(split).unwrap();
        split.tokens(text).map(str::to_owned).collect()
    }

    #[test]
    fn splits_at_characters_a_string_or_blanks() {
        let skipping = r#"{"by": "any_of", "separators": " ,", "skip_empty": true}"#;
        assert_eq!(tokens(skipping, " a, b\tc,"), ["a", "b\tc"]);
        let keeping = r#"{"by": "any_of", "separators": " ,", "skip_empty": false}"#;
        assert_eq!(tokens(keeping, "a, b"), ["a", "", "b"]);
        assert_eq!(tokens(r#"{"by": "string", "separator": "--"}"#, "a--b---c"), ["a", "b", "-c"]);
        assert_eq!(tokens(r#"{"by": "blanks"}"#, " a\x0b\tb\u{a0}c\n"), ["a", "b\u{a0}c"]);
        assert_eq!(tokens(r#"{"by": "blanks"}"#, " "), [""; 0]);
    }

    #[test]
    fn lowers_strips_and_joins() {
        let apply = |step: &str, text: &str| {
            let entry: StepEntry = serde_json::from_str(step).unwrap();
            Step::try_from(entry).unwrap().apply(text)
        };
        assert_eq!(apply(r#"{"step": "lower", "unicode": false}"#, "AÉΣ"), "aÉΣ");
        assert_eq!(apply(r#"{"step": "lower", "unicode": true}"#, "AÉ ΑΣ"), "aé ας");
        assert_eq!(apply(r#"{"step": "strip"}"#, "\x0b a \u{a0}\n"), "a \u{a0}");
        assert_eq!(apply(r#"{"step": "join", "before": "<", "after": " >"}"#, "a"), "<a >");
    }

    #[derive(Deserialize)]
    struct Cases {
        texts: Vec<String>,
        cases: Vec<Case>,
    }

    #[derive(Deserialize)]
    struct Case {
        steps: Vec<StepEntry>,
        split: Split,
        /// The tokens of each text.
        tokens: Vec<Vec<String>>,
    }

    #[test]
    fn rules_agree_with_the_operations_of_tensorflow() {
        let file = include_str!("../../../tests/fixtures/text_rules.json");
        let Cases { texts, cases } = serde_json::from_str(file).unwrap();
        for Case { steps, split, tokens } in cases {
            let named = format!("{steps:?} {split:?}");
            let steps: Vec<_> = steps.into_iter().map(|entry| Step::try_from(entry).unwrap()).collect();
            for (text, expected) in texts.iter().zip(&tokens) {
                let cleaned = steps.iter().fold(text.clone(), |text, step| step.apply(&text));
                let found: Vec<_> = split.tokens(&cleaned).collect();
                assert_eq!(&found, expected, "{named} on {text:?}");
            }
        }
    }
}
