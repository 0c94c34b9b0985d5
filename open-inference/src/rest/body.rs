//! Reads the body of a request: JSON, and behind it the raw tensors that it announces.

use std::collections::HashMap;
use std::fmt;

use axum::body::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use proto::LARGEST_BATCH;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, SeqAccess, Visitor};
use service_kit::{ApiError, parse_json};
use utoipa::ToSchema;

use super::bounded::{Few, few_objects};
use crate::model::{Input, Parameter, Request, quoted, reject_unsupported};
use crate::tensor::{Contents, too_many_texts, wrong_contents};

/// The header that says how many bytes of a body are JSON; the rest are raw tensors.
pub const JSON_LENGTH: &str = "inference-header-content-length";

/// A request, and how to reply to it.
pub(super) struct Read {
    pub(super) id: Option<String>,
    pub(super) request: Request,
    pub(super) binary: Binary,
}

/// Which outputs of a reply are raw.
#[derive(Debug, Default)]
pub(super) struct Binary {
    /// Those that the request does not list.
    by_default: bool,
    /// Those that it lists, in its order.
    listed: Vec<bool>,
}

impl Binary {
    /// Whether the output at `index` of the reply is raw.
    pub(super) fn is_raw(&self, index: usize) -> bool {
        self.listed.get(index).copied().unwrap_or(self.by_default)
    }
}

/// A batch.
#[derive(Deserialize, ToSchema)]
#[schema(as = InferRequest)]
pub(super) struct InferBody {
    /// Returned in the response.
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    parameters: Option<Parameters>,
    /// Each input once.
    #[serde(deserialize_with = "few_objects")]
    inputs: Vec<InputBody>,
    /// The outputs to return, each once; all if there are none.
    #[serde(default, deserialize_with = "few_objects")]
    outputs: Vec<OutputBody>,
}

/// An input.
#[derive(Deserialize, ToSchema)]
#[schema(as = InferInput)]
struct InputBody {
    name: String,
    datatype: String,
    /// The number of texts, alone or followed by 1.
    #[schema(value_type = Vec<u64>, min_items = 1, max_items = 2)]
    shape: Vec<i64>,
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    parameters: Option<Parameters>,
    /// The texts, unless they are raw; also as lists in lists.
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>)]
    data: Option<Data>,
}

/// An output to return.
#[derive(Deserialize, ToSchema)]
#[schema(as = InferOutputRequest)]
struct OutputBody {
    name: String,
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    parameters: Option<Parameters>,
}

type Parameters = Few<ParameterBody>;

#[derive(Deserialize)]
#[serde(untagged)]
enum ParameterBody {
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(String),
    Other(IgnoredAny),
}

impl From<ParameterBody> for Parameter {
    fn from(parameter: ParameterBody) -> Self {
        match parameter {
            ParameterBody::Bool(value) => Self::Bool(value),
            ParameterBody::Int(value) => Self::Int(value.into()),
            ParameterBody::Uint(value) => Self::Int(value.into()),
            ParameterBody::Double(value) => Self::Double(value),
            ParameterBody::Text(value) => Self::Text(value),
            ParameterBody::Other(IgnoredAny) => Self::Other,
        }
    }
}

/// Returns how many bytes of the body are JSON, if its headers say so. Checks the type of the body.
///
/// Clients of the protocol send no content type, so a missing one is JSON, too.
pub(super) fn json_length(headers: &HeaderMap) -> Result<Option<usize>, ApiError> {
    let unsupported_type = |expected: &str, found: &str| ApiError::Http {
        status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
        reason: "UNSUPPORTED_MEDIA_TYPE",
        message: format!("expected {expected}, found {}", quoted(found)),
    };
    let text =
        |name: &http::HeaderName| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let is = |found: &str, expected: &str| found.trim().eq_ignore_ascii_case(expected);
    if let Some(found) = text(&CONTENT_TYPE) {
        let essence = found.split(';').next().unwrap_or_default();
        if !is(essence, "application/json") && !is(essence, "application/octet-stream") {
            let expected = "content-type application/json or application/octet-stream";
            return Err(unsupported_type(expected, &found));
        }
    }
    if let Some(found) = text(&CONTENT_ENCODING).filter(|found| !is(found, "identity")) {
        return Err(unsupported_type("no content-encoding", &found));
    }
    let Some(length) = headers.get(JSON_LENGTH) else { return Ok(None) };
    let parsed = length.to_str().ok().and_then(|text| text.trim().parse().ok());
    let description = || format!("expected a number of bytes, found {length:?}");
    parsed.map(Some).ok_or_else(|| ApiError::invalid(JSON_LENGTH, "INVALID_HEADER", description()))
}

