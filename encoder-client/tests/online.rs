//! Online calls to encoders that fail, stall, are full, or reply with garbage.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod fake_encoder;

use std::time::{Duration, Instant};

use encoder_client::{ClientConfig, EncoderClient, EncoderError, OnlinePolicy, Policy, Source};
use fake_encoder::{Behaviour, FakeEncoder, expected};
use service_kit::{ApiError, Deadline, Metrics, Shutdown, Target};

async fn client_of(encoders: &[&FakeEncoder]) -> EncoderClient {
    let config = ClientConfig {
        targets: encoders.iter().map(|e| Target::parse(&format!("http://{}", e.address)).unwrap()).collect(),
        source: Source::Dns { interval: Duration::from_secs(5) },
        policy: Policy::Online(OnlinePolicy {
            timeout: Duration::from_secs(10),
            hedge_after: Some(Duration::from_millis(100)),
        }),
        tls: None,
        api_key: None,
    };
    EncoderClient::discover(config, &Metrics::default(), Shutdown::new()).await
}

async fn encode(client: &EncoderClient, deadline: Deadline) -> Result<(), ApiError> {
    let vectors = client.encode(vec!["rain".to_owned()], 2, &expected(), None, deadline).await?;
    assert_eq!(vectors.values.as_slice().unwrap(), [1.0, 2.0]);
    Ok(())
}

#[tokio::test]
async fn a_healthy_replica_answers_when_the_other_is_faulty() {
    for behaviour in [
        Behaviour::Broken,
        Behaviour::Full(Duration::from_secs(60)),
        Behaviour::Stalled,
        Behaviour::Garbage,
        Behaviour::OtherEncoder,
    ] {
        let (faulty, healthy) = (FakeEncoder::start(behaviour), FakeEncoder::start(Behaviour::Healthy));
        let client = client_of(&[&faulty, &healthy]).await;
        for _ in 0..20 {
            encode(&client, Deadline::after(Duration::from_secs(5))).await.unwrap();
        }
        // The faulty replica is ejected after a few attempts.
        assert!((1..=5).contains(&faulty.calls()), "{behaviour:?}: {} calls", faulty.calls());
    }
}

#[tokio::test]
async fn healthy_replicas_share_the_calls() {
    let (one, other) = (FakeEncoder::start(Behaviour::Healthy), FakeEncoder::start(Behaviour::Healthy));
    let client = client_of(&[&one, &other]).await;
    for _ in 0..100 {
        encode(&client, Deadline::NONE).await.unwrap();
    }
    assert_eq!((one.calls(), other.calls()), (50, 50));
}

#[tokio::test]
async fn does_not_retry_a_rejected_text() {
    let (one, other) = (FakeEncoder::start(Behaviour::Rejecting), FakeEncoder::start(Behaviour::Rejecting));
    let client = client_of(&[&one, &other]).await;
    let error = encode(&client, Deadline::NONE).await.unwrap_err();
    assert_eq!(error.reason(), "REFUSED_BY_ENCODER");
    assert_eq!(one.calls() + other.calls(), 1);
}

#[tokio::test]
async fn retries_a_lone_full_replica_after_the_pause_that_it_asks_for() {
    let full = FakeEncoder::start(Behaviour::Full(Duration::from_millis(200)));
    let client = client_of(&[&full]).await;
    let behaviour = full.behaviour.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(50)).await;
        *behaviour.lock().unwrap() = Behaviour::Healthy;
    });
    let begin = Instant::now();
    encode(&client, Deadline::NONE).await.unwrap();
    assert!(begin.elapsed() >= Duration::from_millis(200), "{:?}", begin.elapsed());
    assert_eq!(full.calls(), 2);
}

#[tokio::test]
async fn fails_at_once_if_the_pause_exceeds_the_deadline() {
    let full = FakeEncoder::start(Behaviour::Full(Duration::from_secs(30)));
    let client = client_of(&[&full]).await;
    let begin = Instant::now();
    let error = encode(&client, Deadline::after(Duration::from_secs(5))).await.unwrap_err();
    assert!(matches!(error, ApiError::Overloaded { .. }), "{error:?}");
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn one_deadline_bounds_all_attempts() {
    let (one, other) = (FakeEncoder::start(Behaviour::Stalled), FakeEncoder::start(Behaviour::Stalled));
    let client = client_of(&[&one, &other]).await;
    let begin = Instant::now();
    let error = encode(&client, Deadline::after(Duration::from_millis(400))).await.unwrap_err();
    assert_eq!(error, ApiError::DeadlineExceeded);
    let took = begin.elapsed();
    assert!((Duration::from_millis(390)..Duration::from_millis(900)).contains(&took), "{took:?}");
    assert_eq!(one.calls() + other.calls(), 2);
}

#[tokio::test]
async fn hedges_count_as_attempts() {
    let silent: Vec<_> = (0..8).map(|_| FakeEncoder::start(Behaviour::Stalled)).collect();
    let client = client_of(&silent.iter().collect::<Vec<_>>()).await;
    let error = encode(&client, Deadline::after(Duration::from_secs(2))).await.unwrap_err();
    assert_eq!(error, ApiError::DeadlineExceeded);
    let attempts: usize = silent.iter().map(FakeEncoder::calls).sum();
    assert!((2..=5).contains(&attempts), "{attempts} attempts");
}

#[tokio::test]
async fn the_budget_bounds_the_retries_to_a_failing_fleet() {
    let broken = FakeEncoder::start(Behaviour::Broken);
    let client = client_of(&[&broken]).await;
    let calls = 300;
    let all = (0..calls).map(|_| encode(&client, Deadline::after(Duration::from_secs(5))));
    let answers = futures_util::future::join_all(all).await;
    assert!(answers.iter().all(|answer| answer.as_ref().unwrap_err().reason() == "ENCODER_UNREACHABLE"));
    // A fifth of the calls, and ten a second for the ten seconds of the budget.
    assert!(broken.calls() <= calls + calls / 5 + 100 + 5, "{} attempts", broken.calls());
}

#[tokio::test]
async fn reports_a_wrong_encoder_when_no_other_answers() {
    let other = FakeEncoder::start(Behaviour::OtherEncoder);
    let client = client_of(&[&other]).await;
    assert!(matches!(client.probe(&expected(), 512).await, Err(EncoderError::WrongEncoder { .. })));
    let error = encode(&client, Deadline::NONE).await.unwrap_err();
    assert_eq!(error.reason(), "WRONG_ENCODER");
}
