//! The cache of vectors, in front of a real encoder.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::settings;
use encoder_svc::scheduler::queue::Class;
use encoder_svc::{Encoder, EncoderSvcConfig};
use service_kit::{ApiError, Deadline, Metrics};

async fn encoder(cache_mib: usize) -> (Encoder, Metrics) {
    let (mut settings, metrics) = (settings(), Metrics::default());
    settings.encoder.cache_mib = cache_mib;
    let config = EncoderSvcConfig::try_from(settings).unwrap();
    (Encoder::start(config.encoder, metrics.clone()).await.unwrap(), metrics)
}

fn counted(metrics: &Metrics, name: &str) -> u64 {
    let text = metrics.render();
    let line =
        text.lines().find(|line| line.starts_with(&format!("movieclassifier_encoder_cache_{name}_total ")));
    line.unwrap().split(' ').next_back().unwrap().parse().unwrap()
}

#[tokio::test]
async fn the_same_text_asked_a_hundred_times_at_once_runs_once() {
    let (encoder, metrics) = encoder(1).await;
    let call = || encoder.encode_batch(vec!["a storm at sea".to_owned()], Class::Online, Deadline::NONE);
    let answers = futures_util::future::join_all((0..100).map(|_| call())).await;
    let first = answers[0].clone().unwrap();
    assert!(answers.iter().all(|answer| *answer.as_ref().unwrap() == first));
    // Who came too late to join found it there.
    assert_eq!(counted(&metrics, "misses"), 1);
    assert_eq!(counted(&metrics, "joins") + counted(&metrics, "hits"), 99);
    let before = counted(&metrics, "hits");
    assert_eq!(call().await.unwrap(), first);
    assert_eq!(counted(&metrics, "hits"), before + 1);
    // What is kept is what is run.
    let (without, _) = self::encoder(0).await;
    let fresh = without.encode_batch(vec!["a storm at sea".to_owned()], Class::Online, Deadline::NONE).await;
    assert_eq!(fresh.unwrap(), first);
}

#[tokio::test]
async fn bulk_texts_are_not_kept_unless_asked_for() {
    let (encoder, metrics) = encoder(1).await;
    for _ in 0..3 {
        encoder.encode_batch(vec!["rain".to_owned()], Class::Bulk, Deadline::NONE).await.unwrap();
    }
    assert_eq!((counted(&metrics, "hits"), counted(&metrics, "misses")), (0, 0));
}

#[tokio::test]
async fn a_batch_of_known_and_unknown_texts_is_answered_in_order() {
    let (encoder, metrics) = encoder(1).await;
    let batch = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let one = encoder.encode_batch(batch(&["rain", "storm"]), Class::Online, Deadline::NONE).await.unwrap();
    let two = encoder
        .encode_batch(batch(&["sea", "storm", "rain", "sea"]), Class::Online, Deadline::NONE)
        .await
        .unwrap();
    assert_eq!((&two[1], &two[2]), (&one[1], &one[0]));
    assert_eq!(two[0], two[3]);
    assert_eq!((counted(&metrics, "hits"), counted(&metrics, "misses")), (2, 3));
}

#[tokio::test]
async fn who_joins_an_impatient_caller_is_not_failed_with_it() {
    let (encoder, _) = encoder(1).await;
    let text = "wind".to_owned();
    // Its deadline has passed when a worker comes to it.
    let impatient =
        encoder.encode_waiting(text.clone(), Class::Online, Deadline::after(std::time::Duration::ZERO));
    let patient = encoder.encode_waiting(text, Class::Online, Deadline::NONE);
    let (impatient, patient) = tokio::join!(impatient, patient);
    assert_eq!(impatient.err(), Some(ApiError::DeadlineExceeded));
    assert_eq!(patient.unwrap().vector.len(), 512);
}