/// Reads a request. The first `json_length` bytes of the body are JSON, or all.
pub(super) fn read(
    model: String,
    version: String,
    bytes: &Bytes,
    json_length: Option<usize>,
) -> Result<Read, ApiError> {
    let length = json_length.unwrap_or(bytes.len());
    if length > bytes.len() {
        let description = format!("expected at most the length of the body, {}, found {length}", bytes.len());
        return Err(ApiError::invalid(JSON_LENGTH, "INVALID_HEADER", description));
    }
    let (json, mut raw) = (bytes.slice(..length), bytes.slice(length..));
    let body: InferBody = parse_json(&json)?;
    let mut inputs = Vec::with_capacity(body.inputs.len());
    for (place, input) in body.inputs.into_iter().enumerate() {
        inputs.push(read_input(place, input, &mut raw)?);
    }
    if !raw.is_empty() {
        let description = format!("expected no bytes behind those of the inputs, found {}", raw.len());
        return Err(wrong_contents("(body)", description));
    }
    let parameters: HashMap<_, _> =
        body.parameters.unwrap_or_default().0.into_iter().map(|(name, value)| (name, value.into())).collect();
    let by_default = parameters.get("binary_data_output") == Some(&Parameter::Bool(true));
    let mut binary = Binary { by_default, listed: Vec::new() };
    let mut outputs = Vec::new();
    for (place, output) in body.outputs.into_iter().enumerate() {
        let parameters = output.parameters.unwrap_or_default().0;
        reject_unsupported("outputs", place, &parameters)?;
        binary.listed.push(match parameters.get("binary_data") {
            Some(ParameterBody::Bool(is_raw)) => *is_raw,
            _ => by_default,
        });
        outputs.push(output.name);
    }
    Ok(Read { id: body.id, request: Request { model, version, parameters, inputs, outputs }, binary })
}

/// Reads an input, and takes its bytes from `raw` if it has any there.
fn read_input(place: usize, input: InputBody, raw: &mut Bytes) -> Result<Input, ApiError> {
    let parameters = input.parameters.unwrap_or_default().0;
    reject_unsupported("inputs", place, &parameters)?;
    let field = || format!("inputs[{place}].data");
    let contents = match (parameters.get("binary_data_size"), input.data) {
        (Some(_), Some(_)) => {
            return Err(wrong_contents(&field(), "expected either data or binary_data_size, found both"));
        }
        (Some(size), None) => {
            let length = match size {
                ParameterBody::Int(size) => usize::try_from(*size).ok(),
                _ => None,
            };
            let Some(length) = length.filter(|&length| length <= raw.len()) else {
                let left = raw.len();
                let description =
                    format!("expected a binary_data_size of at most {left}, the bytes behind the JSON");
                return Err(wrong_contents(&field(), description));
            };
            Contents::Raw(raw.split_to(length))
        }
        (None, Some(data)) if data.has_others => Contents::Other,
        (None, Some(data)) => Contents::Texts(data.texts),
        (None, None) => Contents::Texts(Vec::new()),
    };
    Ok(Input { name: input.name, datatype: input.datatype, shape: input.shape, contents })
}

/// The elements of a tensor: a list, or lists in lists, in row-major order. An empty text takes more
/// memory than its three bytes of JSON, so no more than the largest batch are read.
#[derive(Default)]
struct Data {
    texts: Vec<String>,
    /// Whether there are elements of other datatypes.
    has_others: bool,
}

impl Data {
    fn add<E: Error>(&mut self, text: impl Into<String>) -> Result<(), E> {
        if self.texts.len() == LARGEST_BATCH {
            return Err(E::custom(too_many_texts()));
        }
        self.texts.push(text.into());
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut data = Self::default();
        deserializer.deserialize_seq(ElementsOf(&mut data))?;
        Ok(data)
    }
}

/// Adds elements to [`Data`].
struct ElementsOf<'a>(&'a mut Data);

