//! How a movie becomes the one text that is encoded.

use std::fmt;

use crate::WordFeatures;

/// A template such as `[{title}. ]{overview}`.
///
/// `{title}` and `{overview}` are replaced; a part in square brackets is left out when the title is blank, so that a
/// movie without a title does not begin with a lone full stop. It stands in the model file, so that the trainer and
/// the classifier can never compose differently.
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
    /// Rendered only where there is a title.
    WithTitle(Vec<Piece>),
}

/// Why a text is no template.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidTemplate {
    /// Something else than the two fields stands in braces.
    #[error("template {template:?}: expected {{title}} or {{overview}}, found {found:?}")]
    UnknownField {
        /// The whole template.
        template: String,
        /// What stands in the braces.
        found: String,
    },
    /// A bracket or brace without its twin, or a nested one.
    #[error("template {template:?}: unbalanced or nested '{found}'")]
    Unbalanced {
        /// The whole template.
        template: String,
        /// The character without a twin.
        found: char,
    },
    /// Without its overview every movie would be the same text.
    #[error("template {template:?}: expected {{overview}} exactly once, outside of square brackets")]
    NoOverview {
        /// The whole template.
        template: String,
    },
}

impl InputTemplate {
    /// The title, where there is one, as a sentence before the overview.
    pub const TITLE_AND_OVERVIEW: &'static str = "[{title}. ]{overview}";
    /// The overview alone, as in the reference system.
    pub const OVERVIEW: &'static str = "{overview}";

    /// Reads a template.
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
        if pieces.iter().filter(|piece| **piece == Piece::Overview).count() != 1 {
            return Err(InvalidTemplate::NoOverview { template: source.to_owned() });
        }
        Ok(Self { source: source.to_owned(), pieces })
    }

    /// Whether a title makes any difference.
    #[must_use]
    pub fn uses_title(&self) -> bool {
        self.pieces.iter().any(|piece| match piece {
            Piece::Title => true,
            Piece::WithTitle(pieces) => !pieces.is_empty(),
            Piece::Literal(_) | Piece::Overview => false,
        })
    }

    /// The words of a movie; those of its title only where a title makes a difference.
    #[must_use]
    pub fn words(&self, title: &str, overview: &str) -> WordFeatures {
        WordFeatures::of(if self.uses_title() { title } else { "" }, overview)
    }

    /// The text to encode. Surrounding white space of both fields is dropped.
    #[must_use]
    pub fn compose(&self, title: &str, overview: &str) -> String {
        let mut text = String::with_capacity(self.source.len() + title.len() + overview.len());
        render(&self.pieces, title.trim(), overview.trim(), &mut text);
        text
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
    fn a_title_becomes_a_sentence_before_the_overview() {
        let template = InputTemplate::parse(InputTemplate::TITLE_AND_OVERVIEW).unwrap();
        assert_eq!(template.compose(" Harbour ", "A pilot. "), "Harbour. A pilot.");
        assert_eq!(template.compose("  ", "A pilot."), "A pilot.");
    }

    #[test]
    fn a_template_says_whether_titles_matter() {
        assert!(InputTemplate::parse(InputTemplate::TITLE_AND_OVERVIEW).unwrap().uses_title());
        assert!(!InputTemplate::parse("{overview}").unwrap().uses_title());
    }

    #[test]
    fn braces_in_a_movie_are_left_as_they_are() {
        let template = InputTemplate::parse(InputTemplate::TITLE_AND_OVERVIEW).unwrap();
        assert_eq!(template.compose("{overview}", "[{title}]"), "{overview}. [{title}]");
    }

    #[test]
    fn what_is_no_template_is_refused_with_its_reason() {
        for wrong in
            ["{genre}{overview}", "[{title}", "{title}]", "[[{title}]]{overview}", "{title}", "{", "}", ""]
        {
            assert!(InputTemplate::parse(wrong).is_err(), "{wrong:?} was accepted");
        }
        let message = InputTemplate::parse("{genre}{overview}").unwrap_err().to_string();
        assert!(message.contains("found \"genre\""), "{message}");
    }

    proptest! {
        #[test]
        fn any_text_is_a_template_or_an_error(source in "[\\[\\]{}a-z. é]{0,24}") {
            if let Ok(template) = InputTemplate::parse(&source) {
                prop_assert!(template.compose("T", "O").contains('O'));
            }
        }
    }
}
