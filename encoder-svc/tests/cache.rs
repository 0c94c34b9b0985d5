//! The vector cache in front of a real encoder.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::settings;
use encoder_svc::scheduler::entry::Class;
use encoder_svc::{Encoder, EncoderSvcConfig, startup};
use service_kit::{ApiError, CallerId, Deadline, Metrics};

async fn encoder(cache_mib: usize) -> (Encoder, Metrics) {
    let (mut settings, metrics) = (settings(), Metrics::default());
    settings.encoder.cache_mib = cache_mib;
    let config = EncoderSvcConfig::try_from(settings).unwrap();
    (startup::start(config.encoder, metrics.clone()).await.unwrap(), metrics)
}

fn counted(metrics: &Metrics, name: &str) -> u64 {
    let text = metrics.render();
    let line = text.lines().find(|line| line.starts_with(&format!("encoder_cache_{name}_total ")));
    line.unwrap().split(' ').next_back().unwrap().parse().unwrap()
}

#[tokio::test]
async fn runs_a_text_once_for_a_hundred_concurrent_calls() {
    let (encoder, metrics) = encoder(1).await;
    let call = || {
        encoder.encode_batch(
            vec!["a storm at sea".to_owned()],
            Class::Online,
            CallerId::UNKNOWN,
            Deadline::NONE,
        )
    };
    let replies = futures_util::future::join_all((0..100).map(|_| call())).await;
    let first = replies[0].clone().unwrap();
    assert!(replies.iter().all(|reply| *reply.as_ref().unwrap() == first));
    // A call that came too late to join found the vector in the cache.
    assert_eq!(counted(&metrics, "misses"), 1);
    assert_eq!(counted(&metrics, "joins") + counted(&metrics, "hits"), 99);
    let before = counted(&metrics, "hits");
    assert_eq!(call().await.unwrap(), first);
    assert_eq!(counted(&metrics, "hits"), before + 1);
    // The cached vector equals that of a fresh run.
    let (without, _) = self::encoder(0).await;
    let fresh = without
        .encode_batch(vec!["a storm at sea".to_owned()], Class::Online, CallerId::UNKNOWN, Deadline::NONE)
        .await;
    assert_eq!(fresh.unwrap(), first);
}

#[tokio::test]
async fn does_not_cache_bulk_texts_by_default() {
    let (encoder, metrics) = encoder(1).await;
    for _ in 0..3 {
        encoder
            .encode_batch(vec!["rain".to_owned()], Class::Bulk, CallerId::UNKNOWN, Deadline::NONE)
            .await
            .unwrap();
    }
    assert_eq!((counted(&metrics, "hits"), counted(&metrics, "misses")), (0, 0));
}

#[tokio::test]
async fn replies_in_order_to_a_batch_of_cached_and_new_texts() {
    let (encoder, metrics) = encoder(1).await;
    let batch = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let one = encoder
        .encode_batch(batch(&["rain", "storm"]), Class::Online, CallerId::UNKNOWN, Deadline::NONE)
        .await
        .unwrap();
    let two = encoder
        .encode_batch(
            batch(&["sea", "storm", "rain", "sea"]),
            Class::Online,
            CallerId::UNKNOWN,
            Deadline::NONE,
        )
        .await
        .unwrap();
    assert_eq!((&two[1], &two[2]), (&one[1], &one[0]));
    assert_eq!(two[0], two[3]);
    assert_eq!((counted(&metrics, "hits"), counted(&metrics, "misses")), (2, 3));
}

#[tokio::test]
async fn a_call_that_joins_a_run_does_not_fail_with_its_deadline() {
    let (encoder, _) = encoder(1).await;
    let text = "wind".to_owned();
    // Its deadline has passed before a worker takes it.
    let impatient = encoder.encode_waiting(
        text.clone(),
        Class::Online,
        CallerId::UNKNOWN,
        Deadline::after(std::time::Duration::ZERO),
    );
    let patient = encoder.encode_waiting(text, Class::Online, CallerId::UNKNOWN, Deadline::NONE);
    let (impatient, patient) = tokio::join!(impatient, patient);
    assert_eq!(impatient.err(), Some(ApiError::DeadlineExceeded));
    assert_eq!(patient.unwrap().vector.len(), 512);
}