impl<'de> DeserializeSeed<'de> for ElementsOf<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ElementsOf<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list of elements")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        while elements.next_element_seed(ElementsOf(self.0))?.is_some() {}
        Ok(())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.0.add(text)
    }

    fn visit_string<E: Error>(self, text: String) -> Result<(), E> {
        self.0.add(text)
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        self.0.has_others = true;
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        self.0.has_others = true;
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        self.0.has_others = true;
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        self.0.has_others = true;
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.0.has_others = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_body(json: &str, raw: &[u8]) -> Result<Read, ApiError> {
        let body = [json.as_bytes(), raw].concat();
        read("m".to_owned(), String::new(), &body.into(), Some(json.len()))
    }

    fn input(rest: &str) -> String {
        format!(r#"{{"inputs": [{{"name": "TEXT", "datatype": "BYTES", {rest}}}]}}"#)
    }

    #[test]
    fn flattens_lists_in_lists_in_row_major_order() {
        let body = input(r#""shape": [2, 2], "data": [["a", "b"], ["c", ["d"]]]"#);
        let read = read_body(&body, b"").unwrap();
        let expected = ["a", "b", "c", "d"].map(str::to_owned).to_vec();
        assert_eq!(read.request.inputs[0].contents, Contents::Texts(expected));
    }

    #[test]
    fn takes_the_bytes_of_each_input_in_order() {
        let one = |name: &str, size: usize| {
            format!(
                r#"{{"name": "{name}", "datatype": "BYTES", "shape": [1], "parameters": {{"binary_data_size": {size}}}}}"#
            )
        };
        let body = format!(r#"{{"inputs": [{}, {}]}}"#, one("A", 2), one("B", 3));
        let read = read_body(&body, b"abcde").unwrap();
        let contents: Vec<_> = read.request.inputs.into_iter().map(|input| input.contents).collect();
        let raw = |bytes: &'static [u8]| Contents::Raw(Bytes::from_static(bytes));
        assert_eq!(contents, [raw(b"ab"), raw(b"cde")]);
        for wrong in [&b"abcd"[..], b"abcdef", b""] {
            assert_eq!(read_body(&body, wrong).err().unwrap().reason(), "WRONG_CONTENTS");
        }
    }

    #[test]
    fn rejects_sizes_that_no_body_has() {
        for size in
            ["-1", "9223372036854775807", "18446744073709551615", "1.0", "true", "\"1\"", "null", "[]"]
        {
            let body = input(&format!(r#""shape": [1], "parameters": {{"binary_data_size": {size}}}"#));
            assert_eq!(read_body(&body, b"a").err().unwrap().reason(), "WRONG_CONTENTS", "{size}");
        }
        let both = input(r#""shape": [1], "data": ["a"], "parameters": {"binary_data_size": 1}"#);
        assert_eq!(read_body(&both, b"a").err().unwrap().reason(), "WRONG_CONTENTS");
        let bytes = Bytes::from_static(b"{}");
        let error = read(String::new(), String::new(), &bytes, Some(3)).err().unwrap();
        assert_eq!(error.reason(), "INVALID_HEADER");
    }

    #[test]
    fn elements_of_other_datatypes_are_told_apart() {
        for data in ["[1]", "[\"a\", null]", "[[true]]", "[-1.5]"] {
            let read = read_body(&input(&format!(r#""shape": [1], "data": {data}"#)), b"").unwrap();
            assert_eq!(read.request.inputs[0].contents, Contents::Other, "{data}");
        }
        for data in ["{}", "[{}]", "\"a\"", "3"] {
            let error = read_body(&input(&format!(r#""shape": [1], "data": {data}"#)), b"").err().unwrap();
            assert_eq!(error.reason(), "INVALID_JSON", "{data}");
        }
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let error = read_body(&input(&format!(r#""shape": [1], "data": {deep}"#)), b"").err().unwrap();
        assert_eq!(error.reason(), "INVALID_JSON");
    }

    #[test]
    fn rejects_more_texts_than_the_largest_batch() {
        let read = |count: usize| {
            let texts = vec!["\"\""; count].join(",");
            read_body(&input(&format!(r#""shape": [{count}], "data": [{texts}]"#)), b"")
        };
        let largest = read(LARGEST_BATCH).unwrap();
        let Contents::Texts(texts) = &largest.request.inputs[0].contents else {
            unreachable!("the elements are texts")
        };
        assert_eq!(texts.len(), LARGEST_BATCH);
        let error = read(100_000).err().unwrap();
        assert_eq!(error.reason(), "INVALID_JSON");
        assert!(error.to_string().contains("expected at most 65536 texts, found more"), "{error}");
    }

    #[test]
    fn an_output_is_raw_if_it_or_the_request_says_so() {
        let body = |parameters: &str, outputs: &str| {
            format!(r#"{{"inputs": [], "parameters": {parameters}, "outputs": {outputs}}}"#)
        };
        let is_raw = |body: &str| {
            let read = read_body(body, b"").unwrap();
            [0, 1].map(|index| read.binary.is_raw(index))
        };
        let listed = r#"[{"name": "A", "parameters": {"binary_data": true}}, {"name": "B", "parameters": {"binary_data": false}}]"#;
        assert_eq!(is_raw(&body("{}", "[]")), [false, false]);
        assert_eq!(is_raw(&body(r#"{"binary_data_output": true}"#, "[]")), [true, true]);
        assert_eq!(is_raw(&body("null", listed)), [true, false]);
        assert_eq!(is_raw(&body(r#"{"binary_data_output": true}"#, listed)), [true, false]);
    }

    #[test]
    fn rejects_bodies_of_other_types() {
        let headers = |name: &str, value: &str| {
            HeaderMap::from_iter([(name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap())])
        };
        let of = |name: &str, value: &str| json_length(&headers(name, value));
        assert_eq!(json_length(&HeaderMap::new()).unwrap(), None);
        assert_eq!(of("content-type", "Application/JSON; charset=utf-8").unwrap(), None);
        assert_eq!(of("content-encoding", "identity").unwrap(), None);
        assert_eq!(of(JSON_LENGTH, "12").unwrap(), Some(12));
        for (name, value) in [("content-type", "text/plain"), ("content-encoding", "gzip")] {
            assert_eq!(of(name, value).unwrap_err().reason(), "UNSUPPORTED_MEDIA_TYPE");
        }
        for wrong in ["-1", "x", "", "99999999999999999999999"] {
            assert_eq!(of(JSON_LENGTH, wrong).unwrap_err().reason(), "INVALID_HEADER");
        }
    }
}
