//! A codec that rejects a message of too many fields before it decodes the message.
//!
//! Decoding makes a struct of each nested message, and an empty one takes two bytes on the wire and
//! hundreds in memory. tonic's own codec only limits the bytes of a message.

use std::marker::PhantomData;

use prost::Message;
use prost::bytes::{Buf, Bytes};
use prost::encoding::{DecodeContext, decode_key, skip_field};
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder};
use tonic_prost::ProstCodec;

/// The most fields of a message, those of nested messages not counted.
const MAX_FIELDS: usize = 64;

/// A codec of messages with at most 64 fields.
#[derive(Debug, Clone)]
pub struct BoundedCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for BoundedCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for BoundedCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = <ProstCodec<T, U> as Codec>::Encoder;
    type Decoder = BoundedDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::raw_encoder(BufferSettings::default())
    }

    fn decoder(&mut self) -> Self::Decoder {
        BoundedDecoder(PhantomData)
    }
}

/// The decoder of [`BoundedCodec`].
#[derive(Debug, Clone)]
pub struct BoundedDecoder<U>(PhantomData<U>);

impl<U: Message + Default> Decoder for BoundedDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        decode(buf.copy_to_bytes(buf.remaining())).map(Some)
    }
}

/// The codes are those that tonic has for a message that is too large or malformed.
fn decode<U: Message + Default>(message: Bytes) -> Result<U, Status> {
    if has_more_fields(message.clone(), MAX_FIELDS) {
        return Err(Status::out_of_range(format!("expected at most {MAX_FIELDS} fields, found more")));
    }
    U::decode(message).map_err(|error| Status::internal(error.to_string()))
}

/// Whether a message has more than `max` fields, up to the first that is malformed.
fn has_more_fields(mut message: Bytes, max: usize) -> bool {
    for _ in 0..=max {
        if !message.has_remaining() {
            return false;
        }
        let skipped = decode_key(&mut message)
            .and_then(|(tag, wire)| skip_field(wire, tag, &mut message, DecodeContext::default()));
        if skipped.is_err() {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inference::ModelInferRequest;
    use crate::inference::model_infer_request::InferInputTensor;

    fn request(inputs: usize) -> Bytes {
        let inputs = vec![InferInputTensor::default(); inputs];
        let request = ModelInferRequest { model_name: "m".to_owned(), inputs, ..Default::default() };
        request.encode_to_vec().into()
    }

    #[test]
    fn rejects_too_many_fields_before_it_decodes_them() {
        let decoded = decode::<ModelInferRequest>(request(MAX_FIELDS - 1)).unwrap();
        assert_eq!(decoded.inputs.len(), MAX_FIELDS - 1);
        for count in [MAX_FIELDS, 100_000] {
            let error = decode::<ModelInferRequest>(request(count)).unwrap_err();
            assert_eq!(error.code(), tonic::Code::OutOfRange, "{error:?}");
        }
    }

    #[test]
    fn reports_a_malformed_message_as_tonic_does() {
        for wrong in [&b"\x0a\xff"[..], b"\x0a\x01\xff", b"\xff\xff", b"\x2a\x02\x0a\x05"] {
            let error = decode::<ModelInferRequest>(Bytes::from_static(wrong)).unwrap_err();
            assert_eq!(error.code(), tonic::Code::Internal);
            assert!(error.message().starts_with("failed to decode Protobuf message"), "{error:?}");
        }
    }

    #[test]
    fn raw_contents_are_not_copied() {
        let raw = Bytes::from(vec![7_u8; 4096]);
        let request = ModelInferRequest { raw_input_contents: vec![raw], ..Default::default() };
        let message = Bytes::from(request.encode_to_vec());
        let decoded = decode::<ModelInferRequest>(message.clone()).unwrap();
        let found = decoded.raw_input_contents[0].as_ptr_range();
        assert!(message.as_ptr_range().start < found.start && found.end <= message.as_ptr_range().end);
    }
}
