//! The encoder of a bulk job on one or several replicas.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod fake_encoder;

use std::time::Duration;

use encoder_client::bulk::channel;
use encoder_client::{BulkEncoder, BulkPolicy, EncoderError};
use fake_encoder::{Behaviour, FakeEncoder};

const POLICY: BulkPolicy = BulkPolicy {
    first_backoff: Duration::from_millis(2),
    longest_backoff: Duration::from_millis(10),
    call_timeout: Duration::from_secs(5),
    connect_patience: Duration::from_millis(200),
    patience: Duration::from_millis(500),
};

async fn connect(urls: &[String]) -> Result<BulkEncoder, EncoderError> {
    BulkEncoder::connect(urls.iter().map(|url| channel(url).unwrap()).collect(), None, POLICY).await
}

fn url(encoder: &FakeEncoder) -> String {
    format!("http://{}", encoder.address)
}

fn unused_url() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[tokio::test]
async fn rejects_replicas_of_two_encoders() {
    let encoders = [Behaviour::Healthy, Behaviour::OtherEncoder].map(FakeEncoder::start);
    let error = connect(&encoders.each_ref().map(url)).await.unwrap_err();
    let expected =
        "encoders: expected replicas of one encoder, found fake 1 (abababababab) and fake 1 (cdcdcdcdcdcd)";
    assert_eq!(error.to_string(), expected);
}

#[tokio::test]
async fn works_with_the_replicas_that_answer() {
    let healthy = FakeEncoder::start(Behaviour::Healthy);
    let encoder = connect(&[unused_url(), url(&healthy)]).await.unwrap();
    assert_eq!(encoder.replicas(), 2);
    for _ in 0..10 {
        let vectors = encoder.encode(vec!["rain".to_owned()]).await.unwrap();
        assert_eq!(vectors.values.as_slice().unwrap(), [1.0, 2.0]);
    }
    let error = connect(&[unused_url(), unused_url()]).await.unwrap_err();
    assert!(matches!(error, EncoderError::Unavailable { .. }), "{error}");
}

#[tokio::test]
async fn fails_when_the_encoder_is_replaced() {
    let fake = FakeEncoder::start(Behaviour::Healthy);
    let encoder = connect(&[url(&fake)]).await.unwrap();
    *fake.behaviour.lock().unwrap() = Behaviour::OtherEncoder;
    let error = encoder.encode(vec!["rain".to_owned()]).await.unwrap_err();
    assert!(matches!(error, EncoderError::Replaced { .. }), "{error}");
    assert_eq!(fake.calls(), 1);
}

#[tokio::test]
async fn patience_begins_with_the_call_after_a_time_without_calls() {
    let fake = FakeEncoder::start(Behaviour::Healthy);
    let encoder = connect(&[url(&fake)]).await.unwrap();
    tokio::time::sleep(POLICY.patience + Duration::from_millis(200)).await;
    fake.set(Behaviour::Full(Duration::from_millis(20)));
    let full = fake.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(50)).await;
        full.set(Behaviour::Healthy);
    });
    encoder.encode(vec!["rain".to_owned()]).await.unwrap();
    assert!(fake.calls() >= 2, "{} calls", fake.calls());
}

#[tokio::test]
async fn shortens_texts_over_the_limit_at_a_character() {
    let fake = FakeEncoder::start(Behaviour::Healthy);
    let encoder = connect(&[url(&fake)]).await.unwrap();
    let limit = encoder.description().max_text_bytes;
    encoder.encode(vec!["é".repeat(limit), "short".to_owned()]).await.unwrap();
    assert_eq!(encoder.shortened(), 1);
    assert_eq!(*fake.longest_text.lock().unwrap(), limit - limit % 2);
}
