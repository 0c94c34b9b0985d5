//! The template that turns a movie into the text to encode.

use std::borrow::Cow;
use std::fmt;

use crate::{WordFeatures, nfc};

/// A template such as `[{title}. ]{overview}`.
///
/// `{title}` and `{overview}` are replaced. A section in square brackets is left out if the title
/// is blank, so that the text of a movie without a title does not begin with a full stop. The model
/// file holds the template, so that trainer and classifier compose the same text. A template engine
/// would allow more than this and would not round-trip its source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputTemplate {
    source: String,
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(String),
    Title,
    Overview,
    /// Left out if the title is blank.
    WithTitle(Vec<Piece>),
}

/// Why a text is not a template.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidTemplate {
    /// Braces hold something other than the two fields.
    #[error("template {template:?}: expected {{title}} or {{overview}}, found {found:?}")]
    UnknownField {
        /// The whole template.
        template: String,
        /// The text in the braces.
        found: String,
    },
    /// A bracket or brace is unmatched or nested.
    #[error("template {template:?}: unbalanced or nested '{found}'")]
    Unbalanced {
        /// The whole template.
        template: String,
        /// The unmatched or nested character.
        found: char,
    },
    /// The overview is missing, repeated or in a section.
    #[error("template {template:?}: expected {{overview}} exactly once, outside of square brackets")]
    NoOverview {
        /// The whole template.
        template: String,
    },
}

impl InputTemplate {
    /// The title, if there is one, as a sentence before the overview.
    pub const TITLE_AND_OVERVIEW: &'static str = "[{title}. ]{overview}";
    /// The overview alone, as in the reference system.
    pub const OVERVIEW: &'static str = "{overview}";

    /// Parses a template.
    pub fn parse(source: &str) -> Result<Self, InvalidTemplate> {
        let unbalanced = |found| InvalidTemplate::Unbalanced { template: source.to_owned(), found };
        let mut pieces = Vec::new();
        let mut section: Option<Vec<Piece>> = None;
        let mut rest = source;
        while let Some(first) = rest.chars().next() {
            match first {
                '{' => {
                    let end = rest.find('}').ok_or_else(|| unbalanced('{'))?;
                    let field = match &rest[1..end] {
                        "title" => Piece::Title,
                        "overview" => Piece::Overview,
                        found => {
                            let found = found.to_owned();
                            return Err(InvalidTemplate::UnknownField { template: source.to_owned(), found });
                        }
                    };
                    section.as_mut().unwrap_or(&mut pieces).push(field);
                    rest = &rest[end + 1..];
                }
                '[' if section.is_none() => {
                    section = Some(Vec::new());
                    rest = &rest[1..];
                }
                ']' => {
                    pieces.push(Piece::WithTitle(section.take().ok_or_else(|| unbalanced(']'))?));
                    rest = &rest[1..];
                }
                '[' | '}' => return Err(unbalanced(first)),
                _ => {
                    let end = rest.find(['{', '}', '[', ']']).unwrap_or(rest.len());
                    section.as_mut().unwrap_or(&mut pieces).push(Piece::Literal(rest[..end].to_owned()));
                    rest = &rest[end..];
                }
            }
        }
        if section.is_some() {
            return Err(unbalanced('['));
        }
        let in_section = |piece: &Piece| match piece {
            Piece::WithTitle(section) => section.contains(&Piece::Overview),
            Piece::Literal(_) | Piece::Title | Piece::Overview => false,
        };
        let outside = pieces.iter().filter(|piece| **piece == Piece::Overview).count();
        if outside != 1 || pieces.iter().any(in_section) {
            return Err(InvalidTemplate::NoOverview { template: source.to_owned() });
        }
        Ok(Self { source: source.to_owned(), pieces })
    }

    /// Whether the title changes the text.
    #[must_use]
    pub fn uses_title(&self) -> bool {
        self.pieces.iter().any(|piece| match piece {
            Piece::Title => true,
            Piece::WithTitle(pieces) => !pieces.is_empty(),
            Piece::Literal(_) | Piece::Overview => false,
        })
    }

    /// Returns the word features of a movie, without those of the title if the template ignores
    /// titles.
    #[must_use]
    pub fn words(&self, title: &str, overview: &str) -> WordFeatures {
        WordFeatures::of(if self.uses_title() { title } else { "" }, overview)
    }

    /// Returns the text to encode, in NFC. Both fields are trimmed.
    #[must_use]
    pub fn compose(&self, title: &str, overview: &str) -> String {
        let mut text = String::with_capacity(self.source.len() + title.len() + overview.len());
        render(&self.pieces, title.trim(), overview.trim(), &mut text);
        match nfc(&text) {
            Cow::Owned(composed) => composed,
            Cow::Borrowed(_) => text,
        }
    }
}

fn render(pieces: &[Piece], title: &str, overview: &str, text: &mut String) {
    for piece in pieces {
        match piece {
            Piece::Literal(literal) => text.push_str(literal),
            Piece::Title => text.push_str(title),
            Piece::Overview => text.push_str(overview),
            Piece::WithTitle(section) if !title.is_empty() => render(section, title, overview, text),
            Piece::WithTitle(_) => {}
        }
    }
}

impl fmt::Display for InputTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn puts_the_title_before_the_overview_as_a_sentence() {
        let template = InputTemplate::parse(InputTemplate::TITLE_AND_OVERVIEW).unwrap();
        assert_eq!(template.compose(" Harbour ", "A pilot. "), "Harbour. A pilot.");
        assert_eq!(template.compose("  ", "A pilot."), "A pilot.");
    }

    #[test]
    fn composes_the_same_text_of_composed_and_decomposed_letters() {
        let template = InputTemplate::parse(InputTemplate::TITLE_AND_OVERVIEW).unwrap();
        let text = template.compose("Pin\u{303}ata", "El Nin\u{303}o");
        assert_eq!(text, "Pi\u{f1}ata. El Ni\u{f1}o");
        assert_eq!(text, template.compose("Pi\u{f1}ata", "El Ni\u{f1}o"));
    }

    #[test]
    fn reports_whether_a_template_uses_titles() {
        assert!(InputTemplate::parse(InputTemplate::TITLE_AND_OVERVIEW).unwrap().uses_title());
        assert!(!InputTemplate::parse("{overview}").unwrap().uses_title());
    }

    #[test]
    fn leaves_braces_in_a_movie_as_they_are() {
        let template = InputTemplate::parse(InputTemplate::TITLE_AND_OVERVIEW).unwrap();
        assert_eq!(template.compose("{overview}", "[{title}]"), "{overview}. [{title}]");
    }

    #[test]
    fn rejects_invalid_templates_with_a_reason() {
        for wrong in [
            "{genre}{overview}",
            "[{title}",
            "{title}]",
            "[[{title}]]{overview}",
            "[{title}{overview}]{overview}",
            "[{title}{overview}]",
            "{title}",
            "{",
            "}",
            "",
        ] {
            assert!(InputTemplate::parse(wrong).is_err(), "{wrong:?} was accepted");
        }
        let message = InputTemplate::parse("{genre}{overview}").unwrap_err().to_string();
        assert!(message.contains("found \"genre\""), "{message}");
    }

    proptest! {
        #[test]
        fn parses_or_rejects_any_text(source in "[\\[\\]{}a-z. é]{0,24}") {
            if let Ok(template) = InputTemplate::parse(&source) {
                prop_assert!(template.compose("T", "O").contains('O'));
            }
        }
    }
}
