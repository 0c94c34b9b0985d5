//! JSON bodies of `/v1/embeddings`, from their bytes to vectors or an error of OpenAI's form.

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::harness::inputs::{json_dictionary, seeds_of};
use crate::harness::rules::{MAX_TEXTS, Violations, batch_violations, text_violations};
use crate::harness::services::{DIMENSION, MAX_TOKENS, SERVICES};
use crate::target::Target;

pub(crate) const TARGET: Target = Target {
    name: "embeddings_body",
    check,
    seeds,
    dictionary: json_dictionary![
        "\"input\"",
        "\"model\"",
        "\"tiny-512\"",
        "\"encoding_format\"",
        "\"base64\"",
        "\"float\"",
        "\"dimensions\"",
        "\"priority\"",
        "\"bulk\"",
        "512",
        "2147483648",
    ],
    max_len: 2048,
    cases: 1500,
};

const MODEL: &str = "tiny-512";
const FIELDS: [&str; 5] = ["input", "model", "encoding_format", "dimensions", "priority"];

fn check(body: &[u8]) {
    let expected = parse(body);
    let (status, content_type, response) = SERVICES.post_to_encoder("/v1/embeddings", body.to_vec());
    assert_eq!(content_type, "application/json");
    let response: Value = serde_json::from_slice(&response).expect("every response is JSON");
    match expected {
        None => assert_rejected(status, &response, 400, "invalid_json", None),
        Some(request) if request.model != MODEL => {
            assert_rejected(status, &response, 404, "model_not_found", Some("model"));
        }
        Some(Request { dimensions: Some(asked), .. }) if asked.to_bits() != (DIMENSION as f64).to_bits() => {
            assert_rejected(status, &response, 400, "unsupported_dimensions", Some("dimensions"));
        }
        Some(request) => {
            if let Some((field, reason)) = request.violations().first() {
                assert_rejected(status, &response, 400, &reason.to_lowercase(), Some(field));
            } else {
                assert_eq!(status, 200, "{response}");
                request.assert_valid(&response);
            }
        }
    }
}

/// A request, parsed independently of the service.
struct Request {
    texts: Vec<String>,
    model: String,
    dimensions: Option<f64>,
    is_base64: bool,
}

/// Parses a body. `None` means that it is malformed.
fn parse(body: &[u8]) -> Option<Request> {
    std::str::from_utf8(body).ok()?;
    let body = body.strip_prefix("\u{feff}".as_bytes()).unwrap_or(body);
    let Entries(entries) = serde_json::from_slice(body).ok()?;
    let mut object = Map::new();
    for (key, value) in entries.iter().filter(|(key, _)| FIELDS.contains(&key.as_str())) {
        let is_first = object.insert(key.clone(), serde_json::from_str(value.get()).ok()?).is_none();
        if !is_first {
            return None;
        }
    }
    let given = |key: &str| object.get(key).filter(|value| !value.is_null());
    let word = |key: &str, words: [&str; 2]| match given(key) {
        None => Some(None),
        Some(value) => words.iter().position(|word| value == word).map(Some),
    };
    let texts = match object.get("input")? {
        Value::String(text) => vec![text.clone()],
        list => {
            list.as_array()?.iter().map(|text| text.as_str().map(str::to_owned)).collect::<Option<_>>()?
        }
    };
    word("priority", ["online", "bulk"])?;
    Some(Request {
        texts,
        model: object.get("model")?.as_str()?.to_owned(),
        dimensions: match given("dimensions") {
            Some(value) => Some(value.as_f64()?),
            None => None,
        },
        is_base64: word("encoding_format", ["float", "base64"])? == Some(1),
    })
}

/// The entries of an object. A value of an unknown key stays as it is written, because its numbers
/// and escapes are not checked.
struct Entries(Vec<(String, Box<RawValue>)>);

impl<'de> serde::Deserialize<'de> for Entries {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EntriesVisitor)
    }
}

struct EntriesVisitor;

impl<'de> serde::de::Visitor<'de> for EntriesVisitor {
    type Value = Entries;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Entries(entries))
    }
}

impl Request {
    fn violations(&self) -> Violations {
        let of_text = |index, text: &String| text_violations(&format!("input[{index}]"), text);
        batch_violations("input", &self.texts, MAX_TEXTS, of_text, Vec::new())
    }

    fn assert_valid(&self, response: &Value) {
        let data = response["data"].as_array().expect("a response has data");
        assert_eq!(data.len(), self.texts.len(), "one vector per text");
        for (index, element) in data.iter().enumerate() {
            assert_eq!(element["index"], index);
            let is_vector = match &element["embedding"] {
                // Four characters for each three bytes.
                Value::String(text) => self.is_base64 && text.len() == (DIMENSION * 4).div_ceil(3) * 4,
                Value::Array(numbers) => {
                    !self.is_base64 && numbers.len() == DIMENSION && numbers.iter().all(Value::is_f64)
                }
                _ => false,
            };
            assert!(is_vector, "{element}");
        }
        let tokens = response["usage"]["total_tokens"].as_u64().expect("a response has usage");
        let count = self.texts.len() as u64;
        assert!((count..=count * u64::from(MAX_TOKENS)).contains(&tokens), "{tokens} tokens");
    }
}

fn assert_rejected(status: u16, response: &Value, expected: u16, code: &str, param: Option<&str>) {
    let error = &response["error"];
    assert_eq!((status, error["code"].as_str()), (expected, Some(code)), "{response}");
    assert_eq!(error["type"], "invalid_request_error");
    assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{response}");
    if param.is_some() {
        assert_eq!(error["param"].as_str(), param, "{response}");
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let bodies = [
        r#"{"model": "tiny-512", "input": "A lighthouse keeper finds a map."}"#,
        r#"{"input": ["A pilot.", "Deux s\u0153urs \ud83c\udfac é"], "model": "tiny-512", "encoding_format": "base64"}"#,
        r#"{"input": ["x", "x"], "model": "tiny-512", "encoding_format": "float", "dimensions": 512, "user": "u"}"#,
        r#"{"input": "x", "model": "tiny-512", "dimensions": 2147483648, "priority": "bulk"}"#,
        r#"{"input": "x", "model": "tiny-512", "dimensions": null, "priority": null, "encoding_format": null}"#,
        r#"{"input": [1, 2, 3], "model": "tiny-512"}"#,
        r#"{"input": [[1, 2], [3]], "model": "tiny-512"}"#,
        r#"{"input": [], "model": "tiny-512"}"#,
        r#"{"input": ["", " \u0000\ufeff"], "model": "tiny-512"}"#,
        r#"{"input": "\ud800", "model": "tiny-512"}"#,
        r#"{"input": "x", "model": "text-embedding-3-small", "new": {"a": [1e999]}}"#,
        r#"{"input": "x", "input": "y", "model": "tiny-512"}"#,
        r#"["x", "tiny-512"]"#,
        "\u{feff}{\"input\": \"x\", \"model\": \"tiny-512\"}",
    ];
    let mut seeds = seeds_of(bodies);
    let texts = vec!["a"; MAX_TEXTS + 1];
    seeds.push(serde_json::json!({"input": texts, "model": MODEL}).to_string().into_bytes());
    seeds.push(
        serde_json::json!({"input": "a night train ".repeat(37), "model": MODEL}).to_string().into_bytes(),
    );
    seeds
}
