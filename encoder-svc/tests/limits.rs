//! The limits of a request in front of the encoder, on a paused clock: the real encoder, admission and
//! queue, with workers that spend simulated time on each text.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod paused;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use encoder_svc::EncoderSettings;
use encoder_svc::config::Limits;
use encoder_svc::grpc::EncoderServer;
use encoder_svc::limited_encoder::LimitedEncoder;
use encoder_svc::scheduler::entry::{Class, Reply};
use futures_util::StreamExt as _;
use http::{HeaderMap, HeaderValue};
use paused::{RUN, Scheduler, longest, milliseconds, text};
use prost::Message as _;
use proto::encoder::v1::EncodeStreamRequest;
use proto::encoder::v1::encode_stream_response::Result as StreamResult;
use proto::encoder::v1::encoder_service_server::EncoderService as _;
use service_kit::{ApiError, ApiKeySettings, ApiKeys, AuthSettings, Caller, Deadline};
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, sleep, timeout};
use tonic::codec::{DecodeBuf, Decoder};
use tonic::{Request, Status, Streaming};

const LIMITS: Limits =
    Limits { max_batch_size: 300, max_text_bytes: 32 << 10, stream_in_flight: 64, texts_in_flight: 16_384 };

/// The text that calls have in common.
const SHARED: &str = "a storm at sea";

fn start(
    queues: (u64, u64),
    limits: Limits,
    change: impl FnOnce(&mut EncoderSettings),
) -> (Scheduler, LimitedEncoder) {
    let scheduler = Scheduler::start(longest(queues.0, queues.1));
    let encoder = LimitedEncoder::new(Arc::new(scheduler.encoder(change)), limits);
    (scheduler, encoder)
}

/// Encodes `long` long texts and [`SHARED`] after them.
fn encode_behind(encoder: &LimitedEncoder, long: usize, class: Class) -> tokio::task::JoinHandle<Vec<Reply>> {
    let encoder = encoder.clone();
    tokio::spawn(async move {
        let mut texts: Vec<_> = (0..long).map(|index| format!("{index} {}", text())).collect();
        texts.push(SHARED.to_owned());
        encoder.encode("texts", texts, class, &Caller::UNKNOWN, Deadline::NONE).await.unwrap()
    })
}

/// Encodes [`SHARED`] online for a caller of its own.
async fn encode_shared(encoder: &LimitedEncoder, within: Duration) -> Result<Vec<Reply>, ApiError> {
    let caller = Caller::of_new_connection();
    let texts = vec![SHARED.to_owned()];
    encoder.encode("texts", texts, Class::Online, &caller, Deadline::after(within)).await
}

/// A caller whose key may send `texts` texts at once and then one a second.
fn caller_with_quota(texts: u32) -> Caller {
    let key = ApiKeySettings {
        name: "ci".to_owned(),
        sha256: hex::encode(Sha256::digest("one")),
        texts_per_second: 1,
        texts_burst: texts,
        ..ApiKeySettings::default()
    };
    let keys = ApiKeys::new(&AuthSettings { keys: vec![key] }).unwrap().unwrap();
    let mut headers = HeaderMap::new();
    headers.insert("x-api-key", HeaderValue::from_static("one"));
    keys.check(&headers).unwrap()
}

/// Decodes the texts of a stream.
struct Texts;

impl Decoder for Texts {
    type Item = EncodeStreamRequest;
    type Error = Status;

    fn decode(&mut self, message: &mut DecodeBuf<'_>) -> Result<Option<EncodeStreamRequest>, Status> {
        Ok(Some(EncodeStreamRequest::decode(message).unwrap()))
    }
}

/// A request of `texts` texts, and how many of them the service has read.
fn stream_of(texts: usize, text: &str) -> (Request<Streaming<EncodeStreamRequest>>, Arc<AtomicUsize>) {
    let read = Arc::new(AtomicUsize::new(0));
    let (counted, text) = (read.clone(), text.to_owned());
    let messages = futures_util::stream::iter(0..texts).map(move |index| {
        counted.fetch_add(1, Relaxed);
        let request = EncodeStreamRequest { id: index.to_string(), text: text.clone(), priority: 0 };
        let message = request.encode_to_vec();
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        Ok::<_, std::io::Error>([&[0], length.as_slice(), &message].concat())
    });
    let body = axum::body::Body::from_stream(messages);
    (Request::new(Streaming::new_request(Texts, body, None, None)), read)
}

