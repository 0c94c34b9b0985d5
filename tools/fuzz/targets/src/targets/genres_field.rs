//! The `genres` column in each of its formats: a Python literal, JSON, and names separated by bars.
//!
//! Each input is read as a field in all three formats. It also becomes a list of genres that is
//! written as Python and as JSON, and both must be read as the same genres.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use genre_model::{GENRES, LabelSet, MovieLabels};
use trainer::data::ingest::columns::{Columns, GenresFormat};
use trainer::{DropReason, KaggleReader};

use crate::harness::allocation::bounded;
use crate::harness::inputs::{file, seeds_of};
use crate::target::Target;

pub(crate) const TARGET: Target = Target {
    name: "genres_field",
    check,
    seeds,
    dictionary: &[
        "[",
        "]",
        "{",
        "}",
        "(",
        ")",
        "'",
        "\"",
        "'id'",
        ": ",
        ", ",
        "18",
        "None",
        "True",
        "\\",
        "\\x41",
        "\\u00e9",
        "\\N{BULLET}",
        "b'",
        "r'",
        "1e9",
        "0x12",
        "1j",
        "-",
        "+",
        "|",
        "Drama",
        "'name': 'Drama'",
        "[{'id': 18}]",
    ],
    max_len: 1024,
    cases: 4000,
};

/// Far longer than any field takes. A longer time means superlinear parsing.
const TIME_LIMIT: Duration = Duration::from_secs(5);

fn check(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for format in [GenresFormat::Python, GenresFormat::Json, GenresFormat::Pipe] {
        let begin = Instant::now();
        let found = bounded(data.len(), || read(format, &text));
        let took = begin.elapsed();
        assert!(took < TIME_LIMIT, "{format} took {took:?}, expected less than {TIME_LIMIT:?}");
        // White space around a field has no meaning.
        assert_eq!(found, read(format, &format!(" {text}\n")), "{format}: {text:?}");
        match (format, found) {
            (GenresFormat::Json, found) => assert_eq!(found, json(&text), "{text:?}"),
            (GenresFormat::Pipe, found) => assert_eq!(found, Some(names(text.split('|')))),
            (GenresFormat::Python, Some(_)) => assert!(text.trim().starts_with('['), "{text:?}"),
            (GenresFormat::Python, None) => {}
        }
    }
    round_trip(data);
}

/// Reads the field from a table with one movie. `None` means that the field is not in this format;
/// the empty set, that it names no known genre.
fn read(format: GenresFormat, field: &str) -> Option<MovieLabels> {
    let table = format!("id,title,overview,genres\n1,T,O.,\"{}\"\n", field.replace('"', "\"\""));
    let columns = Columns { genres_format: format, ..Columns::default() };
    let path = file("genres.csv", table.as_bytes());
    let mut reader = KaggleReader::open_with(&path, &columns).expect("the header is valid");
    match reader.next() {
        Some(Ok(movie)) => Some(movie.labels),
        Some(Err(_)) => {
            let dropped: Vec<_> = reader.report().dropped.keys().copied().collect();
            match dropped[..] {
                [DropReason::NoKnownGenre] => Some(MovieLabels::default()),
                [DropReason::UnreadableGenres] => None,
                _ => panic!("a genres field was dropped as {dropped:?}: {field:?}"),
            }
        }
        None => panic!("a table yields a movie or an error"),
    }
}

fn names<'a>(names: impl Iterator<Item = &'a str>) -> MovieLabels {
    of_genres(names.map(|name| (None, Some(name))))
}

fn json(text: &str) -> Option<MovieLabels> {
    let entries: Vec<serde_json::Value> = serde_json::from_str(text).ok()?;
    Some(of_genres(
        entries.iter().map(|entry| (entry["id"].as_u64(), entry.as_str().or(entry["name"].as_str()))),
    ))
}

/// Returns the labels of genres with ids and names: by id, or by name if the id is unknown.
fn of_genres<'a>(genres: impl Iterator<Item = (Option<u64>, Option<&'a str>)>) -> MovieLabels {
    let (set, mut labels) = (LabelSet::built_in(), MovieLabels::default());
    for (id, name) in genres {
        let by_name = || name.and_then(|name| set.index_of_name(name));
        if let Some(label) = id.and_then(|id| set.index_of_id(id)).or_else(by_name) {
            labels.insert(label);
        }
    }
    labels
}

/// Makes genres with names from `data`, writes them as Python and as JSON, and reads them back.
fn round_trip(data: &[u8]) {
    let Some((&count, data)) = data.split_first() else { return };
    let mut chunks = data.chunks((data.len() / (usize::from(count % 5) + 1)).max(1));
    let (mut python, mut json) = (Vec::new(), Vec::new());
    let mut expected = Vec::new();
    while let Some([id, name @ ..]) = chunks.next() {
        let name = String::from_utf8_lossy(name);
        // Sometimes an unknown genre.
        let id = GENRES.get(usize::from(id % 24)).map_or(11_176, |genre| genre.tmdb_id);
        expected.push((id, name.clone().into_owned()));
        python.push(format!("{{'id': {id}, 'name': {}}}", repr(&name)));
        json.push(serde_json::json!({"id": id, "name": name}));
    }
    let expected = of_genres(expected.iter().map(|(id, name)| (Some(u64::from(*id)), Some(name.as_str()))));
    let python = format!("[{}]", python.join(", "));
    assert_eq!(read(GenresFormat::Python, &python).as_ref(), Some(&expected), "{python}");
    let json = serde_json::Value::from(json).to_string();
    assert_eq!(read(GenresFormat::Json, &json), Some(expected), "{json}");
}

/// Writes a string like Python's `repr`: in single quotes, unless it contains those and no double
/// quotes.
fn repr(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::from(quote);
    for character in text.chars() {
        let _ = match character {
            '\\' => write!(out, "\\\\"),
            '\n' => write!(out, "\\n"),
            '\r' => write!(out, "\\r"),
            '\t' => write!(out, "\\t"),
            c if c == quote => write!(out, "\\{c}"),
            c if c.is_ascii_control() => write!(out, "\\x{:02x}", u32::from(c)),
            c if c.is_control() => write!(out, "\\x{:02x}", u32::from(c)),
            c if c.is_whitespace() && c != ' ' => write!(out, "\\u{:04x}", u32::from(c)),
            c => write!(out, "{c}"),
        };
    }
    out.push(quote);
    out
}

fn seeds() -> Vec<Vec<u8>> {
    let fields = [
        "[{'id': 18, 'name': 'Drama'}, {'id': 10752, 'name': 'War'}]",
        r#"[{"id": 18, "name": "O'Hara \"and\" sons \u00e9 \x41 é 電影 ["}, {'name': 'it\'s {', 'id': 37}]"#,
        "[]",
        "[{'id': 18}",
        "[[[[[]]]]]",
        "[((((1))))]",
        "[{'id': 18L}, None, True, 1.5, b'x', {1, 2}, ('a',), -7, 0x10, 1e400, 3j]",
        r#"["War", {"id": 18}, {"name": "Comedy"}, {"id": 1}, 7, null]"#,
        "Drama| Science Fiction |Sport||",
        "[{'id': 99999999999999999999}, {'id': 18.0}, {'id': '18'}]",
    ];
    seeds_of(fields)
}
