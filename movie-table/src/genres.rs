//! The genres of a movie, in every form that tables have them.
//!
//! `py_literal` parses Python literals. Its recursion is unbounded, so length and depth are checked
//! first.

use py_literal::Value as Literal;
use serde_json::Value;

/// The longest literal that is read. A movie's literal has a few hundred bytes.
const MAX_BYTES: usize = 64 << 10;
/// The deepest nesting that is read; a list of dictionaries has depth two. Each level doubles the
/// time of the parser and grows its stack, so a field of a thousand brackets would stop the run.
const MAX_DEPTH: usize = 4;

/// The form of a genres field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum GenresFormat {
    /// Detected for each movie: a list as JSON or Python, or names separated by |, ; or ,
    #[default]
    Auto,
    /// A Python list of names, ids, or dictionaries with `id` or `name`, as in Kaggle's file
    Python,
    /// A JSON list of names, ids, or objects with `id` or `name`
    Json,
    /// Names separated by |
    Pipe,
    /// Names separated by ,
    Comma,
    /// Names separated by ;
    Semicolon,
}

/// A genre as found: its id, its name, or both.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Genre {
    /// The id, such as TMDB's.
    pub id: Option<u64>,
    /// The name, trimmed.
    pub name: Option<String>,
}

/// Why a field cannot be read as genres.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnreadableGenres {
    /// The literal is too long or nested too deeply.
    #[error("expected genres of at most {MAX_BYTES} bytes, nested at most {MAX_DEPTH} deep")]
    TooLarge,
    /// The field is not in the expected form.
    #[error("expected a list of genres, found {found}")]
    NotAList {
        /// The field.
        found: String,
    },
    /// An entry of the list is not a genre.
    #[error("expected names, ids or objects with a name or an id as genres, found {found}")]
    NotAGenre {
        /// The entry.
        found: String,
    },
}

/// A genres field as found.
#[derive(Debug, Clone, PartialEq)]
pub enum GenresField {
    /// The field of a delimited table.
    Text(String),
    /// A value in JSON.
    Json(Value),
}

impl GenresField {
    /// Returns the genres of the field; none if it is empty or null.
    pub fn genres(&self, format: GenresFormat) -> Result<Vec<Genre>, UnreadableGenres> {
        match self {
            Self::Text(text) | Self::Json(Value::String(text)) => of_text(text, format),
            Self::Json(Value::Null) => Ok(Vec::new()),
            Self::Json(Value::Array(entries)) => of_entries(entries),
            Self::Json(entry) => of_entries(std::slice::from_ref(entry)),
        }
    }
}

impl Genre {
    fn id(id: u64) -> Self {
        Self { id: Some(id), name: None }
    }

    /// A genre from a text: its name, or its id if it is a number.
    fn named(text: &str) -> Option<Self> {
        let name = text.trim();
        if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit()) {
            return name.parse().ok().map(Self::id);
        }
        (!name.is_empty()).then(|| Self { id: None, name: Some(name.to_owned()) })
    }
}

impl std::fmt::Display for Genre {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.name, self.id) {
            (Some(name), _) => f.write_str(name),
            (None, Some(id)) => write!(f, "id {id}"),
            (None, None) => f.write_str("a genre without a name"),
        }
    }
}

fn of_text(field: &str, format: GenresFormat) -> Result<Vec<Genre>, UnreadableGenres> {
    let text = field.trim();
    let is_absent = |text: &str| matches!(text, "" | "nan" | "NaN" | "None" | "null" | "NULL" | "\\N");
    match format {
        GenresFormat::Json => json(text),
        GenresFormat::Python => python(text),
        GenresFormat::Pipe => Ok(separated(text, '|')),
        GenresFormat::Comma => Ok(separated(text, ',')),
        GenresFormat::Semicolon => Ok(separated(text, ';')),
        GenresFormat::Auto if is_absent(text) => Ok(Vec::new()),
        GenresFormat::Auto if text.starts_with(['[', '{', '(']) => {
            // Kaggle's literals are not JSON, so JSON fails at their second or third byte.
            json(text).or_else(|_| python(text))
        }
        GenresFormat::Auto => Ok(separated(
            text,
            ['|', ';'].into_iter().find(|separator| text.contains(*separator)).unwrap_or(','),
        )),
    }
}

