//! Load on the encoder: closed loops, where clients wait for each reply, and an open loop, where
//! calls arrive at a fixed rate whether or not earlier ones are done.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use hdrhistogram::Histogram;
use proto::encoder::v1::encode_stream_response::Result as StreamResult;
use proto::encoder::v1::encoder_service_client::EncoderServiceClient;
use proto::encoder::v1::{EncodeRequest, EncodeStreamRequest, GetEncoderRequest, Priority};
use tokio::task::{JoinError, JoinSet};
use tonic::transport::Channel;
use tonic::{Code, Request};

use crate::figures::Figures;

/// An encoder client.
pub type Client = EncoderServiceClient<Channel>;

/// Deadline of a call in an open loop.
const DEADLINE: Duration = Duration::from_secs(1);

/// Returns an empty histogram of latencies in microseconds, up to ten minutes.
#[must_use]
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 600_000_000, 3).expect("the bounds are valid")
}

/// Adds a latency.
pub fn record(latencies: &mut Histogram<u64>, latency: Duration) {
    latencies.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
}

/// Returns a quantile in milliseconds.
#[must_use]
pub fn quantile(latencies: &Histogram<u64>, quantile: f64) -> f64 {
    latencies.value_at_quantile(quantile) as f64 / 1e3
}

fn online(text: &str) -> EncodeRequest {
    EncodeRequest { texts: vec![text.to_owned()], priority: Priority::Online.into() }
}

/// Encodes the texts over one bulk stream and returns texts per second.
pub async fn stream(client: &Client, texts: &[String]) -> f64 {
    let mut client = client.clone();
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
    let requests = futures_util::stream::iter(requests);
    let replies = client.encode_stream(requests).await.expect("encoder-svc accepts a stream").into_inner();
    let is_vector = |reply: &Result<proto::encoder::v1::EncodeStreamResponse, _>| {
        let reply = reply.as_ref().expect("the stream does not fail");
        std::future::ready(matches!(reply.result, Some(StreamResult::Embedding(_))))
    };
    let vectors = replies.filter(is_vector).count().await;
    assert_eq!(vectors, texts.len(), "every text gets a vector");
    texts.len() as f64 / begin.elapsed().as_secs_f64()
}

/// Encodes the texts in concurrent bulk calls of `batch` texts, spread over the clients, and
/// returns texts per second.
pub async fn closed_loop(
    clients: &[Client],
    texts: &Arc<Vec<String>>,
    concurrency: usize,
    batch: usize,
) -> f64 {
    let next = Arc::new(AtomicUsize::new(0));
    let begin = Instant::now();
    let mut running = JoinSet::new();
    for client in clients.iter().cycle().take(concurrency) {
        let (mut client, texts, next) = (client.clone(), texts.clone(), next.clone());
        running.spawn(async move {
            while let Some(texts) = texts.chunks(batch).nth(next.fetch_add(1, Ordering::Relaxed)) {
                let request = EncodeRequest { texts: texts.to_vec(), priority: Priority::Bulk.into() };
                let reply = client.encode(request).await.expect("a bulk call succeeds").into_inner();
                assert_eq!(reply.embeddings.len(), texts.len(), "every text gets a vector");
            }
        });
    }
    running.join_all().await;
    texts.len() as f64 / begin.elapsed().as_secs_f64()
}

/// Encodes the texts in online calls, one at a time, and records their latencies.
pub async fn online_calls(client: &Client, texts: &[String], latencies: &mut Histogram<u64>) {
    let mut client = client.clone();
    for text in texts {
        let begin = Instant::now();
        client.encode(online(text)).await.expect("an online call succeeds");
        record(latencies, begin.elapsed());
    }
}

/// Makes online calls while `bulk`, which must not end, saturates the encoder, and returns their
/// latencies.
pub async fn online_calls_under_bulk(
    client: &Client,
    texts: &[String],
    bulk: impl Future<Output = ()> + Send + 'static,
) -> Histogram<u64> {
    let bulk = tokio::spawn(bulk);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut latencies = histogram();
    online_calls(client, texts, &mut latencies).await;
    bulk.abort();
    latencies
}

/// Makes calls that run no graph, one at a time, and records their latencies: the floor of any call
/// on this machine.
pub async fn empty_calls(client: &Client, count: usize, latencies: &mut Histogram<u64>) {
    let mut client = client.clone();
    for _ in 0..count {
        let begin = Instant::now();
        client.get_encoder(GetEncoderRequest {}).await.expect("an empty call succeeds");
        record(latencies, begin.elapsed());
    }
}

/// Outcomes of the calls of an open loop.
pub struct Outcomes {
    /// Latencies of the calls that got a vector before their deadline.
    pub served: Histogram<u64>,
    /// Latencies of the calls that the encoder rejected.
    pub rejected: Histogram<u64>,
    /// Calls that were admitted and missed their deadline.
    pub late: usize,
    /// Calls that failed in another way.
    pub failed: usize,
    /// From the first call to the last reply.
    pub took: Duration,
}

/// Makes `rate` online calls per second for `duration`, spread over the clients, each with a
/// deadline of one second.
pub async fn open_loop(clients: &[Client], texts: &[String], rate: f64, duration: Duration) -> Outcomes {
    let begin = Instant::now();
    let mut running = JoinSet::new();
    let mut outcomes =
        Outcomes { served: histogram(), rejected: histogram(), late: 0, failed: 0, took: Duration::ZERO };
    let calls = (rate * duration.as_secs_f64()) as usize;
    for call in 0..calls {
        let due = begin + Duration::from_secs_f64(call as f64 / rate);
        tokio::time::sleep_until(due.into()).await;
        let mut client = clients[call % clients.len()].clone();
        let mut request = Request::new(online(&texts[call % texts.len()]));
        request.set_timeout(DEADLINE);
        running.spawn(async move {
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
    fn count(&mut self, done: &Result<(Code, Duration), JoinError>) {
        match done {
            Ok((Code::Ok, took)) => record(&mut self.served, *took),
            Ok((Code::Unavailable, took)) => record(&mut self.rejected, *took),
            Ok((Code::DeadlineExceeded | Code::Cancelled, _)) => self.late += 1,
            _ => self.failed += 1,
        }
    }

    /// Returns the calls per second, whatever their outcome.
    #[must_use]
    pub fn offered(&self) -> f64 {
        let calls = self.served.len() + self.rejected.len() + (self.late + self.failed) as u64;
        calls as f64 / self.took.as_secs_f64()
    }

    /// Returns the calls per second that got a vector before their deadline.
    #[must_use]
    pub fn goodput(&self) -> f64 {
        self.served.len() as f64 / self.took.as_secs_f64()
    }

    /// Records latencies and counts. `name` turns the name of a figure into its key.
    pub fn report(&self, figures: &mut Figures, name: impl Fn(&str) -> String) {
        let (served, rejected) = (&self.served, &self.rejected);
        for (figure, value, description) in [
            ("refused_p50_ms", quantile(rejected, 0.5), "ms to a rejection, p50"),
            ("refused_p99_ms", quantile(rejected, 0.99), "ms to a rejection, p99"),
            ("answered_p99_ms", quantile(served, 0.99), "ms to a vector, p99"),
            ("refused", rejected.len() as f64, "calls rejected"),
            ("late", self.late as f64, "calls admitted that missed their deadline"),
            ("failed", self.failed as f64, "calls failed in another way"),
        ] {
            figures.add(&name(&format!("overload_{figure}")), value, description);
        }
    }
}
