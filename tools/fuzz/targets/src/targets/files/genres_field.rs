//! The `genres` column in each of its formats: a Python literal, JSON, and names separated by bars.
//!
//! Each input is read as a field in all three formats. It also becomes a list of genres that is
//! written as Python and as JSON, and both must be read as the same genres.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use genre_model::{GENRES, LabelSet, MovieLabels};
use movie_table::{GenresFormat, Quoting, Source};
use serde_json::Value;
use trainer::{DropReason, IngestOptions, MovieReader};

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
    // A table with a NUL is no text.
    if text.contains('\0') {
        return;
    }
    for format in [GenresFormat::Auto, GenresFormat::Python, GenresFormat::Json, GenresFormat::Pipe] {
        let begin = Instant::now();
        let found = bounded(data.len(), || read(format, &text));
        let took = begin.elapsed();
        assert!(took < TIME_LIMIT, "{format:?} took {took:?}, expected less than {TIME_LIMIT:?}");
        // White space around a field has no meaning.
        assert_eq!(found, read(format, &format!(" {text}\n")), "{format:?}: {text:?}");
        match (format, found) {
            (_, found) if text.trim().is_empty() => assert_eq!(found, Some(MovieLabels::default())),
            (GenresFormat::Json, found) => assert_eq!(found, json(&text), "{text:?}"),
            (GenresFormat::Pipe, found) => assert_eq!(found, Some(names(text.split('|'))), "{text:?}"),
            (GenresFormat::Python, Some(_)) => {
                assert!(text.trim().starts_with(['[', '(', '{']), "{text:?}");
            }
            (_, _) => {}
        }
    }
    round_trip(data);
}

/// Reads the field from a table with one movie. `None` means that the field is not in this format;
/// the empty set, that it names no known genre.
fn read(format: GenresFormat, field: &str) -> Option<MovieLabels> {
    let table = format!("id,title,overview,genres\n1,T,O.,\"{}\"\n", field.replace('"', "\"\""));
    let mut options = IngestOptions { genres_format: format, ..IngestOptions::default() };
    options.table.quoting = Some(Quoting::Double);
    options.table.delimiter = Some(",".parse().expect("a comma is a delimiter"));
    let path = file("genres.csv", table.as_bytes());
    let mut reader = match MovieReader::open(&Source::new(&path), &options) {
        Ok(reader) => reader,
        Err(error) => panic!("the header is valid: {error}"),
    };
    match reader.next() {
        Some(Ok(movie)) => Some(movie.labels),
        Some(Err(_)) => {
            let dropped: Vec<_> = reader.report().dropped.keys().copied().collect();
            match dropped[..] {
                [DropReason::NoGenres | DropReason::NoKnownGenre] => Some(MovieLabels::default()),
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

/// Returns the labels of a JSON field, or `None` if it is no list of genres.
fn json(text: &str) -> Option<MovieLabels> {
    if text.trim().len() > 64 << 10 {
        return None;
    }
    let entries = match serde_json::from_str(text.trim()).ok()? {
        Value::Array(entries) => entries,
        entry @ Value::Object(_) => vec![entry],
        _ => return None,
    };
    let whole = |value: &Value| match value {
        Value::String(text) => text.trim().parse().ok(),
        value => value.as_u64().or_else(|| {
            let number =
                value.as_f64().filter(|number| number.fract() == 0.0 && (0.0..1e15).contains(number));
            number.map(|number| number as u64)
        }),
    };
    let mut genres = Vec::new();
    for entry in &entries {
        let (id, name) = match entry {
            Value::Null => continue,
            Value::String(name) => {
                genres.push((None, Some(name.as_str())));
                continue;
            }
            Value::Number(_) => (whole(entry), None),
            Value::Object(_) => {
                let name = entry["name"].as_str().filter(|name| !name.trim().is_empty());
                (whole(&entry["id"]), name)
            }
            _ => return None,
        };
        if id.is_none() && name.is_none() {
            return None;
        }
        genres.push((id, name));
    }
    Some(of_genres(genres.into_iter()))
}

/// Returns the labels of genres with ids and names: by id, or by name if the id is unknown. A name
/// of digits alone is an id.
fn of_genres<'a>(genres: impl Iterator<Item = (Option<u64>, Option<&'a str>)>) -> MovieLabels {
    let (set, mut labels) = (LabelSet::built_in(), MovieLabels::default());
    for (id, name) in genres {
        let is_number = |name: &&str| id.is_none() && name.bytes().all(|byte| byte.is_ascii_digit());
        let id = id.or_else(|| name.map(str::trim).filter(is_number).and_then(|name| name.parse().ok()));
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
    let json = Value::from(json).to_string();
    if python.contains('\0') || json.contains('\0') {
        return;
    }
    for (format, field) in [
        (GenresFormat::Python, &python),
        (GenresFormat::Auto, &python),
        (GenresFormat::Json, &json),
        (GenresFormat::Auto, &json),
    ] {
        assert_eq!(read(format, field).as_ref(), Some(&expected), "{format:?}: {field}");
    }
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
