//! Clients of the classifier, which compare every response with the truth.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use proto::classifier::v1::classifier_service_client::ClassifierServiceClient;
use proto::classifier::v1::classify_stream_response::Result as StreamResult;
use proto::classifier::v1::{
    BatchClassifyRequest, ClassifyRequest, ClassifyResponse, ClassifyStreamRequest, Movie,
};
use rand_of_seed::rngs::StdRng;
use rand_of_seed::{RngExt as _, SeedableRng as _};
use service_kit::Target;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use crate::hosts::classifier_host;
use crate::load::direct::Direct;
use crate::load::items::{self, Items};
use crate::load::outcome::{Failure, TOLERANCE, WITHOUT_DEADLINE};
use crate::plan::{Fault, LATENCY_MS, RECOVERY};
use crate::sabotage::Sabotage;
use crate::truth;
use crate::world::World;

/// Calls of each client after recovery.
const LAST_CALLS: u64 = 4;

/// A client of the classifier. Clones share the connection.
#[derive(Clone)]
pub struct Client {
    world: Arc<World>,
    name: String,
    channel: Channel,
}

/// A call to make.
#[derive(Debug, Clone)]
struct Call {
    number: u64,
    kind: Kind,
    movies: Vec<Movie>,
    scores: bool,
    deadline: Option<Duration>,
    /// The client cancels the call after this time.
    leaves_after: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Classify,
    Explain,
    Batch,
    Stream,
    Blank,
}

/// The longest round trip on a sound link, and the delay of timers.
const ROUND_TRIP: Duration = Duration::from_millis(2 * LATENCY_MS + 5);

/// The outcome of a call.
type Outcome = Result<(), Failure>;

/// The movies of a call; no two calls of a run share one.
pub(crate) fn movies(client: u64, call: u64, count: u64) -> Vec<Movie> {
    (0..count).map(|index| truth::movie((client * 10_000 + call) * 64 + index)).collect()
}

/// Makes calls during the faults, and a few more after recovery.
pub async fn run(world: Arc<World>, index: u64) -> turmoil::Result {
    let url = format!("http://classifier:{}", classifier_host::PORT);
    let target = Target::parse(&url)?.over(Arc::new(world.network.clone()));
    let name = format!("client-{index}");
    let client = Client { world: world.clone(), name, channel: target.channel(None, None) };
    let mut rng = StdRng::seed_from_u64(world.plan.seed ^ ((index + 1) << 32));
    let begin = Instant::now();
    let mut running = JoinSet::new();
    for number in 0..u64::from(world.plan.calls) {
        // Spread the calls, with a few bursts.
        if !rng.random_bool(0.2) {
            let mean = world.plan.calm.as_millis() as u64 / u64::from(world.plan.calls);
            tokio::time::sleep(Duration::from_millis(rng.random_range(0..=mean * 2))).await;
        }
        let (client, call) = (client.clone(), Call::random(index, number, &mut rng));
        running.spawn(async move {
            if is_undisturbed(&client.world, &client.name) && call.kind == Kind::Classify {
                client.expects_punctuality(&call).await;
            }
            client.make(call).await
        });
    }
    while running.join_next().await.is_some() {}
    tokio::time::sleep_until(begin + world.plan.calm + RECOVERY).await;
    for number in 0..LAST_CALLS {
        let call = Call::last(index, u64::from(world.plan.calls) + number);
        let kind = call.kind;
        let made = with_retries(|| client.make(call.clone())).await;
        if let Err(failure) = made {
            let name = failure.name();
            world.violation(&format!("{}: {kind:?} still fails after the faults: {name}", client.name));
        }
    }
    client.expects_the_last_model().await;
    Ok(())
}

