//! Load: closed loops, where each caller waits for its answer, and an open one, where calls come as they come.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use hdrhistogram::Histogram;
use proto::encoder::v1::encoder_service_client::EncoderServiceClient;
use proto::encoder::v1::{EncodeRequest, EncodeStreamRequest, GetEncoderRequest, Priority};
use tokio::task::JoinSet;
use tonic::transport::Channel;
use tonic::{Code, Request};

/// A client of the encoder.
pub type Client = EncoderServiceClient<Channel>;

/// Latencies in microseconds, up to ten minutes.
///
/// # Panics
/// Never: the bounds are valid.
#[must_use]
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 600_000_000, 3).expect("the bounds are valid")
}

/// Adds a latency.
pub fn record(latencies: &mut Histogram<u64>, latency: Duration) {
    latencies.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
}

/// A quantile in milliseconds.
#[must_use]
pub fn quantile(latencies: &Histogram<u64>, quantile: f64) -> f64 {
    latencies.value_at_quantile(quantile) as f64 / 1e3
}

fn one(text: String, priority: Priority) -> EncodeRequest {
    EncodeRequest { texts: vec![text], priority: priority.into() }
}

/// Texts a second of one stream.
///
/// # Panics
/// If a text is not answered with a vector.
pub async fn stream(client: &Client, texts: &[String]) -> f64 {
    let mut client = client.clone();
    let count = texts.len();
    let requests: Vec<_> = texts
        .iter()
        .enumerate()
        .map(|(index, text)| EncodeStreamRequest {
            id: index.to_string(),
            text: text.clone(),
            priority: Priority::Bulk.into(),
        })
        .collect();
    let begin = Instant::now();
    let answers =
        client.encode_stream(futures_util::stream::iter(requests)).await.expect("a stream").into_inner();
    let vectors = answers
        .filter(|answer| {
            let vector = matches!(
                answer.as_ref().expect("an answer").result,
                Some(proto::encoder::v1::encode_stream_response::Result::Embedding(_))
            );
            std::future::ready(vector)
        })
        .count()
        .await;
    assert_eq!(vectors, count, "every text is answered with a vector");
    count as f64 / begin.elapsed().as_secs_f64()
}

/// Texts a second of so many callers, each with one call at a time of `size` texts, spread over the clients.
///
/// # Panics
/// If a call fails.
pub async fn closed_loop(
    clients: &[Client],
    texts: &Arc<Vec<String>>,
    (callers, size): (usize, usize),
    priority: Priority,
) -> f64 {
    let next = Arc::new(AtomicUsize::new(0));
    let begin = Instant::now();
    let mut running = JoinSet::new();
    for client in clients.iter().cycle().take(callers) {
        let (mut client, texts, next) = (client.clone(), texts.clone(), next.clone());
        running.spawn(async move {
            while let Some(texts) = texts.chunks(size).nth(next.fetch_add(1, Ordering::Relaxed)) {
                let request = EncodeRequest { texts: texts.to_vec(), priority: priority.into() };
                let answer = client.encode(request).await.expect("an answer").into_inner();
                assert_eq!(answer.embeddings.len(), texts.len(), "every text is answered with a vector");
            }
        });
    }
    running.join_all().await;
    texts.len() as f64 / begin.elapsed().as_secs_f64()
}

/// Encodes one caller's online texts, one at a time, and adds how long each took.
///
/// # Panics
/// If a call fails.
pub async fn one_caller(client: &Client, texts: &[String], latencies: &mut Histogram<u64>) {
    let mut client = client.clone();
    for text in texts {
        let begin = Instant::now();
        client.encode(one(text.clone(), Priority::Online)).await.expect("an answer");
        record(latencies, begin.elapsed());
    }
}

/// The same of so many calls that ask for nothing to be run: what a call takes on this machine at best.
///
/// # Panics
/// If a call fails.
pub async fn empty_calls(client: &Client, count: usize, latencies: &mut Histogram<u64>) {
    let mut client = client.clone();
    for _ in 0..count {
        let begin = Instant::now();
        client.get_encoder(GetEncoderRequest {}).await.expect("an answer");
        record(latencies, begin.elapsed());
    }
}

/// What became of the calls of an open loop.
pub struct Outcomes {
    /// Answered inside the deadline.
    pub answered: Histogram<u64>,
    /// Refused.
    pub refused: Histogram<u64>,
    /// Admitted, and too late.
    pub late: usize,
    /// Failed otherwise.
    pub failed: usize,
    /// What it took in all.
    pub took: Duration,
}

/// Online texts at `rate` a second for so long, spread over the clients, each with that deadline, whether or not the ones
/// before are answered.
pub async fn open_loop(
    clients: &[Client],
    texts: &[String],
    rate: f64,
    duration: Duration,
    deadline: Duration,
) -> Outcomes {
    let begin = Instant::now();
    let mut running = JoinSet::new();
    let mut outcomes =
        Outcomes { answered: histogram(), refused: histogram(), late: 0, failed: 0, took: Duration::ZERO };
    let calls = (rate * duration.as_secs_f64()) as usize;
    for call in 0..calls {
        let due = begin + Duration::from_secs_f64(call as f64 / rate);
        tokio::time::sleep_until(due.into()).await;
        let (mut client, text) = (clients[call % clients.len()].clone(), texts[call % texts.len()].clone());
        running.spawn(async move {
            let mut request = Request::new(one(text, Priority::Online));
            request.set_timeout(deadline);
            let begin = Instant::now();
            let code = client.encode(request).await.err().map_or(Code::Ok, |status| status.code());
            (code, begin.elapsed())
        });
        while let Some(done) = running.try_join_next() {
            outcomes.count(&done);
        }
    }
    while let Some(done) = running.join_next().await {
        outcomes.count(&done);
    }
    outcomes.took = begin.elapsed();
    outcomes
}

impl Outcomes {
    fn count(&mut self, done: &Result<(Code, Duration), tokio::task::JoinError>) {
        match done {
            Ok((Code::Ok, took)) => record(&mut self.answered, *took),
            Ok((Code::Unavailable, took)) => record(&mut self.refused, *took),
            Ok((Code::DeadlineExceeded | Code::Cancelled, _)) => self.late += 1,
            _ => self.failed += 1,
        }
    }
}