fn separated(text: &str, separator: char) -> Vec<Genre> {
    text.split(separator).filter_map(Genre::named).collect()
}

fn not_a_list(field: &str) -> UnreadableGenres {
    UnreadableGenres::NotAList { found: crate::error::shown(field) }
}

fn json(field: &str) -> Result<Vec<Genre>, UnreadableGenres> {
    if field.len() > MAX_BYTES {
        return Err(UnreadableGenres::TooLarge);
    }
    match serde_json::from_str(field) {
        Ok(Value::Array(entries)) => of_entries(&entries),
        Ok(entry @ Value::Object(_)) => of_entries(&[entry]),
        _ => Err(not_a_list(field)),
    }
}

fn of_entries(entries: &[Value]) -> Result<Vec<Genre>, UnreadableGenres> {
    let mut genres = Vec::with_capacity(entries.len());
    for entry in entries {
        let genre = match entry {
            Value::Null => continue,
            Value::String(text) => Genre::named(text),
            Value::Number(_) => whole(entry).map(Genre::id),
            Value::Object(fields) => {
                let name = fields.get("name").and_then(Value::as_str);
                of_object(fields.get("id").and_then(whole), name)
            }
            Value::Bool(_) | Value::Array(_) => None,
        };
        match genre {
            Some(genre) => genres.push(genre),
            None if entry.as_str().is_some() => {}
            None => {
                return Err(UnreadableGenres::NotAGenre { found: crate::error::shown(&entry.to_string()) });
            }
        }
    }
    Ok(genres)
}

/// A number, or a text of digits, as an id.
fn whole(value: &Value) -> Option<u64> {
    match value {
        Value::String(text) => text.trim().parse().ok(),
        Value::Number(number) => number.as_u64().or_else(|| integral(number.as_f64()?)),
        _ => None,
    }
}

fn integral(value: f64) -> Option<u64> {
    (value.fract() == 0.0 && (0.0..1e15).contains(&value)).then_some(value as u64)
}

fn of_object(id: Option<u64>, name: Option<&str>) -> Option<Genre> {
    let name = name.map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned);
    (id.is_some() || name.is_some()).then_some(Genre { id, name })
}

fn python(field: &str) -> Result<Vec<Genre>, UnreadableGenres> {
    if field.len() > MAX_BYTES || depth(field) > MAX_DEPTH {
        return Err(UnreadableGenres::TooLarge);
    }
    let entries = match field.parse() {
        Ok(Literal::List(entries) | Literal::Tuple(entries) | Literal::Set(entries)) => entries,
        Ok(entry @ Literal::Dict(_)) => vec![entry],
        _ => return Err(not_a_list(field)),
    };
    let mut genres = Vec::with_capacity(entries.len());
    for entry in &entries {
        let genre = match entry {
            Literal::None => continue,
            Literal::String(text) => Genre::named(text),
            Literal::Integer(_) | Literal::Float(_) => number(entry).map(Genre::id),
            Literal::Dict(fields) => {
                let value = |wanted: &str| {
                    let is_it = |key: &Literal| key.as_string().is_some_and(|key| key == wanted);
                    fields.iter().find(|(key, _)| is_it(key)).map(|(_, value)| value)
                };
                let name = value("name").and_then(|name| name.as_string()).map(String::as_str);
                of_object(value("id").and_then(number), name)
            }
            _ => None,
        };
        match genre {
            Some(genre) => genres.push(genre),
            None if entry.is_string() => {}
            None => {
                return Err(UnreadableGenres::NotAGenre { found: crate::error::shown(&entry.to_string()) });
            }
        }
    }
    Ok(genres)
}

