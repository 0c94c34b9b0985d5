//! A client of the encoders, which compares every vector with that of its text.

use std::sync::Arc;
use std::time::Duration;

use proto::encoder::v1::encode_stream_response::Result as StreamResult;
use proto::encoder::v1::encoder_service_client::EncoderServiceClient;
use proto::encoder::v1::{EncodeRequest, EncodeStreamRequest, Priority};
use rand_of_seed::rngs::StdRng;
use rand_of_seed::{RngExt as _, SeedableRng as _};
use service_kit::Target;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::transport::Channel;

use crate::hosts::encoder_host;
use crate::load::clients::{movies, with_retries, within};
use crate::load::items::{self, Items};
use crate::load::outcome::{Failure, TOLERANCE, WITHOUT_DEADLINE};
use crate::plan::RECOVERY;
use crate::world::World;
use crate::{plan, truth};

/// Identifies the reader in the numbers of its movies.
const CLIENT: u64 = 7;

#[derive(Clone)]
struct Reader {
    world: Arc<World>,
    client: EncoderServiceClient<Channel>,
}

struct Call {
    number: u64,
    stream: bool,
    texts: Vec<String>,
    priority: Priority,
    deadline: Option<Duration>,
}

/// Makes calls during the faults, and a few more after recovery.
pub async fn run(world: Arc<World>) -> turmoil::Result {
    let network = Arc::new(world.network.clone());
    let mut readers = Vec::new();
    for index in 0..world.plan.encoders {
        let url = format!("http://{}:{}", plan::encoder(index), encoder_host::PORT);
        let channel = Target::parse(&url)?.over(network.clone()).channel(None, None);
        readers.push(Reader { world: world.clone(), client: EncoderServiceClient::new(channel) });
    }
    let mut rng = StdRng::seed_from_u64(world.plan.seed ^ (CLIENT << 40));
    // An encoder that stops for long is the classifier's matter: whoever calls it alone waits for it.
    let first = usize::from(world.plan.is_prompt);
    let begin = Instant::now();
    let mut running = JoinSet::new();
    for number in 0..u64::from(world.plan.calls) {
        let mean = world.plan.calm.as_millis() as u64 / u64::from(world.plan.calls);
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..=mean * 2))).await;
        let reader = readers[rng.random_range(first..readers.len())].clone();
        let call = Call::random(number, &mut rng);
        running.spawn(async move { reader.make(&call).await });
    }
    while running.join_next().await.is_some() {}
    tokio::time::sleep_until(begin + world.plan.calm + RECOVERY).await;
    for (index, reader) in readers.iter().enumerate() {
        for stream in [false, true] {
            let number = u64::from(world.plan.calls) + index as u64 * 2 + u64::from(stream);
            let deadline = Some(Duration::from_secs(4));
            let call = Call { number, stream, texts: texts(number, 3), priority: Priority::Online, deadline };
            if let Err(failure) = with_retries(|| reader.make(&call)).await {
                let name = failure.name();
                world.violation(&format!("encoder {index} still fails after the faults: {name}"));
            }
        }
    }
    Ok(())
}

fn texts(number: u64, count: u64) -> Vec<String> {
    let compose =
        |movie: proto::classifier::v1::Movie| truth::template().compose(&movie.title, &movie.overview);
    movies(CLIENT, number, count).into_iter().map(compose).collect()
}

impl Call {
    fn random(number: u64, rng: &mut StdRng) -> Self {
        let stream = rng.random_bool(0.5);
        let deadlines = [30, 300, 2000];
        Self {
            number,
            stream,
            texts: texts(number, rng.random_range(1..24)),
            priority: if rng.random_bool(0.5) { Priority::Online } else { Priority::Bulk },
            deadline: rng.random_bool(0.8).then(|| Duration::from_millis(deadlines[rng.random_range(0..3)])),
        }
    }
}

