//! Replacing the model file while calls are in flight.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{Running, any_port, classifier_settings, model_for, start_classifier_with, start_encoder};
use genre_model::{Activation, Dense, GenreModel, Mlp, Thresholds};
use ndarray::{Array1, Array2};
use proto::classifier::v1::{BatchClassifyRequest, ClassifyRequest, GenreScore, GetModelRequest, Movie};

/// The fixture model with another threshold, which gives it another version.
fn model_with_threshold(bundle: &str, threshold: f32) -> GenreModel {
    let model = model_for(bundle);
    GenreModel::new(
        model.labels().to_vec(),
        model.mlp().clone(),
        Thresholds::uniform("fixed", threshold, 20).unwrap(),
        model.provenance().clone(),
    )
    .unwrap()
}

fn model_of_other_labels() -> GenreModel {
    let model = model_for("tiny-512");
    let mlp = Mlp::clone(model.mlp());
    let labels = (0..20).map(|i| format!("genre {i}")).collect();
    GenreModel::new(labels, mlp, model.thresholds().clone(), model.provenance().clone()).unwrap()
}

/// A model that says it was fitted on vectors of the bundle, but takes vectors of another length.
fn model_of_other_dimension(bundle: &str) -> GenreModel {
    let model = model_for(bundle);
    let hidden = Dense { weight: Array2::ones((8, 256)), bias: Array1::zeros(8) };
    let mlp = Mlp::new(hidden, Activation::Relu, model.mlp().output().clone()).unwrap();
    let (labels, thresholds) = (model.labels().to_vec(), model.thresholds().clone());
    GenreModel::new(labels, mlp, thresholds, model.provenance().clone()).unwrap()
}

/// Renames the file into place, as the trainer and orchestrators do.
fn replace(path: &Path, bytes: &[u8]) {
    let new = path.with_extension("new");
    std::fs::write(&new, bytes).unwrap();
    std::fs::rename(new, path).unwrap();
}

/// Returns the served version; empty while the service is starting.
async fn version(classifier: &Running) -> String {
    let model = classifier.client().get_model(GetModelRequest {}).await;
    model.map(|model| model.into_inner().model_version).unwrap_or_default()
}