fn number(value: &Literal) -> Option<u64> {
    match value {
        Literal::Integer(id) => u64::try_from(id).ok(),
        Literal::Float(id) => integral(*id),
        Literal::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// Returns how deep brackets are nested outside strings. A character by its name, such as
/// `\N{BULLET}`, counts as too deep: quotes in the name would hide the brackets after it, and Python
/// never writes one.
fn depth(literal: &str) -> usize {
    let (mut depth, mut deepest, mut quote) = (0_usize, 0, None);
    let mut bytes = literal.bytes();
    while let Some(byte) = bytes.next() {
        match (quote, byte) {
            (Some(_), b'\\') => {
                if bytes.next() == Some(b'N') && bytes.clone().next() == Some(b'{') {
                    return usize::MAX;
                }
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
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn read(format: GenresFormat, field: &str) -> Vec<String> {
        let genres = GenresField::Text(field.to_owned()).genres(format).unwrap();
        let shown = |genre: &Genre| match (genre.id, &genre.name) {
            (Some(id), Some(name)) => format!("{id} {name}"),
            (Some(id), None) => id.to_string(),
            (None, name) => name.clone().unwrap(),
        };
        genres.iter().map(shown).collect()
    }

    #[test]
    fn detects_every_form() {
        for (field, expected) in [
            ("[{'id': 18, 'name': 'Drama'}, {'id': 10752, 'name': 'War'}]", &["18 Drama", "10752 War"][..]),
            (r#"[{"id": 18, "name": "Drama"}, {"name": " War "}]"#, &["18 Drama", "War"]),
            ("['Drama', \"War\"]", &["Drama", "War"]),
            (r#"["Drama", "War"]"#, &["Drama", "War"]),
            ("[18, 35.0, None]", &["18", "35"]),
            ("('Drama', 'War')", &["Drama", "War"]),
            ("{'Drama'}", &["Drama"]),
            ("{'id': 18}", &["18"]),
            ("Drama, War", &["Drama", "War"]),
            ("Drama|Sci-Fi", &["Drama", "Sci-Fi"]),
            ("drama; Music, and dance", &["drama", "Music, and dance"]),
            ("18,35", &["18", "35"]),
            (" Science Fiction ", &["Science Fiction"]),
            ("[]", &[]),
            ("", &[]),
            ("nan", &[]),
            (
                r#"[{"id": 18, "name": "O'Hara \"and\" sons \u00e9"}, {'name': 'it\'s {', 'id': 37}]"#,
                &["18 O'Hara \"and\" sons é", "37 it's {"],
            ),
        ] {
            assert_eq!(read(GenresFormat::Auto, field), expected, "{field}");
        }
        assert_eq!(read(GenresFormat::Pipe, "a, b|c"), ["a, b", "c"]);
        assert_eq!(read(GenresFormat::Comma, "a|b,c"), ["a|b", "c"]);
    }

    #[test]
    fn reads_json_values() {
        let read = |value| GenresField::Json(value).genres(GenresFormat::Auto).unwrap().len();
        assert_eq!(read(json!(["Drama", 18, {"id": "35"}, null])), 3);
        assert_eq!(read(json!("Drama|War")), 2);
        assert_eq!((read(json!(18)), read(json!(null)), read(json!({"name": "War"}))), (1, 0, 1));
    }

    #[test]
    fn rejects_a_field_that_is_no_list_of_genres() {
        let error =
            |field: &str, format| GenresField::Text(field.to_owned()).genres(format).unwrap_err().to_string();
        assert!(error("[{'id': 18}", GenresFormat::Auto).contains("found \"[{'id': 18}\""));
        assert!(error("'Drama'", GenresFormat::Python).contains("expected a list"));
        assert!(error("[{'genre': 'x'}]", GenresFormat::Auto).contains("as genres, found"));
        assert!(error("[[1]]", GenresFormat::Json).contains("found \"[1]\""));
        assert!(error("[-18]", GenresFormat::Auto).contains("found \"-18\""));
        for field in ["[".repeat(60_000), "[".repeat(100_000), "[[[[[]]]]]".to_owned()] {
            let found = python(&field);
            assert_eq!(found, Err(UnreadableGenres::TooLarge), "deep nesting neither overflows nor stalls");
            assert!(of_text(&field, GenresFormat::Auto).is_err());
        }
    }

    #[test]
    fn rejects_brackets_behind_the_name_of_a_character_at_once() {
        let field = format!("['\\N{{'}}', {}{}]", "[".repeat(60), "]".repeat(60));
        for format in [GenresFormat::Auto, GenresFormat::Python] {
            assert_eq!(of_text(&field, format), Err(UnreadableGenres::TooLarge));
        }
    }

    proptest! {
        #[test]
        fn never_panics(field in "[\\[\\]{}(),:'\"\\\\ bBxuN0-9eEj+._a-dé\n|;-]{0,40}") {
            let _ = of_text(&field, GenresFormat::Auto);
        }
    }
}
