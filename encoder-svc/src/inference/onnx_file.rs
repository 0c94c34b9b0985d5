//! Reads an ONNX file one weight at a time.
//!
//! Weights are almost all of the file. ONNX Runtime keeps two copies of them while it loads a file:
//! the message that it decodes and the values that it takes from it. So each weight is read once
//! here, and ONNX Runtime gets the graph without weights, which says where in the file they are.
//!
//! prost decodes a message from memory only, so this module finds the weights in the file, and
//! prost decodes each.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, BufReader, Error, ErrorKind, Read as _};
use std::path::Path;

use prost::Message;
use prost::bytes::Bytes;

// Keys in protobuf's wire format, `field << 3 | wire type`, of fields in `onnx.proto`.
const GRAPH_OF_MODEL: u64 = 7 << 3 | LENGTH_DELIMITED;
const INITIALIZER_OF_GRAPH: u64 = 5 << 3 | LENGTH_DELIMITED;
const LENGTH_DELIMITED: u64 = 2;

/// `TensorProto.DataLocation` of values that are in another file.
const EXTERNAL: i32 = 1;

/// A weight, with the field numbers of `TensorProto`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Weight {
    #[prost(int64, repeated, tag = "1")]
    pub(crate) dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    pub(crate) data_type: i32,
    #[prost(string, tag = "8")]
    pub(crate) name: String,
    /// Little-endian values; empty if the file has them in another form.
    #[prost(bytes = "bytes", tag = "9")]
    pub(crate) raw_data: Bytes,
    #[prost(message, repeated, tag = "13")]
    external_data: Vec<Property>,
    #[prost(int32, tag = "14")]
    data_location: i32,
}

/// A `StringStringEntryProto`.
#[derive(Clone, PartialEq, Message)]
struct Property {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}

/// The part of `ModelProto` that has the graph.
#[derive(Message)]
struct Model {
    #[prost(bytes = "vec", tag = "7")]
    graph: Vec<u8>,
}

/// The part of `GraphProto` that has the weights.
#[derive(Message)]
struct Graph {
    #[prost(message, repeated, tag = "5")]
    initializers: Vec<Weight>,
}

/// Shows each weight of the file `path` to `take`, and returns the model without the weights for
/// which `take` returns true. In their place the model names the file and the position of their
/// values.
pub(crate) fn read<E>(path: &Path, mut take: impl FnMut(&Weight) -> Result<bool, E>) -> Result<Vec<u8>, E>
where
    E: From<Error>,
{
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut file = MessageFile::open(path)?;
    let (mut model, mut graph, mut taken) = (Vec::new(), Vec::new(), Graph::default());
    while let Some(key) = file.key(file.end)? {
        if key != GRAPH_OF_MODEL {
            file.copy(key, &mut model)?;
            continue;
        }
        let end = file.length()?;
        while let Some(key) = file.key(end)? {
            if key != INITIALIZER_OF_GRAPH {
                file.copy(key, &mut graph)?;
                continue;
            }
            let length = file.length()? - file.position;
            let begin = file.position;
            let mut bytes = Vec::new();
            file.append(length, &mut bytes)?;
            let bytes = Bytes::from(bytes);
            let mut weight = Weight::decode(bytes.clone()).map_err(invalid)?;
            if take(&weight)? {
                let before = weight.raw_data.as_ptr().addr() - bytes.as_ptr().addr();
                weight.move_to_file(&name, begin + before as u64);
                taken.initializers.push(weight);
            } else {
                prost::encoding::encode_varint(key, &mut graph);
                prost::encoding::encode_varint(length, &mut graph);
                graph.extend_from_slice(&bytes);
            }
        }
    }
    // Two encoded messages in a row are the encoding of both merged.
    taken.encode_raw(&mut graph);
    Model { graph }.encode_raw(&mut model);
    Ok(model)
}

impl Weight {
    /// Replaces the values by their position in the file `name`.
    fn move_to_file(&mut self, name: &str, position: u64) {
        let length = std::mem::take(&mut self.raw_data).len();
        self.external_data =
            [("location", name.to_owned()), ("offset", position.to_string()), ("length", length.to_string())]
                .map(|(key, value)| Property { key: key.to_owned(), value })
                .into();
        self.data_location = EXTERNAL;
    }
}

/// A message in a file.
struct MessageFile {
    file: BufReader<File>,
    position: u64,
    end: u64,
}