/// Retries a call while the queue is full, since other clients make their last calls at the same
/// time.
///
/// Also retries once after a failed connection: tonic reports an old failure to connect to the next
/// call.
pub(crate) async fn with_retries<F: Future<Output = Outcome>>(call: impl Fn() -> F) -> Outcome {
    let mut outcome = call().await;
    if outcome == Err(Failure::Connection) {
        outcome = call().await;
    }
    for _ in 0..20 {
        if !matches!(outcome, Err(Failure::Documented(_, "QUEUE_FULL"))) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        outcome = call().await;
    }
    outcome
}

/// Whether no fault of the plan touches the classifier's process or its link to this client.
fn is_undisturbed(world: &World, client: &str) -> bool {
    let is_the_link = |a: &str, b: &str| [a, b].contains(&client) && [a, b].contains(&"classifier");
    let faults = world.plan.faults.iter().filter(|(at, _)| *at < world.plan.calm);
    !faults.map(|(_, fault)| fault).any(|fault| match fault {
        Fault::Partition(a, b)
        | Fault::OneWay(a, b)
        | Fault::Hold(a, b)
        | Fault::Latency(a, b, _)
        | Fault::Loss(a, b, _) => is_the_link(a, b),
        Fault::Crash(host) | Fault::Stop(host) | Fault::Jump(host, _) => host == "classifier",
        _ => false,
    })
}

impl Call {
    fn random(client: u64, number: u64, rng: &mut StdRng) -> Self {
        let kind = match rng.random_range(0..20) {
            0 => Kind::Blank,
            1..=9 => Kind::Classify,
            10 | 11 => Kind::Explain,
            12..=15 => Kind::Batch,
            _ => Kind::Stream,
        };
        let count = match kind {
            Kind::Batch => rng.random_range(2..12),
            Kind::Stream => rng.random_range(3..30),
            _ => 1,
        };
        // Some movies repeat, so that calls hit the encoder's cache.
        let source =
            if rng.random_bool(0.2) { number.saturating_sub(rng.random_range(0..5)) } else { number };
        Self {
            number,
            kind,
            movies: movies(client, source, count),
            scores: rng.random_bool(0.5),
            deadline: rng
                .random_bool(0.85)
                .then(|| Duration::from_millis([50, 200, 1000, 4000][rng.random_range(0..4)])),
            leaves_after: rng.random_bool(0.08).then(|| Duration::from_millis(rng.random_range(1..300))),
        }
    }

    fn last(client: u64, number: u64) -> Self {
        let kind = [Kind::Classify, Kind::Batch, Kind::Stream, Kind::Explain][number as usize % 4];
        let count = if matches!(kind, Kind::Classify | Kind::Explain) { 1 } else { 4 };
        let deadline = Some(Duration::from_secs(4));
        let movies = movies(client, number, count);
        Self { number, kind, movies, scores: true, deadline, leaves_after: None }
    }
}

impl Client {
    fn rpc(&self) -> ClassifierServiceClient<Channel> {
        ClassifierServiceClient::new(self.channel.clone())
    }

    async fn make(&self, call: Call) -> Outcome {
        let begin = Instant::now();
        let (number, kind) = (call.number, call.kind);
        let allowed = match (call.deadline, kind) {
            // The client has its own timer at the deadline.
            (Some(deadline), kind) if kind != Kind::Stream => deadline + TOLERANCE,
            // The end of a stream may be lost with the connection.
            (deadline, _) => deadline.unwrap_or_default() + WITHOUT_DEADLINE,
        };
        let own_timer = call.deadline.is_some() && kind != Kind::Stream;
        let patience = call.leaves_after.unwrap_or(allowed);
        let leaves = call.leaves_after.is_some();
        let outcome = tokio::time::timeout(patience, self.dispatch(call)).await;
        let took = begin.elapsed().as_millis();
        let outcome = outcome.unwrap_or_else(|_| {
            // tonic's timer starts only once it is connected, so this one may come first.
            if !(own_timer || leaves) {
                self.violation(&format!("{kind:?} {number} has no response after {took} ms"));
            }
            Err(Failure::OwnTimer)
        });
        let name = match &outcome {
            Ok(()) => "OK".to_owned(),
            Err(Failure::OwnTimer) if leaves => "LEFT".to_owned(),
            Err(failure) => failure.name(),
        };
        self.world.event(&format!("{} {kind:?} {number}: {name} after {took} ms", self.name));
        self.world.ledger.count(&format!("call:{kind:?}:{name}"));
        outcome
    }

