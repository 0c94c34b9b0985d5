//! Calls of `movieclassifier.encoder.v1.EncoderService`, from the bytes of their body to vectors or a refusal.

use prost::Message as _;
use proto::encoder::v1::encode_stream_response::Result as StreamResult;
use proto::encoder::v1::{
    Embedding, EncodeRequest, EncodeResponse, EncodeStreamRequest, EncodeStreamResponse, Priority,
};

use crate::harness::grpc::{frame, stream_frames};
use crate::harness::rules::{MAX_TEXT_BYTES, MAX_TEXTS, Violations, is_blank, wrong_batch};
use crate::harness::services::{DIMENSION, MAX_TOKENS, SERVICES};
use crate::target::Target;

pub(crate) const TARGET: Target = Target {
    name: "encode_request",
    check,
    seeds,
    words: &[
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

/// Bytes of a message that the limits allow.
const MAX_MESSAGE: usize = MAX_TEXTS * (MAX_TEXT_BYTES + 16) + 1024;

/// The first byte says which method, and whether the rest is its whole body or one message for it.
fn check(data: &[u8]) {
    let Some((&mode, data)) = data.split_first() else { return };
    let body = if mode & 2 == 0 { frame(data) } else { data.to_vec() };
    if mode & 1 == 0 { unary(body) } else { stream(body) }
}

fn unary(body: Vec<u8>) {
    let request = match stream_frames(&body, MAX_MESSAGE).as_deref() {
        Some([message]) => EncodeRequest::decode(*message).ok(),
        _ => None,
    };
    let reply =
        SERVICES.call(&SERVICES.encoder, "/movieclassifier.encoder.v1.EncoderService/Encode", &[], body);
    let Some(request) = request else { return reply.is_refused_as_malformed() };
    let mut wrong = wrong_batch("texts", request.texts.len(), MAX_TEXTS);
    if wrong.is_empty() {
        let texts = request.texts.iter().enumerate();
        wrong = texts.flat_map(|(index, text)| wrong_text(&format!("texts[{index}]"), text)).collect();
    }
    if !wrong.is_empty() {
        return reply.is_refused_for(&wrong);
    }
    let answer: EncodeResponse = reply.only();
    assert_eq!(answer.embeddings.len(), request.texts.len(), "one vector for each text");
    assert_eq!(answer.fingerprint.len(), 64);
    for (text, embedding) in request.texts.iter().zip(&answer.embeddings) {
        is_sound(embedding);
        let first = request.texts.iter().position(|other| other == text).unwrap_or_default();
        assert_eq!(embedding, &answer.embeddings[first], "equal texts have equal vectors");
    }
}

fn stream(body: Vec<u8>) {
    let requests: Option<Vec<EncodeStreamRequest>> = stream_frames(&body, MAX_MESSAGE)
        .and_then(|messages| messages.into_iter().map(|m| EncodeStreamRequest::decode(m).ok()).collect());
    let reply = SERVICES.call(
        &SERVICES.encoder,
        "/movieclassifier.encoder.v1.EncoderService/EncodeStream",
        &[],
        body,
    );
    let Some(requests) = requests else { return reply.is_refused_as_malformed() };
    assert_eq!(reply.status.code(), tonic::Code::Ok, "{:?}", reply.status);
    let answers: Vec<EncodeStreamResponse> = reply.messages();
    let ids = |ids: &mut dyn Iterator<Item = String>| {
        let mut ids: Vec<_> = ids.collect();
        ids.sort();
        ids
    };
    let asked = ids(&mut requests.iter().map(|request| request.id.clone()));
    assert_eq!(asked, ids(&mut answers.iter().map(|answer| answer.id.clone())), "each text once");
    for answer in answers {
        let asked: Vec<_> = requests.iter().filter(|request| request.id == answer.id).collect();
        match answer.result.expect("each answer is one or the other") {
            StreamResult::Embedding(embedding) => {
                is_sound(&embedding);
                assert!(asked.iter().any(|request| wrong_text("text", &request.text).is_empty()));
            }
            StreamResult::Error(error) => {
                assert_eq!(error.code, i32::from(tonic::Code::InvalidArgument), "{error:?}");
                let is_reason = |request: &&&EncodeStreamRequest| {
                    wrong_text("text", &request.text).iter().any(|(_, reason)| *reason == error.reason)
                };
                assert!(asked.iter().any(|request| is_reason(&request)), "{error:?}");
                assert!(error.message.contains("text"), "{error:?}");
            }
        }
    }
}

fn wrong_text(field: &str, text: &str) -> Violations {
    if text.len() > MAX_TEXT_BYTES {
        vec![(field.to_owned(), "TEXT_TOO_LONG")]
    } else if is_blank(text) {
        vec![(field.to_owned(), "EMPTY_TEXT")]
    } else {
        Vec::new()
    }
}

fn is_sound(embedding: &Embedding) {
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
    let with = |mode: u8, body: Vec<u8>| [vec![mode], body].concat();
    let long = "a night train ".repeat(37);
    let items = [("1", "A pilot."), ("2", " \u{feff}"), ("1", "A storm.")];
    let items: Vec<u8> = items.iter().flat_map(|(id, text)| frame(&item(id, text))).collect();
    vec![
        with(0, batch(&["A lighthouse keeper finds a map.", "Deux sœurs héritent d'un vignoble 🎬"])),
        with(0, batch(&["", "\u{180e}\u{2003}", &long, "x", "x"])),
        with(0, batch(&["twin", "twin"])),
        with(0, batch(&[&long])),
        with(1, item("7", "A wedding.")),
        with(2, frame(&batch(&["framed"]))),
        with(3, items),
        with(0, batch(&["x"; MAX_TEXTS + 1])),
        // Announces a gigabyte.
        with(2, vec![0, 0x40, 0, 0, 0]),
        // Said to be compressed.
        with(2, vec![1, 0, 0, 0, 1, 10]),
    ]
}
