//! JSON bodies over HTTP, from their bytes to genres or a problem that names the field.

use serde_json::{Map, Value};

use crate::harness::inputs::{json_dictionary, seeds_of};
use crate::harness::rules::{
    MAX_BATCH, Violations, batch_violations, fits_selection, movie_violations, selection_violations,
};
use crate::harness::services::SERVICES;
use crate::target::Target;

pub(crate) const TARGET: Target = Target {
    name: "rest_body",
    check,
    seeds,
    dictionary: json_dictionary![
        "\"title\"",
        "\"overview\"",
        "\"movies\"",
        "\"include_scores\"",
        "\"explain\"",
        "\"min_probability\"",
        "\"top_k\"",
        "true",
    ],
    max_len: 2048,
    cases: 1500,
};

const PATHS: [&str; 3] = ["/v1/movies:classify", "/v1/movies:batchClassify", "/predict_genre/"];
/// The reasons with which the API can reject a body.
const REASONS: [&str; 7] = [
    "INVALID_JSON",
    "EMPTY_TEXT",
    "TEXT_TOO_LONG",
    "EMPTY_BATCH",
    "BATCH_TOO_LARGE",
    "LENGTHS_DIFFER",
    "OUT_OF_RANGE",
];

/// The first byte selects the path, the rest is the body.
fn check(data: &[u8]) {
    let Some((&first, body)) = data.split_first() else { return };
    let kind = usize::from(first) % PATHS.len();
    let expected = parse(kind, body);
    let (status, content_type, response) = SERVICES.post(PATHS[kind], body.to_vec());
    let response: Value = serde_json::from_slice(&response).expect("every response is JSON");
    match expected {
        Some((movies, rule, violations)) if violations.is_empty() => {
            assert_eq!((status, content_type.as_str()), (200, "application/json"), "{response}");
            assert_valid(kind, &movies, rule, &response);
        }
        Some((_, _, violations)) => assert_rejected(status, &content_type, &response, Some(&violations)),
        // The reference API ignores unknown keys together with their values, as long as the body is
        // UTF-8.
        None if kind == 2 && status == 200 => assert!(std::str::from_utf8(body).is_ok()),
        None => {
            assert_rejected(status, &content_type, &response, None);
            assert_eq!(response["reason"], "INVALID_JSON");
        }
    }
}

/// The movies of a request as title and overview, its rule for genres, and its violations.
type Request = (Vec<(String, String)>, Rule, Violations);

/// A request's `min_probability` and `top_k`.
type Rule = (Option<f64>, Option<u32>);

/// Parses a body independently of the service. `None` means that it is malformed.
fn parse(kind: usize, body: &[u8]) -> Option<Request> {
    let object = object(body)?;
    match kind {
        0 => classify(&object),
        1 => batch(&object),
        _ => reference(&object),
    }
}

/// Returns the JSON object in a body, unless an object in it has a key twice.
fn object(body: &[u8]) -> Option<Map<String, Value>> {
    let body = body.strip_prefix("\u{feff}".as_bytes()).unwrap_or(body);
    let value: Value = serde_json::from_slice(body).ok()?;
    let unique: Unique = serde_json::from_slice(body).ok()?;
    let Value::Object(object) = value else { return None };
    unique.0.then_some(object)
}

fn movie(object: &Map<String, Value>) -> Option<(String, String)> {
    let text = |key: &str| given(object, key).map(|value| value.as_str().map(str::to_owned));
    Some((text("title").unwrap_or(Some(String::new()))?, text("overview")??))
}

/// The value of a key; null is absent.
fn given<'a>(object: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    object.get(key).filter(|value| !value.is_null())
}

fn rule(object: &Map<String, Value>) -> Option<Rule> {
    let min_probability = match given(object, "min_probability") {
        Some(value) => Some(value.as_f64()?),
        None => None,
    };
    let top_k = match given(object, "top_k") {
        // In JSON Schema, 3.0 is an integer.
        Some(value) => Some(value.as_f64().filter(|found| {
            found.is_sign_positive() && found.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(found)
        })? as u32),
        None => None,
    };
    Some((min_probability, top_k))
}

fn has_only(object: &Map<String, Value>, keys: &[&str]) -> bool {
    object.keys().all(|key| keys.contains(&key.as_str()))
}

fn are_flags(object: &Map<String, Value>, keys: &[&str]) -> bool {
    keys.iter().all(|key| given(object, key).is_none_or(Value::is_boolean))
}

fn classify(object: &Map<String, Value>) -> Option<Request> {
    let flags = ["include_scores", "explain"];
    let keys = ["title", "overview", flags[0], flags[1], "min_probability", "top_k"];
    if !has_only(object, &keys) || !are_flags(object, &flags) {
        return None;
    }
    let ((title, overview), rule) = (movie(object)?, rule(object)?);
    let mut violations = movie_violations("", &title, &overview);
    violations.extend(selection_violations(rule.0, rule.1));
    Some((vec![(title, overview)], rule, violations))
}