    /// Makes a call without a timer in the client: the service must respond by the deadline on its
    /// own.
    async fn expects_punctuality(&self, call: &Call) {
        let Some(deadline) = call.deadline else { return };
        let Ok(direct) = Direct::connect(&self.world.network, "classifier", classifier_host::PORT).await
        else {
            // The classifier may not listen yet.
            return;
        };
        let begin = Instant::now();
        let movie = call.movies[0].clone();
        let message = ClassifyRequest { title: movie.title, overview: movie.overview, ..Default::default() };
        let mut client = ClassifierServiceClient::new(direct);
        let patience = deadline + ROUND_TRIP;
        let response = tokio::time::timeout(patience, client.classify(within(call.deadline, message))).await;
        let took = begin.elapsed().as_millis();
        let name = match response {
            Ok(Ok(_)) => "OK".to_owned(),
            Ok(Err(status)) => self.failed("a punctual call", &status).name(),
            Err(_) => {
                let number = call.number;
                self.violation(&format!(
                    "{number}: the classifier does not respond by the deadline ({took} ms)"
                ));
                "LATE".to_owned()
            }
        };
        self.world.event(&format!("{} punctual {}: {name} after {took} ms", self.name, call.number));
        self.world.ledger.count(&format!("call:Punctual:{name}"));
    }

    fn violation(&self, what: &str) {
        self.world.violation(&format!("{}: {what}", self.name));
    }

    /// Classifies a failure; an undocumented one is a violation.
    fn failed(&self, what: &str, status: &Status) -> Failure {
        Failure::of(status).unwrap_or_else(|undocumented| {
            self.violation(&format!("{what} ends with the undocumented {undocumented}"));
            Failure::Connection
        })
    }

    async fn dispatch(&self, call: Call) -> Outcome {
        match call.kind {
            Kind::Classify | Kind::Explain => self.classify(&call).await,
            Kind::Batch => self.batch(&call).await,
            Kind::Stream => self.stream(&call).await,
            Kind::Blank => self.blank(&call).await,
        }
    }

    fn check(&self, call: &Call, movie: &Movie, mut response: ClassifyResponse) {
        if self.world.plan.sabotage == Some(Sabotage::OtherModel) {
            truth::model(1, 500).version().clone_into(&mut response.model_version);
        }
        if let Some(fault) = self.world.models().fault_in(movie, call.scores, &response) {
            self.violation(&format!("{:?} {} of {:?}: {fault}", call.kind, call.number, movie.title));
        }
        self.world.ledger.count("movie:classified");
    }

    async fn classify(&self, call: &Call) -> Outcome {
        let movie = &call.movies[0];
        let request = within(
            call.deadline,
            ClassifyRequest {
                title: movie.title.clone(),
                overview: movie.overview.clone(),
                include_scores: call.scores,
                explain: call.kind == Kind::Explain,
                ..ClassifyRequest::default()
            },
        );
        let response = self.rpc().classify(request).await;
        let mut response = response.map_err(|status| self.failed("a call", &status))?.into_inner();
        if call.kind == Kind::Explain && response.explanation.take().is_none_or(|why| why.segments.is_empty())
        {
            self.violation("a requested explanation is missing");
        }
        self.check(call, movie, response);
        Ok(())
    }

