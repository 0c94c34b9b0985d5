//! How calls fare when encoders fail, stall, are full or answer nonsense: against encoders that do as they are told.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use classifier_svc::EncoderPool;
use classifier_svc::encoder_pool::{PoolConfig, PoolHealth};
use futures_util::Stream;
use genre_model::{EncoderIdentity, Fingerprint};
use proto::encoder::v1::encoder_service_server::{EncoderService, EncoderServiceServer};
use proto::encoder::v1::{
    Embedding, EncodeRequest, EncodeResponse, EncodeStreamRequest, EncodeStreamResponse, GetEncoderRequest,
    GetEncoderResponse,
};
use service_kit::{ApiError, Deadline, Metrics, Shutdown, Target};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Well,
    Broken,
    Full(Duration),
    Stalled,
    Garbage,
    Another,
    Refusing,
}

#[derive(Clone)]
struct FakeEncoder {
    mood: Arc<Mutex<Mood>>,
    calls: Arc<AtomicUsize>,
    address: SocketAddr,
}

impl FakeEncoder {
    fn start(mood: Mood) -> Self {
        let incoming = TcpIncoming::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let address = incoming.local_addr().unwrap();
        let fake = Self { mood: Arc::new(Mutex::new(mood)), calls: Arc::default(), address };
        let service = EncoderServiceServer::new(fake.clone());
        tokio::spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
        fake
    }

    fn mood(&self) -> Mood {
        *self.mood.lock().unwrap()
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    fn fingerprint(&self) -> String {
        if self.mood() == Mood::Another { "cd" } else { "ab" }.repeat(32)
    }
}

#[tonic::async_trait]
impl EncoderService for FakeEncoder {
    async fn get_encoder(
        &self,
        _: Request<GetEncoderRequest>,
    ) -> Result<Response<GetEncoderResponse>, Status> {
        Ok(Response::new(GetEncoderResponse {
            id: "fake".to_owned(),
            fingerprint: self.fingerprint(),
            ..GetEncoderResponse::default()
        }))
    }

    async fn encode(&self, request: Request<EncodeRequest>) -> Result<Response<EncodeResponse>, Status> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let texts = request.into_inner().texts;
        let mut values = vec![1.0, 2.0];
        match self.mood() {
            Mood::Well | Mood::Another => {}
            Mood::Broken => return Err(Status::unavailable("broken")),
            Mood::Full(retry_after) => {
                return Err(ApiError::Overloaded { message: "full".to_owned(), retry_after }.into());
            }
            Mood::Stalled => std::future::pending().await,
            Mood::Garbage => values = vec![f32::NAN],
            Mood::Refusing => return Err(ApiError::invalid("texts[0]", "EMPTY_TEXT", "blank").into()),
        }
        let embedding = Embedding { values, token_count: 3, truncated: false };
        let embeddings = vec![embedding; texts.len()];
        Ok(Response::new(EncodeResponse { embeddings, fingerprint: self.fingerprint() }))
    }

    type EncodeStreamStream = Pin<Box<dyn Stream<Item = Result<EncodeStreamResponse, Status>> + Send>>;

    async fn encode_stream(
        &self,
        _: Request<Streaming<EncodeStreamRequest>>,
    ) -> Result<Response<Self::EncodeStreamStream>, Status> {
        Err(Status::unimplemented("no stream here"))
    }
}

fn expected() -> EncoderIdentity {
    EncoderIdentity {
        id: "fake".to_owned(),
        version: "1".to_owned(),
        fingerprint: Fingerprint::parse("ab".repeat(32)).unwrap(),
    }
}

async fn pool(encoders: &[&FakeEncoder]) -> EncoderPool {
    let config = PoolConfig {
        targets: encoders.iter().map(|e| Target::parse(&format!("http://{}", e.address)).unwrap()).collect(),
        resolve_interval: Duration::from_secs(5),
        timeout: Duration::from_secs(10),
        hedge_after: Some(Duration::from_millis(100)),
        tls: None,
        api_key: None,
    };
    EncoderPool::discover(config, &Metrics::default(), Shutdown::new()).await
}

async fn encode(pool: &EncoderPool, deadline: Deadline) -> Result<(), ApiError> {
    let vectors = pool.encode(vec!["rain".to_owned()], 2, &expected(), deadline).await?;
    assert_eq!(vectors.values.as_slice().unwrap(), [1.0, 2.0]);
    Ok(())
}