impl Reader {
    async fn make(&self, call: &Call) -> Result<(), Failure> {
        let begin = Instant::now();
        let allowed = match call.deadline {
            Some(deadline) if !call.stream => deadline + TOLERANCE,
            deadline => deadline.unwrap_or_default() + WITHOUT_DEADLINE,
        };
        let kind = if call.stream { "EncodeStream" } else { "Encode" };
        let work = async { if call.stream { self.stream(call).await } else { self.batch(call).await } };
        // The bulk class may wait longer in the queue.
        let is_patient = call.deadline.is_none() && call.priority == Priority::Bulk;
        let allowed = if is_patient { allowed + Duration::from_secs(30) } else { allowed };
        let outcome = tokio::time::timeout(allowed, work).await;
        let took = begin.elapsed().as_millis();
        let own_timer = call.deadline.is_some() && !call.stream;
        let outcome = outcome.unwrap_or_else(|_| {
            if !own_timer {
                self.violation(&format!("{kind} {} has no response after {took} ms", call.number));
            }
            Err(Failure::OwnTimer)
        });
        let name = outcome.map_or_else(Failure::name, |()| "OK".to_owned());
        self.world.event(&format!("reader {kind} {}: {name} after {took} ms", call.number));
        self.world.ledger.count(&format!("call:{kind}:{name}"));
        outcome
    }

    fn violation(&self, what: &str) {
        self.world.violation(&format!("reader: {what}"));
    }

    fn failed(&self, what: &str, status: &tonic::Status) -> Failure {
        Failure::of(status).unwrap_or_else(|undocumented| {
            self.violation(&format!("{what} ends with the undocumented {undocumented}"));
            Failure::Connection
        })
    }

    fn check(&self, text: &str, fingerprint: &str, values: &[f32]) {
        if values != truth::vector(fingerprint, text) {
            self.violation(&format!("{text:.20?} has the vector of another text or encoder"));
        }
        self.world.ledger.count("text:encoded");
    }

    async fn batch(&self, call: &Call) -> Result<(), Failure> {
        let message = EncodeRequest { texts: call.texts.clone(), priority: call.priority.into() };
        let mut request = within(call.deadline, message);
        request.metadata_mut().insert(encoder_host::HONEST, tonic::metadata::MetadataValue::from_static("1"));
        let response = self.client.clone().encode(request).await;
        let response = response.map_err(|status| self.failed("a batch", &status))?.into_inner();
        if response.embeddings.len() != call.texts.len() {
            let found = response.embeddings.len();
            self.violation(&format!("{} texts got {found} vectors", call.texts.len()));
        }
        for (text, embedding) in call.texts.iter().zip(&response.embeddings) {
            self.check(text, &response.fingerprint, &embedding.values);
        }
        Ok(())
    }

    async fn stream(&self, call: &Call) -> Result<(), Failure> {
        let requests: Vec<_> = call
            .texts
            .iter()
            .enumerate()
            .map(|(index, text)| EncodeStreamRequest {
                id: index.to_string(),
                text: text.clone(),
                priority: call.priority.into(),
            })
            .collect();
        let request = within(call.deadline, futures_util::stream::iter(requests));
        let stream = self.client.clone().encode_stream(request).await;
        let responses = stream.map_err(|status| self.failed("a stream", &status))?.into_inner();
        let mut items = Items::of(call.texts.len());
        let mut of_items = Ok(());
        let ended = items::for_each(responses, |response| {
            let text = match items.responded(&response.id) {
                Ok(index) => &call.texts[index],
                Err(violation) => return self.violation(&violation),
            };
            match response.result {
                Some(StreamResult::Embedding(embedding)) => {
                    self.check(text, &response.fingerprint, &embedding.values);
                }
                Some(StreamResult::Error(error)) => match Failure::of_item(error.code, &error.reason) {
                    Ok(failure) => of_items = of_items.and(Err(failure)),
                    Err(undocumented) => self.violation(&format!("a text fails with {undocumented}")),
                },
                None => self.violation("a stream response without a result"),
            }
        })
        .await;
        let end = ended.map_err(|status| self.failed("a stream", &status)).and(of_items);
        items.violations(end.is_ok()).for_each(|violation| self.violation(&violation));
        end
    }
}
