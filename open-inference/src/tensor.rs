//! Tensors: their descriptions, and the layout of their elements.

use prost::bytes::Bytes;
use proto::LARGEST_BATCH;
use proto::inference::DataType;
use serde::Serialize;
use service_kit::ApiError;

/// The bytes of the length before each element of BYTES.
const LENGTH_BYTES: usize = 4;

/// The datatype of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Datatype {
    /// True or false, in one byte.
    Bool,
    /// A signed integer of four bytes.
    Int32,
    /// A float of four bytes.
    Fp32,
    /// Bytes of any number; here a text in UTF-8.
    Bytes,
}

impl Datatype {
    /// The name in the protocol.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bool => "BOOL",
            Self::Int32 => "INT32",
            Self::Fp32 => "FP32",
            Self::Bytes => "BYTES",
        }
    }

    /// The name in a configuration of Triton.
    pub(crate) fn in_config(self) -> DataType {
        match self {
            Self::Bool => DataType::TypeBool,
            Self::Int32 => DataType::TypeInt32,
            Self::Fp32 => DataType::TypeFp32,
            Self::Bytes => DataType::TypeString,
        }
    }
}

/// Describes a tensor of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorDescription {
    /// The name.
    pub name: &'static str,
    /// The datatype.
    pub datatype: Datatype,
    /// The shape; `None` is the size of the batch.
    pub shape: Vec<Option<usize>>,
    /// Whether a request may leave the tensor out.
    pub is_optional: bool,
}

impl TensorDescription {
    /// Describes a tensor that must be there.
    #[must_use]
    pub fn new(name: &'static str, datatype: Datatype, shape: &[Option<usize>]) -> Self {
        Self { name, datatype, shape: shape.to_vec(), is_optional: false }
    }

    /// Describes an input that may be missing.
    #[must_use]
    pub fn optional(name: &'static str, datatype: Datatype, shape: &[Option<usize>]) -> Self {
        Self { is_optional: true, ..Self::new(name, datatype, shape) }
    }

    /// The shape as the protocol writes it, with -1 for the size of the batch.
    pub(crate) fn wire_shape(&self) -> Vec<i64> {
        self.shape.iter().map(|size| size.map_or(-1, wire_size)).collect()
    }
}

/// The elements of an output, in row-major order.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Elements {
    /// Of BOOL.
    Bool(Vec<bool>),
    /// Of INT32.
    Int32(Vec<i32>),
    /// Of FP32.
    Fp32(Vec<f32>),
    /// Of BYTES.
    Texts(Vec<String>),
}

impl Elements {
    /// The datatype.
    #[must_use]
    pub fn datatype(&self) -> Datatype {
        match self {
            Self::Bool(_) => Datatype::Bool,
            Self::Int32(_) => Datatype::Int32,
            Self::Fp32(_) => Datatype::Fp32,
            Self::Texts(_) => Datatype::Bytes,
        }
    }

    /// The raw layout: numbers in little-endian, a byte for each BOOL, and a length of four bytes
    /// before each element of BYTES.
    #[must_use]
    pub fn to_raw(&self) -> Vec<u8> {
        match self {
            Self::Bool(values) => values.iter().copied().map(u8::from).collect(),
            Self::Int32(values) => {
                values.iter().map(|value| value.to_le_bytes()).collect::<Vec<_>>().into_flattened()
            }
            Self::Fp32(values) => {
                values.iter().map(|value| value.to_le_bytes()).collect::<Vec<_>>().into_flattened()
            }
            Self::Texts(values) => {
                let bytes = values.iter().map(|text| LENGTH_BYTES + text.len()).sum();
                let mut raw = Vec::with_capacity(bytes);
                for text in values {
                    raw.extend((text.len() as u32).to_le_bytes());
                    raw.extend(text.as_bytes());
                }
                raw
            }
        }
    }
}

/// A tensor of a response.
#[derive(Debug, Clone, PartialEq)]
pub struct OutputTensor {
    /// The name.
    pub name: &'static str,
    /// The shape, whose product is the number of elements.
    pub shape: Vec<usize>,
    /// The elements.
    pub elements: Elements,
}