#[tokio::test]
async fn whatever_is_wrong_with_one_replica_the_other_answers() {
    for mood in
        [Mood::Broken, Mood::Full(Duration::from_secs(60)), Mood::Stalled, Mood::Garbage, Mood::Another]
    {
        let (ill, well) = (FakeEncoder::start(mood), FakeEncoder::start(Mood::Well));
        let pool = pool(&[&ill, &well]).await;
        for _ in 0..20 {
            encode(&pool, Deadline::after(Duration::from_secs(5))).await.unwrap();
        }
        // And the ill one is left alone after a few attempts.
        assert!((1..=5).contains(&ill.calls()), "{mood:?}: {} calls", ill.calls());
    }
}

#[tokio::test]
async fn well_replicas_share_the_calls() {
    let (one, other) = (FakeEncoder::start(Mood::Well), FakeEncoder::start(Mood::Well));
    let pool = pool(&[&one, &other]).await;
    for _ in 0..100 {
        encode(&pool, Deadline::NONE).await.unwrap();
    }
    assert_eq!((one.calls(), other.calls()), (50, 50));
}

#[tokio::test]
async fn a_refused_text_is_not_sent_again() {
    let (one, other) = (FakeEncoder::start(Mood::Refusing), FakeEncoder::start(Mood::Refusing));
    let pool = pool(&[&one, &other]).await;
    let error = encode(&pool, Deadline::NONE).await.unwrap_err();
    assert_eq!(error.reason(), "REFUSED_BY_ENCODER");
    assert_eq!(one.calls() + other.calls(), 1);
}

#[tokio::test]
async fn a_lone_full_replica_is_asked_again_when_it_said() {
    let full = FakeEncoder::start(Mood::Full(Duration::from_millis(200)));
    let pool = pool(&[&full]).await;
    let mood = full.mood.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(50)).await;
        *mood.lock().unwrap() = Mood::Well;
    });
    let begin = Instant::now();
    encode(&pool, Deadline::NONE).await.unwrap();
    assert!(begin.elapsed() >= Duration::from_millis(200), "{:?}", begin.elapsed());
    assert_eq!(full.calls(), 2);
}

#[tokio::test]
async fn what_cannot_be_waited_for_is_said_at_once() {
    let full = FakeEncoder::start(Mood::Full(Duration::from_secs(30)));
    let pool = pool(&[&full]).await;
    let begin = Instant::now();
    let error = encode(&pool, Deadline::after(Duration::from_secs(5))).await.unwrap_err();
    assert!(matches!(error, ApiError::Overloaded { .. }), "{error:?}");
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn one_deadline_bounds_all_attempts() {
    let (one, other) = (FakeEncoder::start(Mood::Stalled), FakeEncoder::start(Mood::Stalled));
    let pool = pool(&[&one, &other]).await;
    let begin = Instant::now();
    let error = encode(&pool, Deadline::after(Duration::from_millis(400))).await.unwrap_err();
    assert_eq!(error, ApiError::DeadlineExceeded);
    let took = begin.elapsed();
    assert!((Duration::from_millis(390)..Duration::from_millis(900)).contains(&took), "{took:?}");
    assert_eq!(one.calls() + other.calls(), 2);
}

#[tokio::test]
async fn a_fleet_in_trouble_is_not_given_a_multiple_of_its_load() {
    let broken = FakeEncoder::start(Mood::Broken);
    let pool = pool(&[&broken]).await;
    let calls = 300;
    let all = (0..calls).map(|_| encode(&pool, Deadline::after(Duration::from_secs(5))));
    let answers = futures_util::future::join_all(all).await;
    assert!(answers.iter().all(|answer| answer.as_ref().unwrap_err().reason() == "ENCODER_UNREACHABLE"));
    // A fifth of the calls, and the hundred that ten seconds allow where calls are few.
    assert!(broken.calls() <= calls + calls / 5 + 100 + 5, "{} attempts", broken.calls());
}

#[tokio::test]
async fn another_encoder_alone_is_the_wrong_one() {
    let another = FakeEncoder::start(Mood::Another);
    let pool = pool(&[&another]).await;
    assert!(matches!(pool.probe(&expected()).await, PoolHealth::Wrong(ApiError::WrongEncoder { .. })));
    let error = encode(&pool, Deadline::NONE).await.unwrap_err();
    assert_eq!(error.reason(), "WRONG_ENCODER");
}
