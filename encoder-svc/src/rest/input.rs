//! The field `input`: a text or a list of texts.

use std::fmt;

use proto::LARGEST_BATCH;
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, SeqAccess, Visitor};

/// The texts of a request.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Input {
    /// At most as many texts as the largest batch has. Others are only counted, because an empty text
    /// takes more memory than its three bytes of JSON.
    pub(super) texts: Vec<String>,
    /// The number of texts in the request.
    pub(super) count: usize,
}

impl<'de> Deserialize<'de> for Input {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(InputVisitor)
    }
}

struct InputVisitor;

impl<'de> Visitor<'de> for InputVisitor {
    type Value = Input;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a text or a list of texts")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Input, E> {
        Ok(Input { texts: vec![text.to_owned()], count: 1 })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Input, A::Error> {
        let mut texts = Vec::new();
        while texts.len() < LARGEST_BATCH {
            let Some(Text(text)) = list.next_element()? else { break };
            texts.push(text);
        }
        let mut count = texts.len();
        while list.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
        }
        Ok(Input { texts, count })
    }
}

/// A text of a list.
struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextVisitor).map(Text)
    }
}

struct TextVisitor;

fn token_ids<E: Error>() -> E {
    E::custom("expected a text, found token ids; send texts, because the encoder has a tokenizer of its own")
}

impl<'de> Visitor<'de> for TextVisitor {
    type Value = String;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a text")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }

    fn visit_string<E: Error>(self, text: String) -> Result<String, E> {
        Ok(text)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<String, E> {
        Err(token_ids())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<String, E> {
        Err(token_ids())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<String, A::Error> {
        Err(token_ids())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(json: &str) -> Result<Input, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn is_a_text_or_a_list_of_texts() {
        let texts = |texts: &[&str]| Input {
            texts: texts.iter().map(ToString::to_string).collect(),
            count: texts.len(),
        };
        assert_eq!(input(r#""a\u00e9""#).unwrap(), texts(&["aé"]));
        assert_eq!(input(r#"["a", "\ud83c\udfac", ""]"#).unwrap(), texts(&["a", "🎬", ""]));
        assert_eq!(input("[]").unwrap(), Input::default());
    }

    #[test]
    fn rejects_token_ids_and_says_what_to_send() {
        for json in ["[1, 2]", "[[1, 2], [3]]", r#"["a", -1]"#] {
            assert!(input(json).unwrap_err().starts_with("expected a text, found token ids; send texts"));
        }
    }

    #[test]
    fn rejects_other_types() {
        for json in ["null", "1", "true", "{}", "[null]", "[true]", "[{}]", "[1.5]", "[\"a\"", ""] {
            assert!(input(json).is_err(), "{json}");
        }
    }

    #[test]
    fn counts_but_does_not_keep_texts_beyond_any_limit() {
        let json = format!("[{}\"\"]", "\"\",".repeat(LARGEST_BATCH + 8));
        let input = input(&json).unwrap();
        assert_eq!((input.texts.len(), input.count), (LARGEST_BATCH, LARGEST_BATCH + 9));
    }
}