/// A size as the protocol writes it.
pub(crate) fn wire_size(size: usize) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

/// The contents of an input, before its datatype and shape are checked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Contents {
    /// The raw layout.
    Raw(Bytes),
    /// Elements of BYTES.
    Elements(Vec<Vec<u8>>),
    /// Elements of BYTES that are known to be UTF-8.
    Texts(Vec<String>),
    /// Elements of other datatypes.
    Other,
}

/// Returns the texts of a tensor of BYTES, `name` in errors, that has one text for each row of
/// `shape`, which is `[n]` or `[n, 1]`.
///
/// # Errors
/// Returns [`ApiError::Invalid`] if the shape, the number of elements, the layout or a text is
/// wrong.
pub(crate) fn texts(name: &str, shape: &[i64], contents: Contents) -> Result<Vec<String>, ApiError> {
    let (&[rows] | &[rows, 1]) = shape else { return Err(wrong_shape(name, shape)) };
    let Ok(rows) = u64::try_from(rows) else { return Err(wrong_shape(name, shape)) };
    let texts = match contents {
        Contents::Raw(raw) => raw_texts(name, &raw)?,
        Contents::Elements(elements) => elements
            .into_iter()
            .enumerate()
            .map(|(index, bytes)| {
                String::from_utf8(bytes).map_err(|error| not_utf8(name, index, error.utf8_error()))
            })
            .collect::<Result<_, _>>()?,
        Contents::Texts(texts) => texts,
        Contents::Other => return Err(wrong_contents(name, "expected elements of BYTES, found others")),
    };
    if texts.len() as u64 != rows {
        let description =
            format!("expected {rows} elements as the shape {shape:?} says, found {}", texts.len());
        return Err(wrong_contents(name, description));
    }
    Ok(texts)
}

/// Returns the elements of BYTES in the raw layout.
fn raw_texts(name: &str, mut raw: &[u8]) -> Result<Vec<String>, ApiError> {
    let mut texts = Vec::new();
    while !raw.is_empty() {
        let index = texts.len();
        if index == LARGEST_BATCH {
            return Err(wrong_contents(name, too_many_texts()));
        }
        let Some((length, rest)) = raw.split_first_chunk::<LENGTH_BYTES>() else {
            let description = format!(
                "expected a length of {LENGTH_BYTES} bytes before element {index}, found {} bytes",
                raw.len()
            );
            return Err(wrong_contents(name, description));
        };
        let length = u32::from_le_bytes(*length);
        let element = usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length));
        let Some((element, rest)) = element else {
            let description = format!("expected {length} bytes of element {index}, found {}", rest.len());
            return Err(wrong_contents(name, description));
        };
        let text = std::str::from_utf8(element).map_err(|error| not_utf8(name, index, error))?;
        texts.push(text.to_owned());
        raw = rest;
    }
    Ok(texts)
}

fn wrong_shape(name: &str, shape: &[i64]) -> ApiError {
    /// The most dimensions that an error quotes.
    const QUOTED: usize = 8;
    let quoted: Vec<_> = shape.iter().take(QUOTED).map(ToString::to_string).collect();
    let more = if shape.len() > QUOTED { ", …" } else { "" };
    let description = format!("expected the shape [n] or [n, 1], found [{}{more}]", quoted.join(", "));
    ApiError::invalid(name, "WRONG_SHAPE", description)
}

/// Describes an input of more than [`LARGEST_BATCH`].
pub(crate) fn too_many_texts() -> String {
    format!("expected at most {LARGEST_BATCH} texts, found more")
}

pub(crate) fn wrong_contents(name: &str, description: impl Into<String>) -> ApiError {
    ApiError::invalid(name, "WRONG_CONTENTS", description)
}

