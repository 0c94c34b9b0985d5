//! On a GPU, with an ONNX Runtime that has CUDA at `ORT_DYLIB_PATH`: `make test-gpu`.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::path::{Path, PathBuf};
use std::time::Duration;

use common::{count, encode, fixture, largest_difference, settings, texts};
use encoder_svc::inference::device::Device;
use encoder_svc::scheduler::queue::Class;
use encoder_svc::{Encoder, EncoderSettings, EncoderSvcConfig, StartError};
use service_kit::{Deadline, Metrics};

async fn start(
    device: Device,
    change: impl FnOnce(&mut EncoderSettings),
) -> Result<(Encoder, Metrics), StartError> {
    let (mut settings, metrics) = (settings(), Metrics::default());
    // What the environment names.
    settings.encoder.runtime_library = None;
    settings.encoder.sessions = 0;
    settings.encoder.device = device;
    change(&mut settings.encoder);
    let config = EncoderSvcConfig::try_from(settings).unwrap();
    Ok((Encoder::start(config.encoder, metrics.clone()).await?, metrics))
}

async fn refusal(change: impl FnOnce(&mut EncoderSettings)) -> String {
    start(Device::Cuda, change).await.err().expect("a refusal").to_string()
}

async fn vectors_are_those_of_the_cpu(bundle: PathBuf) {
    let (cpu, _) = start(Device::Cpu, |encoder| encoder.bundle.clone_from(&bundle)).await.unwrap();
    let expected = encode(&cpu, texts(200)).await.unwrap();

    let (gpu, metrics) = start(Device::Cuda, |encoder| encoder.bundle.clone_from(&bundle)).await.unwrap();
    let found = encode(&gpu, texts(200)).await.unwrap();
    assert_eq!(count(&metrics, "run_texts_sum"), 200, "each ran once");
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
async fn vectors_of_padded_texts_on_the_gpu_are_those_of_the_cpu() {
    vectors_are_those_of_the_cpu(fixture("tiny-512")).await;
}

#[tokio::test]
#[ignore = "needs a GPU: make test-gpu"]
async fn vectors_of_ragged_texts_on_the_gpu_are_those_of_the_cpu() {
    vectors_are_those_of_the_cpu(fixture("use-stand-in-512")).await;
}

#[tokio::test]
#[ignore = "needs a GPU: make test-gpu"]
async fn vectors_of_the_real_bundle_on_the_gpu_are_those_of_the_cpu() {
    let bundle = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.runtime/bundles/minilm-512-fp32");
    vectors_are_those_of_the_cpu(bundle).await;
}

#[tokio::test]
#[ignore = "needs a GPU: make test-gpu"]
async fn a_graph_whose_scales_span_a_run_is_refused_for_the_gpu() {
    let message = refusal(|encoder| encoder.bundle = fixture("tiny-int8-512")).await;
    assert!(message.contains("minilm-512-fp32"), "{message}");
}

#[tokio::test]
#[ignore = "needs a GPU: make test-gpu"]
async fn a_gpu_that_there_is_not_is_named_and_nothing_else_is_taken_for_it() {
    let message = refusal(|encoder| encoder.device_id = 99).await;
    assert!(
        message.starts_with(r#"encoder.device is "cuda", which this ONNX Runtime cannot use: "#),
        "{message}"
    );
}

#[tokio::test]
#[ignore = "needs a GPU: make test-gpu"]
async fn callers_that_leave_and_deadlines_that_pass_do_not_touch_their_company() {
    let (encoder, metrics) = start(Device::Cuda, |_| ()).await.unwrap();
    let stays = encode(&encoder, texts(200));
    let leaves = tokio::time::timeout(Duration::from_micros(100), encode(&encoder, texts(200)));
    let late = encoder.encode_batch(texts(200), Class::Bulk, Deadline::after(Duration::from_micros(100)));
    let (stays, _, _) = tokio::join!(stays, leaves, late);
    assert_eq!(stays.unwrap().len(), 200);
    let admitted = r#"admitted_texts{class="bulk"}"#;
    // A run that nobody waits for any longer may still be under way.
    for _ in 0..100 {
        if count(&metrics, admitted) == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(count(&metrics, admitted), 0, "all room is given back");
}
