//! Callers that each send an encoder more than it can take, in different ways, and the check that they
//! get equal shares.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use encoder_svc::scheduler::cost::CostModel;
use futures_util::StreamExt as _;
use proto::encoder::v1::encoder_service_client::EncoderServiceClient;
use proto::encoder::v1::{EncodeRequest, EncodeStreamRequest, Priority};
use service_kit::{Shutdown, Target};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::transport::Channel;

use crate::hosts::encoder_host;
use crate::load::overload;
use crate::plan::{self, RECOVERY};
use crate::truth;
use crate::world::World;

/// The time until each caller has filled its part of the queue.
const WARM_UP: Duration = Duration::from_secs(2);
/// The time in which the shares are counted.
const COUNTED: Duration = Duration::from_secs(8);
/// The largest difference from an equal share, as a part of it.
const TOLERANCE: f64 = 0.1;
/// The texts of a stream; the next one then begins.
const ITEMS: usize = 60;
/// The pause after a rejected call.
const PAUSE: Duration = Duration::from_millis(20);

/// How a caller sends its texts.
#[derive(Debug, Clone, Copy)]
enum Habit {
    /// Streams of long texts, as fast as flow control allows.
    Streams,
    /// Batches of texts of any length.
    Batches,
    /// One short text in each call.
    Unary,
}

const HABITS: [Habit; 3] = [Habit::Streams, Habit::Batches, Habit::Unary];

impl Habit {
    fn calls(self) -> usize {
        match self {
            Self::Streams => 3,
            Self::Batches => 4,
            Self::Unary => 24,
        }
    }

    fn texts(self) -> Vec<String> {
        let words = match self {
            Self::Streams => 50..usize::MAX,
            Self::Batches => 0..usize::MAX,
            Self::Unary => 0..20,
        };
        let texts = (0..).map(|number| {
            let movie = truth::movie(number);
            truth::template().compose(&movie.title, &movie.overview)
        });
        texts.filter(|text| words.contains(&text.split(' ').count())).take(8).collect()
    }
}

/// A caller, which has a connection of its own.
#[derive(Clone)]
struct Sharer {
    client: EncoderServiceClient<Channel>,
    habit: Habit,
    texts: Vec<String>,
    /// The cost of the texts that were encoded, in the units of the cost model.
    encoded: Arc<AtomicU64>,
    costs: Arc<CostModel>,
}

/// Measures the shares of the first encoder after recovery.
pub async fn run(world: Arc<World>) -> turmoil::Result {
    let costs = Arc::new(CostModel::new(truth::MAX_TOKENS, "", Duration::ZERO));
    tokio::time::sleep_until(Instant::now() + world.plan.calm + RECOVERY).await;
    let target = Target::parse(&format!("http://{}:{}", plan::encoder(0), encoder_host::PORT))?
        .over(Arc::new(world.network.clone()));
    let sharers = HABITS.map(|habit| Sharer {
        client: EncoderServiceClient::new(target.channel(None, None)),
        habit,
        texts: habit.texts(),
        encoded: Arc::default(),
        costs: costs.clone(),
    });
    let over = Shutdown::new();
    let mut calls = JoinSet::new();
    for sharer in &sharers {
        for _ in 0..sharer.habit.calls() {
            calls.spawn(sharer.clone().send_until(over.clone()));
        }
    }
    tokio::time::sleep(WARM_UP).await;
    for sharer in &sharers {
        sharer.encoded.store(0, Ordering::Relaxed);
    }
    tokio::time::sleep(COUNTED).await;
    let counts: Vec<_> = sharers.iter().map(|sharer| sharer.encoded.load(Ordering::Relaxed)).collect();
    over.cancel();
    // A call that is dropped would leave its request stream open.
    while calls.join_next().await.is_some() {}
    let mean = counts.iter().sum::<u64>() as f64 / counts.len() as f64;
    let is_equal = |share: &u64| (*share as f64 - mean).abs() <= TOLERANCE * mean;
    let named: Vec<_> =
        HABITS.iter().zip(&counts).map(|(habit, share)| format!("{habit:?} {share}")).collect();
    world.event(&format!("sharers: {}", named.join(", ")));
    world.ledger.add("shared:units", counts.iter().sum());
    if mean == 0.0 || !counts.iter().all(is_equal) {
        world.violation(&format!("callers got {} instead of equal shares", named.join(", ")));
    }
    overload::run(&world).await
}

impl Sharer {
    async fn send_until(mut self, over: Shutdown) {
        while !over.is_cancelled() {
            let sent = match self.habit {
                Habit::Streams => self.stream().await,
                Habit::Batches => self.batch(self.texts.clone()).await,
                Habit::Unary => self.batch(vec![self.texts[0].clone()]).await,
            };
            if sent.is_err() {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    fn count(&self, text: &str) {
        self.encoded.fetch_add(self.costs.units_of(text), Ordering::Relaxed);
    }

    async fn batch(&mut self, texts: Vec<String>) -> Result<(), tonic::Status> {
        // Bulk has the longer queue, so that every caller can keep texts waiting.
        let message = EncodeRequest { texts: texts.clone(), priority: Priority::Bulk.into() };
        self.client.encode(message).await?;
        for text in &texts {
            self.count(text);
        }
        Ok(())
    }

    async fn stream(&mut self) -> Result<(), tonic::Status> {
        let texts = self.texts.clone();
        let items = (0..ITEMS).map(move |number| EncodeStreamRequest {
            id: number.to_string(),
            text: texts[number % texts.len()].clone(),
            priority: Priority::Bulk.into(),
        });
        let responses = self.client.encode_stream(futures_util::stream::iter(items)).await?;
        let mut responses = responses.into_inner();
        while let Some(response) = responses.next().await {
            let number: usize = response?.id.parse().unwrap_or(0);
            self.count(&self.texts[number % self.texts.len()]);
        }
        Ok(())
    }
}