fn not_utf8(name: &str, index: usize, error: std::str::Utf8Error) -> ApiError {
    let description =
        format!("expected a text in UTF-8, found another byte at offset {}", error.valid_up_to());
    ApiError::invalid(format!("{name}[{index}]"), "INVALID_ENCODING", description)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(texts: &[&str]) -> Contents {
        let texts = texts.iter().map(|&text| text.to_owned()).collect();
        Contents::Raw(Elements::Texts(texts).to_raw().into())
    }

    fn reason(result: Result<Vec<String>, ApiError>) -> &'static str {
        result.unwrap_err().reason()
    }

    #[test]
    fn raw_and_typed_contents_are_the_same_texts() {
        let expected = ["A diver.", "", "é 🎬"];
        let elements = || expected.map(str::to_owned).to_vec();
        let typed = Contents::Elements(expected.map(|text| text.as_bytes().to_vec()).to_vec());
        for contents in [raw(&expected), typed, Contents::Texts(elements())] {
            assert_eq!(texts("TEXT", &[3], contents.clone()).unwrap(), expected);
            assert_eq!(texts("TEXT", &[3, 1], contents).unwrap(), expected);
        }
        assert_eq!(texts("TEXT", &[0], raw(&[])).unwrap(), [""; 0]);
    }

    #[test]
    fn the_raw_layout_is_that_of_the_specification() {
        let texts = Elements::Texts(vec!["ab".to_owned(), String::new()]);
        assert_eq!(texts.to_raw(), b"\x02\0\0\0ab\0\0\0\0");
        assert_eq!(Elements::Bool(vec![true, false]).to_raw(), [1, 0]);
        assert_eq!(Elements::Int32(vec![1, -2]).to_raw(), b"\x01\0\0\0\xfe\xff\xff\xff");
        assert_eq!(Elements::Fp32(vec![1.0, -0.5]).to_raw(), b"\0\0\x80\x3f\0\0\0\xbf");
    }

    #[test]
    fn rejects_shapes_of_anything_but_one_text_a_row() {
        let long = vec![0; 100_000];
        for shape in [&[][..], &[1, 2], &[-1], &[-1, 1], &[i64::MIN], &[1, 1, 1], &[1, -1], &long] {
            let error = texts("TEXT", shape, raw(&["a"])).unwrap_err();
            assert_eq!(error.reason(), "WRONG_SHAPE", "{shape:?}");
            assert!(error.to_string().len() < 200);
        }
    }

    #[test]
    fn allocates_nothing_by_a_claimed_size() {
        for claimed in [2, 1 << 31, i64::MAX] {
            assert_eq!(reason(texts("TEXT", &[claimed], raw(&["a"]))), "WRONG_CONTENTS");
            assert_eq!(
                reason(texts("TEXT", &[claimed, 1], Contents::Elements(Vec::new()))),
                "WRONG_CONTENTS"
            );
        }
        for length in [2_u32, 1 << 31, u32::MAX] {
            let claimed = [&length.to_le_bytes()[..], b"a"].concat();
            assert_eq!(reason(texts("TEXT", &[1], Contents::Raw(claimed.into()))), "WRONG_CONTENTS");
        }
    }

    #[test]
    fn rejects_more_texts_than_the_largest_batch() {
        let empty = |count: usize| Contents::Raw([0_u8; LENGTH_BYTES].repeat(count).into());
        assert_eq!(texts("TEXT", &[1 << 16], empty(LARGEST_BATCH)).unwrap().len(), LARGEST_BATCH);
        let error = texts("TEXT", &[100_000], empty(100_000)).unwrap_err();
        assert_eq!(error.to_string(), "TEXT: expected at most 65536 texts, found more");
    }

    #[test]
    fn rejects_a_raw_layout_that_is_cut() {
        let Contents::Raw(whole) = raw(&["diver", "é"]) else { unreachable!("`raw` makes them") };
        for length in 0..whole.len() {
            assert_eq!(reason(texts("TEXT", &[2], Contents::Raw(whole.slice(..length)))), "WRONG_CONTENTS");
        }
    }

    #[test]
    fn names_the_element_that_is_not_utf_8() {
        let raw = Contents::Raw(Bytes::from_static(b"\x01\0\0\0a\x02\0\0\0b\xff"));
        let typed = Contents::Elements(vec![b"a".to_vec(), b"b\xff".to_vec()]);
        for contents in [raw, typed] {
            let error = texts("TEXT", &[2], contents).unwrap_err();
            assert_eq!(
                error.to_string(),
                "TEXT[1]: expected a text in UTF-8, found another byte at offset 1"
            );
        }
    }
}
