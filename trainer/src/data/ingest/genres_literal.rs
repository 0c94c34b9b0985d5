//! Genres as a Python literal such as `[{'id': 18, 'name': 'Drama'}]`.
//!
//! `py_literal` parses the literal. Its recursion is unbounded, so length and depth are checked
//! first.

use py_literal::Value;

use crate::data::ingest::written_genre::WrittenGenre;

/// The longest literal that is read. A movie's literal has a few hundred bytes.
const MAX_BYTES: usize = 64 << 10;
/// The deepest nesting that is read; a list of dictionaries has depth two. Each level doubles the
/// time of the parser and grows its stack, so a field of a thousand brackets would stop the run.
const MAX_DEPTH: usize = 4;

/// Why a field cannot be read as genres.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum UnreadableGenres {
    #[error("expected a Python literal of at most {MAX_BYTES} bytes, nested at most {MAX_DEPTH} deep")]
    TooLarge,
    #[error("expected a Python literal")]
    Syntax,
    #[error("expected a list")]
    NotAList,
}

/// Reads a field. Entries other than dictionaries are ignored.
pub(crate) fn parse(field: &str) -> Result<Vec<WrittenGenre>, UnreadableGenres> {
    let field = field.trim();
    if field.len() > MAX_BYTES || depth(field) > MAX_DEPTH {
        return Err(UnreadableGenres::TooLarge);
    }
    let value: Value = field.parse().map_err(|_| UnreadableGenres::Syntax)?;
    let Value::List(entries) = value else {
        return Err(UnreadableGenres::NotAList);
    };
    Ok(entries.iter().filter_map(genre).collect())
}

fn genre(entry: &Value) -> Option<WrittenGenre> {
    let entry = entry.as_dict()?;
    let value = |name: &str| {
        let is_it = |key: &Value| key.as_string().is_some_and(|key| key == name);
        entry.iter().find(|(key, _)| is_it(key)).map(|(_, value)| value)
    };
    let id = value("id").and_then(Value::as_integer).and_then(|id| u64::try_from(id).ok());
    let name = value("name").and_then(Value::as_string);
    Some(WrittenGenre { id, ..name.map(|name| WrittenGenre::named(name)).unwrap_or_default() })
}

/// Returns how deep brackets are nested outside strings.
fn depth(literal: &str) -> usize {
    let (mut depth, mut deepest, mut quote) = (0_usize, 0, None);
    let mut bytes = literal.bytes();
    while let Some(byte) = bytes.next() {
        match (quote, byte) {
            (Some(_), b'\\') => {
                bytes.next();
            }
            (Some(open), _) if byte == open => quote = None,
            (None, b'\'' | b'"') => quote = Some(byte),
            (None, b'[' | b'(' | b'{') => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            (None, b']' | b')' | b'}') => depth = depth.saturating_sub(1),
            (Some(_) | None, _) => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use genre_model::{LabelSet, MovieLabels};
    use proptest::prelude::*;

    use super::*;

    fn names(field: &str) -> Vec<String> {
        let (set, mut labels) = (LabelSet::built_in(), MovieLabels::default());
        parse(field)
            .unwrap()
            .iter()
            .filter_map(|genre| genre.label(&set))
            .for_each(|label| labels.insert(label));
        set.names_of(&labels).map(str::to_owned).collect()
    }

    #[test]
    fn reads_known_ids_and_ignores_others() {
        let field =
            "[{'id': 35, 'name': 'Comedy'}, {'id': 11176, 'name': 'Carousel'}, {'id': 18, 'name': 'Drama'}]";
        assert_eq!(names(field), ["Comedy", "Drama"]);
        assert_eq!(names("[]"), [""; 0]);
        assert_eq!(names("[{'name': 'no id'}, 7, None, {'id': 'text'}, {'id': -18}]"), [""; 0]);
        assert_eq!(names("[{'name': 'Sci-Fi'}, {'id': 7, 'name': 'war'}]"), ["Science Fiction", "War"]);
    }

    #[test]
    fn reads_quotes_escapes_and_unicode_in_names() {
        let field = r#"[{"id": 18, "name": "O'Hara \"and\" sons \u00e9 \x41 é 電影 ["}, {'name': 'it\'s {', 'id': 37}]"#;
        assert_eq!(names(field), ["Drama", "Western"]);
    }

    #[test]
    fn rejects_anything_but_a_list() {
        for field in
            ["", "  ", "[", "nan", "[{'id': 18}", "[{\"id\": null}]", "[{'id': 18, 'name': 'O'Hara'}]"]
        {
            assert_eq!(parse(field), Err(UnreadableGenres::Syntax), "{field}");
        }
        assert_eq!(parse("{'id': 18}"), Err(UnreadableGenres::NotAList));
        assert_eq!(parse("'Drama'"), Err(UnreadableGenres::NotAList));
    }

    #[test]
    fn deep_nesting_neither_overflows_nor_stalls() {
        assert_eq!(parse(&"[".repeat(60_000)), Err(UnreadableGenres::TooLarge));
        assert_eq!(parse(&"[".repeat(100_000)), Err(UnreadableGenres::TooLarge));
        assert_eq!(parse("[[[[[]]]]]"), Err(UnreadableGenres::TooLarge));
    }

    proptest! {
        #[test]
        fn never_panics(field in "[\\[\\]{}(),:'\"\\\\ bBxuN0-9eEj+._a-dé\n-]{0,40}") {
            let _ = parse(&field);
        }
    }
}