#[tokio::test(start_paused = true)]
async fn a_stream_reads_no_further_than_one_text_that_is_not_in_flight() {
    let limits = Limits { texts_in_flight: 4, ..LIMITS };
    let (_, encoder) = start((10_000, 10_000), limits, |_| {});
    let (request, read) = stream_of(100, &text());
    let mut responses = EncoderServer::new(encoder).encode_stream(request).await.unwrap().into_inner();
    assert!(timeout(RUN / 2, responses.next()).await.is_err());
    assert!(read.load(Relaxed) <= 5, "{} texts were read", read.load(Relaxed));
    let mut received = 0;
    while let Some(response) = responses.next().await {
        received += 1;
        assert!(matches!(response.unwrap().result, Some(StreamResult::Embedding(_))));
        assert!(read.load(Relaxed) <= received + 5, "{} texts were read", read.load(Relaxed));
    }
    assert_eq!(received, 100);
}

/// Long texts count by their bytes, so that the limit bounds the memory of texts.
#[tokio::test(start_paused = true)]
async fn a_long_text_takes_the_room_of_several() {
    let limits = Limits { texts_in_flight: 64, ..LIMITS };
    let (_, encoder) = start((10_000, 10_000), limits, |_| {});
    let (request, read) = stream_of(100, &"a".repeat(32 << 10));
    let mut responses = EncoderServer::new(encoder).encode_stream(request).await.unwrap().into_inner();
    assert!(timeout(RUN / 2, responses.next()).await.is_err());
    assert!(read.load(Relaxed) <= 5, "{} texts were read", read.load(Relaxed));
}

#[tokio::test(start_paused = true)]
async fn an_online_text_does_not_wait_for_a_bulk_run_of_the_same_text() {
    let (scheduler, encoder) = start((2_000, 30_000), LIMITS, |encoder| encoder.cache_bulk = true);
    let bulk = encode_behind(&encoder, 299, Class::Bulk);
    sleep(milliseconds(5)).await;
    encode_shared(&encoder, milliseconds(200)).await.unwrap();
    bulk.await.unwrap();
    // The vectors of bulk texts are in the cache.
    let run = scheduler.texts_run.load(Relaxed);
    let again = encode_behind(&encoder, 299, Class::Online).await.unwrap();
    assert_eq!((again.len(), scheduler.texts_run.load(Relaxed)), (300, run));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_joins_the_run_of_another_ends_at_its_own_deadline() {
    let (_, encoder) = start((10_000, 10_000), LIMITS, |_| {});
    let other = encode_behind(&encoder, 200, Class::Online);
    sleep(milliseconds(5)).await;
    let begin = Instant::now();
    let outcome = encode_shared(&encoder, milliseconds(150)).await;
    assert_eq!(outcome, Err(ApiError::DeadlineExceeded));
    assert!(begin.elapsed() < milliseconds(200), "{:?}", begin.elapsed());
    assert_eq!(other.await.unwrap().len(), 201);
}

#[tokio::test(start_paused = true)]
async fn a_rejected_batch_is_not_charged() {
    let (_, encoder) = start((50, 50), LIMITS, |_| {});
    let caller = caller_with_quota(4);
    let batch = || {
        let texts = (0..4).map(|index| format!("{index} {}", text())).collect();
        encoder.encode("texts", texts, Class::Online, &caller, Deadline::NONE)
    };
    let other = encode_behind(&encoder, 100, Class::Online);
    sleep(milliseconds(5)).await;
    assert!(matches!(batch().await, Err(ApiError::Overloaded { .. })));
    other.await.unwrap();
    assert_eq!(batch().await.unwrap().len(), 4);
    assert!(matches!(batch().await, Err(ApiError::RateLimited { .. })));
}
