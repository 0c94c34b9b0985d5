//! Batches on a real session: batching does not change vectors, and a graph for which it would is
//! rejected.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::time::Duration;

use common::{count, encode, fixture, largest_difference, settings, texts};
use encoder_svc::inference::device::Device;
use encoder_svc::scheduler::entry::Class;
use encoder_svc::{Encoder, EncoderSettings, EncoderSvcConfig, StartError, startup};
use service_kit::{CallerId, Deadline, Metrics};

async fn start(change: impl FnOnce(&mut EncoderSettings)) -> Result<(Encoder, Metrics), StartError> {
    let (mut settings, metrics) = (settings(), Metrics::default());
    settings.encoder.sessions = 1;
    change(&mut settings.encoder);
    let config = EncoderSvcConfig::try_from(settings).unwrap();
    Ok((startup::start(config.encoder, metrics.clone()).await?, metrics))
}

async fn start_error(change: impl FnOnce(&mut EncoderSettings)) -> String {
    start(change).await.err().expect("an error").to_string()
}

async fn assert_batches_do_not_change_vectors(bundle: &str) {
    let (alone, metrics) = start(|encoder| encoder.bundle = fixture(bundle)).await.unwrap();
    let expected = encode(&alone, texts(200)).await.unwrap();
    assert_eq!(count(&metrics, "run_texts_sum"), 200);
    assert_eq!(count(&metrics, "run_texts_count"), 200);

    let change =
        |encoder: &mut EncoderSettings| (encoder.bundle, encoder.batch_tokens) = (fixture(bundle), 2048);
    let (batched, metrics) = start(change).await.unwrap();
    let found = encode(&batched, texts(200)).await.unwrap();
    assert_eq!(count(&metrics, "run_texts_sum"), 200, "each text ran once");
    let runs = count(&metrics, "run_texts_count");
    assert!(runs < 60, "{runs} runs of 200 texts");
    let difference = largest_difference(&found, &expected);
    assert!(difference <= 1e-5, "{difference:e}");
}

#[tokio::test]
async fn padded_batches_do_not_change_vectors() {
    assert_batches_do_not_change_vectors("tiny-512").await;
}

#[tokio::test]
async fn ragged_batches_do_not_change_vectors() {
    assert_batches_do_not_change_vectors("use-stand-in-512").await;
}

#[tokio::test]
async fn rejects_batches_of_a_graph_whose_scales_span_a_batch() {
    let int8 = |encoder: &mut EncoderSettings| encoder.bundle = fixture("tiny-int8-512");
    assert!(start(int8).await.is_ok());
    let message =
        start_error(|encoder| (encoder.bundle, encoder.batch_tokens) = (fixture("tiny-int8-512"), 512)).await;
    assert!(message.contains("run in a batch") && message.contains("minilm-512-fp32"), "{message}");
}

#[tokio::test]
async fn callers_that_leave_do_not_affect_their_batch() {
    let (encoder, metrics) = start(|encoder| encoder.batch_tokens = 4096).await.unwrap();
    let stays = encode(&encoder, texts(100));
    let leaves = tokio::time::timeout(Duration::from_millis(1), encode(&encoder, texts(100)));
    let late = encoder.encode_batch(
        texts(100),
        Class::Bulk,
        CallerId::UNKNOWN,
        Deadline::after(Duration::from_millis(1)),
    );
    let (stays, leaves, late) = tokio::join!(stays, leaves, late);
    assert_eq!(stays.unwrap().len(), 100);
    // If the machine encoded everything within a millisecond, no caller would have time to leave.
    if leaves.is_err() && late.is_err() {
        assert!(count(&metrics, "run_texts_sum") < 300);
    }
}

/// The tests' ONNX Runtime library has no CUDA.
#[tokio::test]
async fn names_a_missing_device_and_does_not_fall_back() {
    let message = start_error(|encoder| encoder.device = Device::Cuda).await;
    assert!(
        message.starts_with(r#"encoder.device is "cuda", which this ONNX Runtime cannot use: "#),
        "{message}"
    );
}