async fn wait_for_version(classifier: &Running, expected: &str) {
    for _ in 0..500 {
        if version(classifier).await == expected {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("expected version {expected}, found {}", version(classifier).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_reloads_under_load_fail_no_call_and_mix_no_versions() {
    let encoder = start_encoder("tiny-512", any_port()).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let good = [model_with_threshold("tiny-512", 0.3), model_with_threshold("tiny-512", 0.6)];
    good[0].save(&path).unwrap();
    let classifier = Arc::new(start_classifier_with(classifier_settings(&path, &encoder.url())));

    wait_for_version(&classifier, good[0].version()).await;

    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..4)
        .map(|client_index| {
            let (classifier, stop) = (classifier.clone(), stop.clone());
            tokio::spawn(async move {
                let mut seen: HashMap<String, Vec<f32>> = HashMap::new();
                let mut client = classifier.client();
                let mut calls = 0;
                let thresholds =
                    |scores: &[GenreScore]| scores.iter().map(|score| score.threshold).collect::<Vec<_>>();
                while !stop.load(Ordering::Relaxed) {
                    let movies = (0..5)
                        .map(|i| Movie { title: String::new(), overview: format!("rain {client_index} {i}") })
                        .collect();
                    let request = BatchClassifyRequest {
                        movies,
                        include_scores: true,
                        ..BatchClassifyRequest::default()
                    };
                    let batch = client.batch_classify(request).await.expect("no call fails").into_inner();
                    for result in batch.results {
                        assert_eq!(result.model_version, batch.model_version);
                        // One version always has the same thresholds.
                        let found = thresholds(&result.scores);
                        let known = seen.entry(result.model_version).or_insert_with(|| found.clone());
                        assert_eq!(*known, found);
                    }
                    calls += 1;
                }
                (calls, seen)
            })
        })
        .collect();

    let whole = good[0].to_bytes();
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let bad: [Vec<u8>; 6] = [
        whole[..whole.len() / 2].to_vec(),
        b"not a model".to_vec(),
        flipped,
        model_for("tiny-other-512").to_bytes(),
        model_of_other_labels().to_bytes(),
        model_of_other_dimension("tiny-512").to_bytes(),
    ];
    let mut last_good = 0;
    for round in 0..100 {
        if round % 2 == 0 {
            last_good = 1 - last_good;
            replace(&path, &good[last_good].to_bytes());
            wait_for_version(&classifier, good[last_good].version()).await;
        } else {
            replace(&path, &bad[round / 2 % bad.len()]);
            tokio::time::sleep(Duration::from_millis(60)).await;
            assert_eq!(version(&classifier).await, good[last_good].version());
        }
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        let (calls, seen) = client.await.unwrap();
        assert!(calls > 10, "expected more than 10 calls, found {calls}");
        assert_eq!(seen.len(), 2, "{:?}", seen.keys());
    }
    assert_eq!(reloads(&classifier, "accepted").await, 50);
    let rejected = reloads(&classifier, "rejected").await;
    assert!(rejected >= 40, "{rejected}");
}

/// Returns the count of reloads with this outcome.
async fn reloads(classifier: &Running, outcome: &str) -> u64 {
    let metrics = common::http_get(classifier.rest.unwrap(), "/metrics").await;
    let name = format!("movieclassifier_model_reloads_total{{outcome=\"{outcome}\"}} ");
    metrics.lines().find_map(|line| line.strip_prefix(&name)).map_or(0, |count| count.parse().unwrap())
}

#[tokio::test]
async fn counts_each_model_without_an_encoder_once() {
    let encoder = start_encoder("tiny-512", any_port()).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    model_for("tiny-512").save(&path).unwrap();
    let classifier = start_classifier_with(classifier_settings(&path, &encoder.url()));
    wait_for_version(&classifier, model_for("tiny-512").version()).await;
    for (expected, threshold) in [(1, 0.3), (2, 0.6)] {
        replace(&path, &model_with_threshold("tiny-other-512", threshold).to_bytes());
        for _ in 0..500 {
            if reloads(&classifier, "rejected").await >= expected {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(reloads(&classifier, "rejected").await, expected);
    }
    // Long enough for another check.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(reloads(&classifier, "rejected").await, 2);
}

#[tokio::test]
async fn accepts_a_model_for_another_encoder_once_that_encoder_answers() {
    let encoder = start_encoder("tiny-512", any_port()).await;
    let address = encoder.address;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    model_for("tiny-512").save(&path).unwrap();
    let classifier = start_classifier_with(classifier_settings(&path, &encoder.url()));
    wait_for_version(&classifier, model_for("tiny-512").version()).await;
    let other = model_for("tiny-other-512");
    replace(&path, &other.to_bytes());
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_ne!(version(&classifier).await, other.version());

    encoder.stop().await;
    let _other_encoder = start_encoder("tiny-other-512", address).await;
    wait_for_version(&classifier, other.version()).await;
    let movie = ClassifyRequest { overview: "rain".to_owned(), ..ClassifyRequest::default() };
    let response = classifier.client().classify(movie).await.unwrap().into_inner();
    assert_eq!(response.model_version, other.version());
}

#[tokio::test]
async fn does_not_start_with_a_model_of_another_dimension_than_its_encoder() {
    let encoder = start_encoder("tiny-512", any_port()).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    model_of_other_dimension("tiny-512").save(&path).unwrap();
    let settings = classifier_settings(&path, &encoder.url());
    let config = classifier_svc::ClassifierSvcConfig::try_from(settings).unwrap();
    let listeners = service_kit::Listeners::bind(config.listen, None).unwrap();
    let metrics = service_kit::Metrics::with_prefix(classifier_svc::config::METRICS_PREFIX);
    let shutdown = service_kit::Shutdown::new();
    let error = classifier_svc::run(config, None, metrics, listeners, shutdown).await.unwrap_err();
    let message = error.to_string();
    assert!(message.contains("the model expects vectors of 256 floats"), "{message}");
    assert!(message.contains("have 512"), "{message}");
}

#[tokio::test]
async fn keeps_its_model_when_the_new_one_fits_the_fingerprint_of_another_encoder_but_not_its_dimension() {
    let encoder = start_encoder("tiny-512", any_port()).await;
    let address = encoder.address;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    model_for("tiny-512").save(&path).unwrap();
    let classifier = start_classifier_with(classifier_settings(&path, &encoder.url()));
    wait_for_version(&classifier, model_for("tiny-512").version()).await;
    encoder.stop().await;
    let _other_encoder = start_encoder("tiny-other-512", address).await;
    replace(&path, &model_of_other_dimension("tiny-other-512").to_bytes());
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(version(&classifier).await, model_for("tiny-512").version());
    // The file that fits is accepted.
    replace(&path, &model_for("tiny-other-512").to_bytes());
    wait_for_version(&classifier, model_for("tiny-other-512").version()).await;
}