impl MessageFile {
    fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let end = file.metadata()?.len();
        Ok(Self { file: BufReader::new(file), position: 0, end })
    }

    /// Reads the key of the next field, or `None` if the message ends here.
    fn key(&mut self, end: u64) -> io::Result<Option<u64>> {
        if self.position == end { Ok(None) } else { self.varint().map(Some) }
    }

    fn varint(&mut self) -> io::Result<u64> {
        let mut bytes = Vec::new();
        // The last byte of a varint is below 128, and the tenth is always the last.
        while bytes.last().is_none_or(|last| *last >= 128) && bytes.len() < 10 {
            self.append(1, &mut bytes)?;
        }
        prost::encoding::decode_varint(&mut bytes.as_slice()).map_err(invalid)
    }

    /// Reads the length of a field, and returns the position of its end.
    fn length(&mut self) -> io::Result<u64> {
        let length = self.varint()?;
        let end = self.position.checked_add(length).filter(|end| *end <= self.end);
        end.ok_or_else(|| invalid(format!("a field of {length} bytes does not end in the file")))
    }

    /// Appends the next `length` bytes to `to`.
    fn append(&mut self, length: u64, to: &mut Vec<u8>) -> io::Result<()> {
        let read = self.file.by_ref().take(length).read_to_end(to)? as u64;
        self.position += read;
        if read == length { Ok(()) } else { Err(ErrorKind::UnexpectedEof.into()) }
    }

    /// Appends the rest of a field, and its key, to `to`.
    fn copy(&mut self, key: u64, to: &mut Vec<u8>) -> io::Result<()> {
        prost::encoding::encode_varint(key, to);
        match key & 7 {
            0 => {
                let value = self.varint()?;
                prost::encoding::encode_varint(value, to);
                Ok(())
            }
            1 => self.append(8, to),
            LENGTH_DELIMITED => {
                let length = self.length()? - self.position;
                prost::encoding::encode_varint(length, to);
                self.append(length, to)
            }
            5 => self.append(4, to),
            other => Err(invalid(format!("unexpected wire type {other}"))),
        }
    }
}

fn invalid(reason: impl Display) -> Error {
    Error::new(ErrorKind::InvalidData, format!("not an ONNX model: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weight(name: &str, values: &[u8]) -> Weight {
        Weight { name: name.to_owned(), raw_data: Bytes::copy_from_slice(values), ..Weight::default() }
    }

    /// A model with a version, a graph with a name, and two weights.
    fn model() -> Vec<u8> {
        let mut graph =
            Graph { initializers: vec![weight("large", &[7; 300]), weight("small", &[8])] }.encode_to_vec();
        graph.extend([2 << 3 | 2, 1, b'g']);
        let mut model = vec![1 << 3, 8];
        Model { graph }.encode_raw(&mut model);
        model.extend([5 << 3, 200, 1]);
        model
    }

    fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        file
    }

    #[expect(clippy::unnecessary_wraps, reason = "the type that `read` expects")]
    fn is_large(weight: &Weight) -> io::Result<bool> {
        Ok(weight.raw_data.len() > 100)
    }

    #[test]
    fn takes_large_weights_and_says_where_their_values_are() {
        let bytes = model();
        let file = file(&bytes);
        let mut seen = Vec::new();
        let rest = read(file.path(), |weight| {
            seen.push((weight.name.clone(), weight.raw_data.len()));
            is_large(weight)
        });
        let rest = rest.unwrap();
        assert_eq!(seen, [("large".to_owned(), 300), ("small".to_owned(), 1)]);
        assert!(rest.len() < 200, "{}", rest.len());
        assert!(rest.starts_with(&[1 << 3, 8, 5 << 3, 200, 1]), "other fields are kept: {rest:?}");
        let graph = Model::decode(rest.as_slice()).unwrap().graph;
        assert!(graph.windows(3).any(|field| field == [2 << 3 | 2, 1, b'g']), "{graph:?}");
        let [small, large] = Graph::decode(graph.as_slice()).unwrap().initializers.try_into().unwrap();
        assert_eq!(small, weight("small", &[8]));
        assert_eq!((large.name.as_str(), large.data_location), ("large", EXTERNAL));
        let value = |key: &str| {
            let property = large.external_data.iter().find(|property| property.key == key);
            property.unwrap().value.clone()
        };
        assert_eq!(value("location"), file.path().file_name().unwrap().to_str().unwrap());
        let (offset, length): (usize, usize) =
            (value("offset").parse().unwrap(), value("length").parse().unwrap());
        assert_eq!(bytes[offset..offset + length], [7; 300]);
    }

    #[test]
    fn rejects_a_file_that_is_cut_or_not_a_message() {
        let bytes = model();
        for end in 1..bytes.len() {
            // A cut between two fields leaves a message, of which the graph may be missing.
            let is_whole = [2, bytes.len() - 3].contains(&end);
            assert_eq!(read(file(&bytes[..end]).path(), is_large).is_ok(), is_whole, "{end}");
        }
        for bytes in [&[255; 40][..], &[7 << 3 | 2, 3, 5 << 3 | 2, 100, 0], &[3]] {
            let error = read(file(bytes).path(), is_large).unwrap_err();
            assert!(error.to_string().starts_with("not an ONNX model: "), "{error}");
        }
    }
}
