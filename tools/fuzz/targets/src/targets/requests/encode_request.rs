//! Calls of `movieclassifier.encoder.v1.EncoderService`, from the bytes of a body to vectors or a
//! rejection.

use prost::Message as _;
use proto::encoder::v1::encode_stream_response::Result as StreamResult;
use proto::encoder::v1::{
    Embedding, EncodeRequest, EncodeResponse, EncodeStreamRequest, EncodeStreamResponse, Priority,
};

use crate::harness::grpc::{Reply, frame, request_message, request_messages};
use crate::harness::inputs::seed_with_mode;
use crate::harness::rules::{MAX_TEXT_BYTES, MAX_TEXTS, batch_violations, text_violations};
use crate::harness::services::{DIMENSION, MAX_TOKENS, SERVICES};
use crate::target::Target;

pub(crate) const TARGET: Target = Target {
    name: "encode_request",
    check,
    seeds,
    dictionary: &[
        "\n",
        "\u{10}\u{2}",
        "\0\0\0\0\u{5}",
        "\u{feff}",
        "\u{180e}",
        "é",
        "🎬",
        "a movie",
        "\u{a}\u{6}",
    ],
    max_len: 4096,
    cases: 1500,
};

/// Bytes per message that the limits allow.
const MAX_MESSAGE: usize = MAX_TEXTS * (MAX_TEXT_BYTES + 16) + 1024;

/// The first byte selects the method, and whether the rest is a whole body or a single message.
fn check(data: &[u8]) {
    let Some((&mode, data)) = data.split_first() else { return };
    let body = if mode & 2 == 0 { frame(data) } else { data.to_vec() };
    if mode & 1 == 0 { unary(body) } else { stream(body) }
}

fn call(method: &str, body: Vec<u8>) -> Reply {
    let path = format!("/movieclassifier.encoder.v1.EncoderService/{method}");
    SERVICES.call(&SERVICES.encoder, &path, &[], body)
}

fn unary(body: Vec<u8>) {
    let request: Option<EncodeRequest> = request_message(&body, MAX_MESSAGE);
    let reply = call("Encode", body);
    let Some(request) = request else { return reply.assert_malformed() };
    let of_text = |index, text: &String| text_violations(&format!("texts[{index}]"), text);
    let violations = batch_violations("texts", &request.texts, MAX_TEXTS, of_text, Vec::new());
    if !violations.is_empty() {
        return reply.assert_rejected_for(&violations);
    }
    let response: EncodeResponse = reply.message();
    assert_eq!(response.embeddings.len(), request.texts.len(), "one vector per text");
    assert_eq!(response.fingerprint.len(), 64);
    for (text, embedding) in request.texts.iter().zip(&response.embeddings) {
        assert_valid(embedding);
        let first = request.texts.iter().position(|other| other == text).unwrap_or_default();
        assert_eq!(embedding, &response.embeddings[first], "equal texts have equal vectors");
    }
}

fn stream(body: Vec<u8>) {
    let requests: Option<Vec<EncodeStreamRequest>> = request_messages(&body, MAX_MESSAGE);
    let reply = call("EncodeStream", body);
    let Some(requests) = requests else { return reply.assert_malformed() };
    let responses: Vec<EncodeStreamResponse> = reply.messages();
    let sorted = |ids: &mut dyn Iterator<Item = String>| {
        let mut ids: Vec<_> = ids.collect();
        ids.sort();
        ids
    };
    assert_eq!(
        sorted(&mut requests.iter().map(|request| request.id.clone())),
        sorted(&mut responses.iter().map(|response| response.id.clone())),
        "one response per text"
    );
    for response in responses {
        // Several texts may have the same ID; the response belongs to one of them.
        let mut violations = requests
            .iter()
            .filter(|request| request.id == response.id)
            .map(|request| text_violations("text", &request.text));
        match response.result.expect("a response is a vector or an error") {
            StreamResult::Embedding(embedding) => {
                assert_valid(&embedding);
                assert!(violations.any(|violations| violations.is_empty()));
            }
            StreamResult::Error(error) => {
                assert_eq!(error.code, i32::from(tonic::Code::InvalidArgument), "{error:?}");
                let reasons: Vec<_> = violations.flatten().map(|(_, reason)| reason).collect();
                assert!(reasons.contains(&error.reason.as_str()), "{error:?}");
                assert!(error.message.contains("text"), "{error:?}");
            }
        }
    }
}

fn assert_valid(embedding: &Embedding) {
    assert_eq!(embedding.values.len(), DIMENSION);
    assert!(embedding.values.iter().all(|value| value.is_finite()));
    assert!((1..=MAX_TOKENS).contains(&embedding.token_count), "{}", embedding.token_count);
    assert!(!embedding.truncated || embedding.token_count == MAX_TOKENS);
}

fn seeds() -> Vec<Vec<u8>> {
    let batch = |texts: &[&str]| {
        let texts = texts.iter().map(|text| (*text).to_owned()).collect();
        EncodeRequest { texts, priority: Priority::Bulk.into() }.encode_to_vec()
    };
    let item = |id: &str, text: &str| {
        EncodeStreamRequest { id: id.to_owned(), text: text.to_owned(), priority: 1 }.encode_to_vec()
    };
    let long = "a night train ".repeat(37);
    let items = [("1", "A pilot."), ("2", " \u{feff}"), ("1", "A storm.")];
    let items: Vec<u8> = items.iter().flat_map(|(id, text)| frame(&item(id, text))).collect();
    vec![
        seed_with_mode(
            0,
            &batch(&["A lighthouse keeper finds a map.", "Deux sœurs héritent d'un vignoble 🎬"]),
        ),
        seed_with_mode(0, &batch(&["", "\u{180e}\u{2003}", &long, "x", "x"])),
        seed_with_mode(0, &batch(&["twin", "twin"])),
        seed_with_mode(0, &batch(&[&long])),
        seed_with_mode(1, &item("7", "A wedding.")),
        seed_with_mode(2, &frame(&batch(&["framed"]))),
        seed_with_mode(3, &items),
        seed_with_mode(0, &batch(&["x"; MAX_TEXTS + 1])),
        // The head announces a gigabyte.
        seed_with_mode(2, &[0, 0x40, 0, 0, 0]),
        // The head announces compression.
        seed_with_mode(2, &[1, 0, 0, 0, 1, 10]),
    ]
}
