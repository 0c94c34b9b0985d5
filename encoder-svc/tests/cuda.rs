//! The encoder on a GPU. Needs an ONNX Runtime with CUDA at `ORT_DYLIB_PATH`; `make test-gpu` runs
//! it.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::path::{Path, PathBuf};
use std::time::Duration;

use common::{count, encode, fixture, largest_difference, settings, texts};
use encoder_svc::inference::device::Device;
use encoder_svc::scheduler::entry::Class;
use encoder_svc::{Encoder, EncoderSettings, EncoderSvcConfig, StartError, startup};
use service_kit::{CallerId, Deadline, Metrics};

async fn start(
    device: Device,
    change: impl FnOnce(&mut EncoderSettings),
) -> Result<(Encoder, Metrics), StartError> {
    let (mut settings, metrics) = (settings(), Metrics::default());
    // `None` means the library that the environment names.
    settings.encoder.runtime_library = None;
    settings.encoder.sessions = 0;
    settings.encoder.device = device;
    change(&mut settings.encoder);
    let config = EncoderSvcConfig::try_from(settings).unwrap();
    Ok((startup::start(config.encoder, metrics.clone()).await?, metrics))
}

async fn start_error(change: impl FnOnce(&mut EncoderSettings)) -> String {
    start(Device::Cuda, change).await.err().expect("an error").to_string()
}

async fn assert_vectors_of_the_cpu(bundle: PathBuf) {
    let (cpu, _) = start(Device::Cpu, |encoder| encoder.bundle.clone_from(&bundle)).await.unwrap();
    let expected = encode(&cpu, texts(200)).await.unwrap();

    let (gpu, metrics) = start(Device::Cuda, |encoder| encoder.bundle.clone_from(&bundle)).await.unwrap();
    let found = encode(&gpu, texts(200)).await.unwrap();
    assert_eq!(count(&metrics, "run_texts_sum"), 200, "each text ran once");
    let runs = count(&metrics, "run_texts_count");
    assert!(runs < 60, "{runs} runs of 200 texts");
    let difference = largest_difference(&found, &expected);
    println!("{}: {runs} runs, {difference:e} from the CPU", bundle.display());
    assert!(difference <= 1e-5, "{difference:e}");

    let one_alone = encode(&gpu, texts(1)).await.unwrap();
    assert!(largest_difference(&one_alone, &expected[..1]) <= 1e-5);
}

#[tokio::test]
#[ignore = "needs a GPU: make test-gpu"]
async fn gpu_and_cpu_agree_on_padded_batches() {
    assert_vectors_of_the_cpu(fixture("tiny-512")).await;
}

#[tokio::test]
#[ignore = "needs a GPU: make test-gpu"]
async fn gpu_and_cpu_agree_on_ragged_batches() {
    assert_vectors_of_the_cpu(fixture("use-stand-in-512")).await;
}

#[tokio::test]
#[ignore = "needs a GPU: make test-gpu"]
async fn gpu_and_cpu_agree_on_the_real_bundle() {
    let bundle = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.runtime/bundles/minilm-512-fp32");
    assert_vectors_of_the_cpu(bundle).await;
}

#[tokio::test]
#[ignore = "needs a GPU: make test-gpu"]
async fn rejects_a_graph_whose_scales_span_a_batch() {
    let message = start_error(|encoder| encoder.bundle = fixture("tiny-int8-512")).await;
    assert!(message.contains("minilm-512-fp32"), "{message}");
}

#[tokio::test]
#[ignore = "needs a GPU: make test-gpu"]
async fn names_a_missing_gpu_and_does_not_fall_back() {
    let message = start_error(|encoder| encoder.device_id = 99).await;
    assert!(
        message.starts_with(r#"encoder.device is "cuda", which this ONNX Runtime cannot use: "#),
        "{message}"
    );
}

#[tokio::test]
#[ignore = "needs a GPU: make test-gpu"]
async fn callers_that_leave_do_not_affect_their_batch() {
    let (encoder, metrics) = start(Device::Cuda, |_| ()).await.unwrap();
    let stays = encode(&encoder, texts(200));
    let leaves = tokio::time::timeout(Duration::from_micros(100), encode(&encoder, texts(200)));
    let late = encoder.encode_batch(
        texts(200),
        Class::Bulk,
        CallerId::UNKNOWN,
        Deadline::after(Duration::from_micros(100)),
    );
    let (stays, _, _) = tokio::join!(stays, leaves, late);
    assert_eq!(stays.unwrap().len(), 200);
    let admitted = r#"admitted_texts{class="bulk"}"#;
    // A run whose callers have left may still be under way.
    for _ in 0..100 {
        if count(&metrics, admitted) == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(count(&metrics, admitted), 0, "all permits are freed");
}
