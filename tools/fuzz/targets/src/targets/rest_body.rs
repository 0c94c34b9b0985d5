//! JSON bodies over HTTP, from their bytes to genres or a problem that names the field.

use serde_json::{Map, Value};

use crate::harness::rules::{MAX_BATCH, Violations, wrong_batch, wrong_movie};
use crate::harness::services::SERVICES;
use crate::target::Target;

pub(crate) const TARGET: Target = Target {
    name: "rest_body",
    check,
    seeds,
    words: &[
        "\"title\"",
        "\"overview\"",
        "\"movies\"",
        "\"include_scores\"",
        "\"explain\"",
        "true",
        "null",
        "\\ud800",
        "\\u0000",
        "\\ud83c\\udfac",
        "[",
        "]",
        "{",
        "}",
        ",",
        ":",
        "1e999",
        "\u{feff}",
        "é",
        "\"",
    ],
    max_len: 2048,
    cases: 1500,
};

const PATHS: [&str; 3] = ["/v1/movies:classify", "/v1/movies:batchClassify", "/predict_genre/"];
/// All that this API can say of a body.
const REASONS: [&str; 6] =
    ["INVALID_JSON", "EMPTY_TEXT", "TEXT_TOO_LONG", "EMPTY_BATCH", "BATCH_TOO_LARGE", "LENGTHS_DIFFER"];

/// The first byte says where the rest is sent to.
fn check(data: &[u8]) {
    let Some((&first, body)) = data.split_first() else { return };
    let kind = usize::from(first) % PATHS.len();
    let expected = understood(kind, body);
    let (status, content_type, answer) = SERVICES.post(PATHS[kind], body.to_vec());
    let answer: Value = serde_json::from_slice(&answer).expect("every answer is JSON");
    match expected {
        Understood::Movies(movies, wrong) if wrong.is_empty() => {
            assert_eq!((status, content_type.as_str()), (200, "application/json"), "{answer}");
            is_sound(kind, &movies, &answer);
        }
        Understood::Movies(_, wrong) => is_refused(status, &content_type, &answer, Some(&wrong)),
        // The reference takes any other key, and what stands under it is not read: only that it is text.
        Understood::Nothing if kind == 2 && status == 200 => assert!(std::str::from_utf8(body).is_ok()),
        Understood::Nothing => {
            is_refused(status, &content_type, &answer, None);
            assert_eq!(answer["reason"], "INVALID_JSON");
        }
    }
}

/// What a body says, read in another way than the service reads it.
enum Understood {
    Movies(Vec<(String, String)>, Violations),
    Nothing,
}

fn understood(kind: usize, body: &[u8]) -> Understood {
    let read = match kind {
        0 => object(body).and_then(|object| classify(&object)),
        1 => object(body).and_then(|object| batch(&object)),
        _ => object(body).and_then(|object| reference(&object)),
    };
    read.map_or(Understood::Nothing, |(movies, wrong)| Understood::Movies(movies, wrong))
}

type Movies = (Vec<(String, String)>, Violations);

/// An object, none of whose objects names a key twice.
fn object(body: &[u8]) -> Option<Map<String, Value>> {
    let value: Value = serde_json::from_slice(body).ok()?;
    let unique: Unique = serde_json::from_slice(body).ok()?;
    let Value::Object(object) = value else { return None };
    unique.0.then_some(object)
}

fn movie(object: &Map<String, Value>) -> Option<(String, String)> {
    let text = |key: &str| object.get(key).map(|value| value.as_str().map(str::to_owned));
    Some((text("title").unwrap_or(Some(String::new()))?, text("overview")??))
}

fn has_only(object: &Map<String, Value>, keys: &[&str]) -> bool {
    object.keys().all(|key| keys.contains(&key.as_str()))
}

fn are_flags(object: &Map<String, Value>, keys: &[&str]) -> bool {
    keys.iter().all(|key| object.get(*key).is_none_or(Value::is_boolean))
}

fn classify(object: &Map<String, Value>) -> Option<Movies> {
    let flags = ["include_scores", "explain"];
    if !has_only(object, &["title", "overview", flags[0], flags[1]]) || !are_flags(object, &flags) {
        return None;
    }
    let (title, overview) = movie(object)?;
    let wrong = wrong_movie("", &title, &overview);
    Some((vec![(title, overview)], wrong))
}

fn batch(object: &Map<String, Value>) -> Option<Movies> {
    if !has_only(object, &["movies", "include_scores"]) || !are_flags(object, &["include_scores"]) {
        return None;
    }
    let movie = |value: &Value| {
        let object = value.as_object().filter(|object| has_only(object, &["title", "overview"]))?;
        movie(object)
    };
    let movies: Vec<_> = object.get("movies")?.as_array()?.iter().map(movie).collect::<Option<_>>()?;
    let mut wrong = wrong_batch("movies", movies.len(), MAX_BATCH);
    if wrong.is_empty() {
        let movies = movies.iter().enumerate();
        wrong = movies.flat_map(|(i, (t, o))| wrong_movie(&format!("movies[{i}]."), t, o)).collect();
    }
    Some((movies, wrong))
}

