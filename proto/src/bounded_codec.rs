//! Codecs that reject a message of too many fields before they decode the message.
//!
//! Decoding makes a struct of each nested message and each element of a list. An empty one takes
//! two bytes on the wire and up to hundreds in memory. tonic's own codec only limits the bytes of a
//! message.

use std::any::TypeId;
use std::marker::PhantomData;

use prost::Message;
use prost::bytes::{Buf, Bytes};
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder};
use tonic_prost::ProstCodec;

use crate::inference::ModelInferRequest;

/// The highest value of `limits.max_batch_size` of both services, and so the most texts or movies that
/// are decoded from a request.
pub const LARGEST_BATCH: usize = 1 << 16;
/// The most fields of a message of the Open Inference Protocol, those of nested messages not
/// counted.
const MAX_TENSORS: usize = 64;
/// The most fields of a message of our own RPCs: a batch, and fields that are not repeated.
const MAX_BATCH: usize = LARGEST_BATCH + 64;
/// The most elements in the inputs of a [`ModelInferRequest`]: two inputs, each of the largest
/// batch, and what describes them.
const MAX_ELEMENTS: usize = 2 * LARGEST_BATCH + 64;

/// The codec of the Open Inference Protocol.
pub type TensorCodec<T, U> = BoundedCodec<T, U, MAX_TENSORS>;
/// The codec of our own RPCs.
pub type BatchCodec<T, U> = BoundedCodec<T, U, MAX_BATCH>;

/// A codec of messages with at most `MAX` fields.
#[derive(Debug, Clone)]
pub struct BoundedCodec<T, U, const MAX: usize>(PhantomData<(T, U)>);

impl<T, U, const MAX: usize> Default for BoundedCodec<T, U, MAX> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U, const MAX: usize> Codec for BoundedCodec<T, U, MAX>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = <ProstCodec<T, U> as Codec>::Encoder;
    type Decoder = BoundedDecoder<U, MAX>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::raw_encoder(BufferSettings::default())
    }

    fn decoder(&mut self) -> Self::Decoder {
        BoundedDecoder(PhantomData)
    }
}

/// The decoder of [`BoundedCodec`].
#[derive(Debug, Clone)]
pub struct BoundedDecoder<U, const MAX: usize>(PhantomData<U>);

impl<U: Message + Default + 'static, const MAX: usize> Decoder for BoundedDecoder<U, MAX> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        decode(buf.copy_to_bytes(buf.remaining()), MAX).map(Some)
    }
}

/// Decodes a message of at most `max` fields.
///
/// The codes are those that tonic has for a message that is too large or malformed.
fn decode<U: Message + Default + 'static>(message: Bytes, max: usize) -> Result<U, Status> {
    let too_many =
        |max: usize, what: &str| Status::out_of_range(format!("expected at most {max} {what}, found more"));
    if Fields(&message).nth(max).is_some() {
        return Err(too_many(max, "fields"));
    }
    if TypeId::of::<U>() == TypeId::of::<ModelInferRequest>() && has_more_elements(&message, MAX_ELEMENTS) {
        return Err(too_many(MAX_ELEMENTS, "elements in all tensors"));
    }
    U::decode(message).map_err(|error| Status::internal(error.to_string()))
}

/// Whether the tensors of a [`ModelInferRequest`] have more than `max` elements. Parameters and
/// sizes of shapes count as elements. The elements of numeric lists count as their bytes, because
/// no model takes them.
fn has_more_elements(request: &[u8], max: usize) -> bool {
    const INPUTS: u32 = 5;
    const OUTPUTS: u32 = 6;
    const SHAPE: u32 = 3;
    const CONTENTS: u32 = 5;
    const BYTES_CONTENTS: u32 = 8;
    let mut count: usize = 0;
    for (kind, tensor) in Fields(request).filter(|(tag, _)| matches!(*tag, INPUTS | OUTPUTS)) {
        for (tag, field) in Fields(tensor) {
            count += match (kind, tag) {
                (INPUTS, CONTENTS) => Fields(field)
                    .map(|(tag, list)| if tag == BYTES_CONTENTS { 1 } else { list.len().max(1) })
                    .sum::<usize>(),
                (INPUTS, SHAPE) => field.len().max(1),
                _ => 1,
            };
            if count > max {
                return true;
            }
        }
    }
    false
}