fn batch(object: &Map<String, Value>) -> Option<Request> {
    let keys = ["movies", "include_scores", "min_probability", "top_k"];
    if !has_only(object, &keys) || !are_flags(object, &["include_scores"]) {
        return None;
    }
    let movie = |value: &Value| {
        let object = value.as_object().filter(|object| has_only(object, &["title", "overview"]))?;
        movie(object)
    };
    let movies: Vec<_> = object.get("movies")?.as_array()?.iter().map(movie).collect::<Option<_>>()?;
    let of_movie = |index, (title, overview): &(String, String)| {
        movie_violations(&format!("movies[{index}]."), title, overview)
    };
    let rule = rule(object)?;
    let of_rule = selection_violations(rule.0, rule.1);
    let violations = batch_violations("movies", &movies, MAX_BATCH, of_movie, of_rule);
    Some((movies, rule, violations))
}

fn reference(object: &Map<String, Value>) -> Option<Request> {
    let texts = |key: &str| -> Option<Vec<String>> {
        object.get(key)?.as_array()?.iter().map(|value| value.as_str().map(str::to_owned)).collect()
    };
    let (titles, overviews) = (texts("title")?, texts("overview")?);
    if titles.len() != overviews.len() {
        return Some((Vec::new(), (None, None), vec![("overview".to_owned(), "LENGTHS_DIFFER")]));
    }
    let movies: Vec<_> = titles.into_iter().zip(overviews).collect();
    let of_movie = |index, (title, overview): &(String, String)| {
        let in_column = |(field, reason)| (format!("{field}[{index}]"), reason);
        movie_violations("", title, overview).into_iter().map(in_column).collect()
    };
    let violations = batch_violations("overview", &movies, MAX_BATCH, of_movie, Vec::new());
    Some((movies, (None, None), violations))
}

fn assert_rejected(status: u16, content_type: &str, response: &Value, expected: Option<&Violations>) {
    assert_eq!((status, content_type), (400, "application/problem+json"), "{response}");
    let reason = response["reason"].as_str().unwrap_or_default();
    assert!(REASONS.contains(&reason), "{response}");
    assert_eq!(response["type"], format!("urn:movieclassifier:error:{reason}"));
    let errors = response["errors"].as_array().expect("a rejection names the fields");
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

fn assert_valid(kind: usize, movies: &[(String, String)], rule: Rule, response: &Value) {
    let results: Vec<&Value> = match kind {
        0 => vec![response],
        1 => response["results"].as_array().map(|all| all.iter().collect()).unwrap_or_default(),
        _ => {
            let items = response.as_array().expect("the reference API returns a list");
            assert_eq!(items.len(), movies.len());
            for (item, (title, overview)) in items.iter().zip(movies) {
                assert_eq!((&item["title"], &item["overview"]), (&title[..].into(), &overview[..].into()));
                assert!(item["genre"].is_string());
            }
            return;
        }
    };
    assert_eq!(results.len(), movies.len(), "one result per movie");
    for result in results {
        let genres = result["genres"].as_array().expect("a result has genres");
        let number = |genre: &Value, key: &str| genre[key].as_f64().expect("a number");
        let of_genre = |genre| (number(genre, "probability") as f32, number(genre, "threshold") as f32);
        let pairs: Vec<_> = genres.iter().map(of_genre).collect();
        assert!(fits_selection(&pairs, rule.0, rule.1), "{rule:?}: {genres:?}");
        assert!(genres.is_sorted_by(|a, b| number(a, "probability") >= number(b, "probability")));
        assert!(result["model_version"].is_string() && result["truncated"].is_boolean());
    }
}

/// Whether no object in a JSON text has a key twice, which `Value` does not reveal.
struct Unique(bool);

impl<'de> serde::Deserialize<'de> for Unique {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueVisitor)
    }
}

struct UniqueVisitor;

macro_rules! scalars {
    ($($visit:ident($kind:ty)),*) => {
        $(fn $visit<E>(self, _: $kind) -> Result<Unique, E> {
            Ok(Unique(true))
        })*
    };
}

impl<'de> serde::de::Visitor<'de> for UniqueVisitor {
    type Value = Unique;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("JSON")
    }

    scalars! {
        visit_bool(bool), visit_i64(i64), visit_u64(u64), visit_f64(f64), visit_str(&str)
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
        r#"0{"title": null, "overview": "A heist.", "min_probability": 0.25, "top_k": 3}"#,
        r#"0{"overview": "A heist.", "explain": null, "min_probability": 1e39, "top_k": 0.0}"#,
        r#"1{"movies": [{"overview": "A heist."}], "top_k": 30, "include_scores": null}"#,
        "0\u{feff}{\"overview\": \"A heist.\"}",
        r#"2{"title": ["Reef", ""], "overview": ["A diver.", "A train."], "more": [1, null]}"#,
        r#"2{"title": [], "overview": ["A diver."]}"#,
        r#"2{"title": ["", ""], "overview": ["", "ok"]}"#,
    ];
    seeds_of(bodies)
}
