//! Texts that run together, on a real session: who asks for it gets it where vectors bear it, and is refused where they do not.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::time::Duration;

use common::{count, encode, fixture, largest_difference, settings, texts};
use encoder_svc::inference::device::Device;
use encoder_svc::scheduler::queue::Class;
use encoder_svc::{Encoder, EncoderSettings, EncoderSvcConfig, StartError};
use service_kit::{Deadline, Metrics};

async fn start(change: impl FnOnce(&mut EncoderSettings)) -> Result<(Encoder, Metrics), StartError> {
    let (mut settings, metrics) = (settings(), Metrics::default());
    settings.encoder.sessions = 1;
    change(&mut settings.encoder);
    let config = EncoderSvcConfig::try_from(settings).unwrap();
    Ok((Encoder::start(config.encoder, metrics.clone()).await?, metrics))
}

async fn refusal(change: impl FnOnce(&mut EncoderSettings)) -> String {
    start(change).await.err().expect("a refusal").to_string()
}

async fn vectors_are_those_of_each_alone(bundle: &str) {
    let (alone, metrics) = start(|encoder| encoder.bundle = fixture(bundle)).await.unwrap();
    let expected = encode(&alone, texts(200)).await.unwrap();
    assert_eq!(count(&metrics, "run_texts_sum"), 200);
    assert_eq!(count(&metrics, "run_texts_count"), 200);

    let change =
        |encoder: &mut EncoderSettings| (encoder.bundle, encoder.batch_tokens) = (fixture(bundle), 2048);
    let (together, metrics) = start(change).await.unwrap();
    let found = encode(&together, texts(200)).await.unwrap();
    assert_eq!(count(&metrics, "run_texts_sum"), 200, "each ran once");
    let runs = count(&metrics, "run_texts_count");
    assert!(runs < 60, "{runs} runs of 200 texts");
    let difference = largest_difference(&found, &expected);
    assert!(difference <= 1e-5, "{difference:e}");
}

#[tokio::test]
async fn vectors_of_padded_texts_that_ran_together_are_those_of_each_alone() {
    vectors_are_those_of_each_alone("tiny-512").await;
}

#[tokio::test]
async fn vectors_of_ragged_texts_that_ran_together_are_those_of_each_alone() {
    vectors_are_those_of_each_alone("use-stand-in-512").await;
}

#[tokio::test]
async fn a_graph_whose_scales_span_a_run_is_refused_where_texts_would_run_together() {
    let int8 = |encoder: &mut EncoderSettings| encoder.bundle = fixture("tiny-int8-512");
    assert!(start(int8).await.is_ok());
    let message =
        refusal(|encoder| (encoder.bundle, encoder.batch_tokens) = (fixture("tiny-int8-512"), 512)).await;
    assert!(
        message.contains("run together with the others") && message.contains("minilm-512-fp32"),
        "{message}"
    );
}

#[tokio::test]
async fn callers_that_leave_and_deadlines_that_pass_do_not_touch_their_company() {
    let (encoder, metrics) = start(|encoder| encoder.batch_tokens = 4096).await.unwrap();
    let stays = encode(&encoder, texts(100));
    let leaves = tokio::time::timeout(Duration::from_millis(1), encode(&encoder, texts(100)));
    let late = encoder.encode_batch(texts(100), Class::Bulk, Deadline::after(Duration::from_millis(1)));
    let (stays, leaves, late) = tokio::join!(stays, leaves, late);
    assert_eq!(stays.unwrap().len(), 100);
    // On a machine that does all of it within a millisecond, nobody left.
    if leaves.is_err() && late.is_err() {
        assert!(count(&metrics, "run_texts_sum") < 300);
    }
}

/// The library of the tests is for the CPU alone.
#[tokio::test]
async fn a_device_that_there_is_not_is_named_and_nothing_else_is_taken_for_it() {
    let message = refusal(|encoder| encoder.device = Device::Cuda).await;
    assert!(
        message.starts_with(r#"encoder.device is "cuda", which this ONNX Runtime cannot use: "#),
        "{message}"
    );
}