/// The fields of a message, up to the first that is malformed: their tags, and the content of those
/// that have a length.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = (u32, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let (tag, wire) = decode_key(&mut self.0).ok()?;
        if wire != WireType::LengthDelimited {
            skip_field(wire, tag, &mut self.0, DecodeContext::default()).ok()?;
            return Some((tag, &[]));
        }
        let length = usize::try_from(decode_varint(&mut self.0).ok()?).ok()?;
        let (content, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classifier::v1::BatchClassifyRequest;
    use crate::encoder::v1::EncodeRequest;
    use crate::inference::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
    use crate::inference::{InferParameter, InferTensorContents};

    fn decode_tensors(message: Bytes) -> Result<ModelInferRequest, Status> {
        decode(message, MAX_TENSORS)
    }

    fn request(inputs: usize) -> Bytes {
        let inputs = vec![InferInputTensor::default(); inputs];
        let request = ModelInferRequest { model_name: "m".to_owned(), inputs, ..Default::default() };
        request.encode_to_vec().into()
    }

    #[test]
    fn rejects_too_many_fields_before_it_decodes_them() {
        let decoded = decode_tensors(request(MAX_TENSORS - 1)).unwrap();
        assert_eq!(decoded.inputs.len(), MAX_TENSORS - 1);
        for count in [MAX_TENSORS, 100_000] {
            let error = decode_tensors(request(count)).unwrap_err();
            assert_eq!(error.code(), tonic::Code::OutOfRange, "{error:?}");
        }
    }

    #[test]
    fn rejects_more_movies_or_texts_than_the_largest_batch() {
        let empty = |count: usize| Bytes::from(b"\x0a\x00".repeat(count));
        let batch = decode::<BatchClassifyRequest>(empty(LARGEST_BATCH), MAX_BATCH).unwrap();
        assert_eq!(batch.movies.len(), LARGEST_BATCH);
        let batch = decode::<EncodeRequest>(empty(LARGEST_BATCH), MAX_BATCH).unwrap();
        assert_eq!(batch.texts.len(), LARGEST_BATCH);
        let error = decode::<BatchClassifyRequest>(empty(100_000), MAX_BATCH).unwrap_err();
        assert_eq!(error.code(), tonic::Code::OutOfRange, "{error:?}");
        let error = decode::<EncodeRequest>(empty(100_000), MAX_BATCH).unwrap_err();
        assert_eq!(error.code(), tonic::Code::OutOfRange, "{error:?}");
    }

    #[test]
    fn rejects_more_elements_than_two_inputs_of_the_largest_batch() {
        let texts = |count: usize| InferTensorContents {
            bytes_contents: vec![Vec::new(); count],
            ..Default::default()
        };
        let input = |contents: InferTensorContents| InferInputTensor {
            shape: vec![1],
            contents: Some(contents),
            ..Default::default()
        };
        let encoded = |request: ModelInferRequest| Bytes::from(request.encode_to_vec());
        let of = |inputs: Vec<InferInputTensor>| {
            encoded(ModelInferRequest { inputs, ..ModelInferRequest::default() })
        };
        let largest = || input(texts(LARGEST_BATCH));
        assert_eq!(decode_tensors(of(vec![largest(), largest()])).unwrap().inputs.len(), 2);
        let numbers = InferTensorContents { uint64_contents: vec![0; 200_000], ..Default::default() };
        let mut long = largest();
        long.shape = vec![0; 200_000];
        let parameters = (0..200_000).map(|number| (number.to_string(), InferParameter::default())).collect();
        let output = InferRequestedOutputTensor { parameters, ..Default::default() };
        let outputs = encoded(ModelInferRequest { outputs: vec![output], ..Default::default() });
        for wrong in [
            of(vec![input(texts(200_000))]),
            of(vec![largest(), largest(), largest()]),
            of(vec![input(numbers)]),
            of(vec![long]),
            outputs,
        ] {
            let error = decode_tensors(wrong).unwrap_err();
            assert_eq!(error.code(), tonic::Code::OutOfRange, "{error:?}");
        }
    }

    #[test]
    fn reports_a_malformed_message_as_tonic_does() {
        for wrong in [&b"\x0a\xff"[..], b"\x0a\x01\xff", b"\xff\xff", b"\x2a\x02\x0a\x05"] {
            let error = decode_tensors(Bytes::from_static(wrong)).unwrap_err();
            assert_eq!(error.code(), tonic::Code::Internal);
            assert!(error.message().starts_with("failed to decode Protobuf message"), "{error:?}");
        }
    }

    #[test]
    fn raw_contents_are_not_copied() {
        let raw = Bytes::from(vec![7_u8; 4096]);
        let request = ModelInferRequest { raw_input_contents: vec![raw], ..Default::default() };
        let message = Bytes::from(request.encode_to_vec());
        let decoded = decode_tensors(message.clone()).unwrap();
        let found = decoded.raw_input_contents[0].as_ptr_range();
        assert!(message.as_ptr_range().start < found.start && found.end <= message.as_ptr_range().end);
    }
}