    async fn batch(&self, call: &Call) -> Outcome {
        let movies = call.movies.clone();
        let request =
            BatchClassifyRequest { movies, include_scores: call.scores, ..BatchClassifyRequest::default() };
        let request = within(call.deadline, request);
        let response = self.rpc().batch_classify(request).await;
        let response = response.map_err(|status| self.failed("a batch", &status))?.into_inner();
        if response.results.len() != call.movies.len() {
            let found = response.results.len();
            self.violation(&format!("{} movies got {found} results", call.movies.len()));
        }
        if response.results.iter().any(|result| result.model_version != response.model_version) {
            self.violation("a batch was classified by two models");
        }
        for (movie, result) in call.movies.iter().zip(response.results) {
            self.check(call, movie, result);
        }
        Ok(())
    }

    async fn blank(&self, call: &Call) -> Outcome {
        let request = ClassifyRequest { overview: " \n".to_owned(), ..ClassifyRequest::default() };
        match self.rpc().classify(within(call.deadline, request)).await {
            Ok(_) => {
                self.violation("a blank overview was classified");
                Ok(())
            }
            Err(status) if status.code() == Code::InvalidArgument => Ok(()),
            Err(status) => Err(self.failed("a blank call", &status)),
        }
    }

    async fn stream(&self, call: &Call) -> Outcome {
        let requests: Vec<_> = call
            .movies
            .iter()
            .enumerate()
            .map(|(index, movie)| ClassifyStreamRequest {
                id: index.to_string(),
                title: movie.title.clone(),
                overview: movie.overview.clone(),
                include_scores: call.scores,
                ..ClassifyStreamRequest::default()
            })
            .collect();
        let slowly = futures_util::stream::iter(requests).then(|request| async {
            tokio::time::sleep(Duration::from_millis(2)).await;
            request
        });
        let stream = self.rpc().classify_stream(within(call.deadline, slowly)).await;
        let responses = stream.map_err(|status| self.failed("a stream", &status))?.into_inner();
        let mut items = Items::of(call.movies.len());
        let mut of_items = Ok(());
        let ended = items::for_each(responses, |response| {
            let movie = match items.responded(&response.id) {
                Ok(index) => &call.movies[self.sabotaged(index, call)],
                Err(violation) => return self.violation(&violation),
            };
            match response.result {
                Some(StreamResult::Classification(found)) => self.check(call, movie, found),
                Some(StreamResult::Error(error)) => match Failure::of_item(error.code, &error.reason) {
                    Ok(failure) => {
                        self.world.ledger.count(&format!("movie:{}", failure.name()));
                        of_items = of_items.and(Err(failure));
                    }
                    Err(undocumented) => self.violation(&format!("a movie fails with {undocumented}")),
                },
                None => self.violation("a stream response without a result"),
            }
        })
        .await;
        let end = ended.map_err(|status| self.failed("a stream", &status)).and(of_items);
        items.violations(end.is_ok()).for_each(|violation| self.violation(&violation));
        end
    }

    fn sabotaged(&self, index: usize, call: &Call) -> usize {
        match self.world.plan.sabotage {
            Some(Sabotage::SwapResponses) => (index + 1) % call.movies.len(),
            _ => index,
        }
    }

    /// The classifier must have loaded the last model by now.
    async fn expects_the_last_model(&self) {
        let (generation, number) = self.world.plan.last;
        let expected = truth::model(generation, number).version().to_owned();
        let request = within(Some(Duration::from_secs(2)), proto::classifier::v1::GetModelRequest {});
        match self.rpc().get_model(request).await {
            Ok(model) if model.get_ref().model_version == expected => {}
            Ok(model) => {
                let found = model.into_inner().model_version;
                self.violation(&format!("expected the last model {expected}, found {found}"));
            }
            Err(status) => {
                self.violation(&format!("GetModel still fails after the faults: {}", status.code()));
            }
        }
    }
}

/// A request with a deadline, which both ends enforce.
pub(crate) fn within<T>(deadline: Option<Duration>, message: T) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(deadline) = deadline {
        request.set_timeout(deadline);
    }
    request
}