fn reference(object: &Map<String, Value>) -> Option<Movies> {
    let texts = |key: &str| -> Option<Vec<String>> {
        object.get(key)?.as_array()?.iter().map(|value| value.as_str().map(str::to_owned)).collect()
    };
    let (titles, overviews) = (texts("title")?, texts("overview")?);
    if titles.len() != overviews.len() {
        return Some((Vec::new(), vec![("overview".to_owned(), "LENGTHS_DIFFER")]));
    }
    let movies: Vec<_> = titles.into_iter().zip(overviews).collect();
    let mut wrong = wrong_batch("overview", movies.len(), MAX_BATCH);
    if wrong.is_empty() {
        for (index, (title, overview)) in movies.iter().enumerate() {
            let in_column = |(field, reason)| (format!("{field}[{index}]"), reason);
            wrong.extend(wrong_movie("", title, overview).into_iter().map(in_column));
        }
    }
    Some((movies, wrong))
}

fn is_refused(status: u16, content_type: &str, answer: &Value, expected: Option<&Violations>) {
    assert_eq!((status, content_type), (400, "application/problem+json"), "{answer}");
    let reason = answer["reason"].as_str().unwrap_or_default();
    assert!(REASONS.contains(&reason), "{answer}");
    assert_eq!(answer["type"], format!("urn:movieclassifier:error:{reason}"));
    let errors = answer["errors"].as_array().expect("a refusal names its fields");
    let text = |error: &Value, key: &str| error[key].as_str().unwrap_or_default().to_owned();
    assert!(
        errors.iter().all(|error| !text(error, "field").is_empty() && !text(error, "description").is_empty())
    );
    if let Some(expected) = expected {
        let found: Vec<_> =
            errors.iter().map(|error| (text(error, "field"), text(error, "reason"))).collect();
        let expected: Vec<_> = expected.iter().map(|(f, r)| (f.clone(), (*r).to_owned())).collect();
        assert_eq!(found, expected);
    }
}

fn is_sound(kind: usize, movies: &[(String, String)], answer: &Value) {
    let results: Vec<&Value> = match kind {
        0 => vec![answer],
        1 => answer["results"].as_array().map(|all| all.iter().collect()).unwrap_or_default(),
        _ => {
            let answers = answer.as_array().expect("the reference answers a list");
            assert_eq!(answers.len(), movies.len());
            for (answer, (title, overview)) in answers.iter().zip(movies) {
                assert_eq!(
                    (&answer["title"], &answer["overview"]),
                    (&title[..].into(), &overview[..].into())
                );
                assert!(answer["genre"].is_string());
            }
            return;
        }
    };
    assert_eq!(results.len(), movies.len(), "one answer for each movie");
    for result in results {
        let genres = result["genres"].as_array().expect("an answer has genres");
        let number = |genre: &Value, key: &str| genre[key].as_f64().expect("a number");
        assert!(genres.iter().all(|genre| number(genre, "probability") > number(genre, "threshold")));
        assert!(genres.is_sorted_by(|a, b| number(a, "probability") >= number(b, "probability")));
        assert!(result["model_version"].is_string() && result["truncated"].is_boolean());
    }
}

/// Whether no object within names a key twice, which `Value` does not tell.
struct Unique(bool);

impl<'de> serde::Deserialize<'de> for Unique {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueVisitor)
    }
}

struct UniqueVisitor;

impl<'de> serde::de::Visitor<'de> for UniqueVisitor {
    type Value = Unique;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Unique, E> {
        Ok(Unique(true))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Unique, E> {
        Ok(Unique(true))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Unique, E> {
        Ok(Unique(true))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Unique, E> {
        Ok(Unique(true))
    }

    fn visit_str<E>(self, _: &str) -> Result<Unique, E> {
        Ok(Unique(true))
    }

    fn visit_unit<E>(self) -> Result<Unique, E> {
        Ok(Unique(true))
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut values: A) -> Result<Unique, A::Error> {
        let mut unique = true;
        while let Some(Unique(value)) = values.next_element()? {
            unique &= value;
        }
        Ok(Unique(unique))
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut entries: A) -> Result<Unique, A::Error> {
        let mut unique = true;
        let mut keys = std::collections::HashSet::new();
        while let Some((key, Unique(value))) = entries.next_entry::<String, Unique>()? {
            unique &= value & keys.insert(key);
        }
        Ok(Unique(unique))
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let bodies = [
        r#"0{"title": "Reef", "overview": "A diver loses her map. A storm.", "include_scores": true, "explain": true}"#,
        r#"0{"overview": "Un phare \ud83c\udfac é"}"#,
        r#"0{"overview": "x", "overview": "y"}"#,
        r#"0["Reef", "A diver.", true, false]"#,
        r#"0{"overview": "\ud800"}"#,
        r#"0{"overview": "A plain movie."} trailing"#,
        r#"0{"overview": " \u0000\ufeff", "title": "a title of more than twenty letters"}"#,
        r#"1{"movies": [{"overview": "A heist."}, {"title": "T", "overview": "A duel."}], "include_scores": false}"#,
        r#"1{"movies": [{"overview": ""}, ["T", "A duel."], {"overview": "x", "year": 1}]}"#,
        r#"1{"movies": []}"#,
        r#"2{"title": ["Reef", ""], "overview": ["A diver.", "A train."], "more": [1, null]}"#,
        r#"2{"title": [], "overview": ["A diver."]}"#,
        r#"2{"title": ["", ""], "overview": ["", "ok"]}"#,
    ];
    bodies.iter().map(|body| body.as_bytes().to_vec()).collect()
}
