//! One run: starts the hosts, injects the faults of the plan, and checks the state at the end.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use turmoil::Sim;

use crate::hosts::classifier_host;
use crate::hosts::encoder_host;
use crate::hosts::trainer_host;
use crate::ledger::{Ledger, Report};
use crate::load::{clients, reader, sharers};
use crate::network::SimulatedNetwork;
use crate::plan::{self, Fault, LATENCY_MS, PATIENCE, Plan, RECOVERY};
use crate::truth::{self, Models};
use crate::world::{EncoderState, Life, World};

/// Time at the end for the calls that clients have abandoned.
const QUIET: Duration = Duration::from_secs(6);
/// The same for requests on a connection that fell silent, until the server's keepalive closes it
/// (40 s).
const DEAD: Duration = Duration::from_secs(42);
/// The most tasks of a process at the end: per connection, and apart from connections.
const TASKS_OF_A_CONNECTION: usize = 4;
const TASKS_OF_A_PROCESS: usize = 16;
/// The most pending connections of a host, and messages of a connection.
const CAPACITY: usize = 4096;
/// The simulated wall clock at the start.
const EPOCH: Duration = Duration::from_secs(1_700_000_000);

/// Runs the plan in an empty folder.
#[must_use]
pub fn run(plan: Plan, folder: &Path, ledger: Ledger) -> Report {
    let world = Arc::new(World {
        encoders: (0..plan.encoders).map(|_| EncoderState::default()).collect(),
        plan,
        ledger,
        network: SimulatedNetwork::default(),
        models: Mutex::new(Models::default()),
        folder: folder.to_owned(),
        classifier: Life::default(),
        trainer: Life::default(),
        bulk_is_done: AtomicBool::new(false),
    });
    let mut sim = turmoil::Builder::new()
        .epoch(SystemTime::UNIX_EPOCH + EPOCH)
        .rng_seed(world.plan.seed)
        .simulation_duration(Duration::from_secs(3600))
        .tick_duration(Duration::from_millis(1))
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(LATENCY_MS))
        .tcp_capacity(CAPACITY)
        .enable_random_order()
        .build();
    let director = Director { world: world.clone() };
    director.write_model(1, 0);
    if let Err(error) = trainer_host::write_input(&world) {
        director.violation(Duration::ZERO, &format!("the input cannot be written: {error}"));
    }
    world.network.set_name(classifier_host::ENCODERS, (0..world.plan.encoders).map(plan::encoder).collect());
    add_hosts(&mut sim, &world);
    director.play(&mut sim);
    let simulated = sim.elapsed();
    director.check_end(simulated);
    // The hosts write to the folder, so they end first.
    drop(sim);
    world.ledger.report(simulated.as_millis() as u64)
}

fn add_hosts(sim: &mut Sim<'_>, world: &Arc<World>) {
    for index in 0..world.plan.encoders {
        let world = world.clone();
        sim.host(plan::encoder(index), move || {
            let world = world.clone();
            async move { reported(&world, encoder_host::run(world.clone(), index).await) }
        });
    }
    let of_classifier = world.clone();
    sim.host("classifier", move || {
        let world = of_classifier.clone();
        async move { reported(&world, classifier_host::run(world.clone()).await) }
    });
    let of_trainer = world.clone();
    sim.host("trainer", move || {
        let world = of_trainer.clone();
        async move { reported(&world, trainer_host::run(world.clone()).await) }
    });
    for index in 0..2 {
        sim.client(format!("client-{index}"), clients::run(world.clone(), index));
    }
    sim.client("reader", reader::run(world.clone()));
    sim.client("sharers", sharers::run(world.clone()));
}

/// Records a process that ends with an error as a violation.
#[expect(clippy::unnecessary_wraps, reason = "turmoil expects a result of a host")]
fn reported(world: &World, outcome: anyhow::Result<()>) -> turmoil::Result {
    if let Err(error) = outcome {
        world.violation(&format!("a process ended: {error:#}"));
    }
    Ok(())
}

struct Director {
    world: Arc<World>,
}

impl Director {
    fn play(&self, sim: &mut Sim<'_>) {
        let mut faults = self.world.plan.faults.clone().into_iter().peekable();
        let latest = self.world.plan.calm + RECOVERY + PATIENCE;
        let mut quiet_since = None;
        let mut is_prompt = self.world.plan.is_prompt;
        loop {
            let at = sim.elapsed();
            if is_prompt && at >= self.world.plan.calm {
                is_prompt = false;
                self.expect_no_hedge(at);
            }
            while let Some((_, fault)) = faults.next_if(|(due, _)| *due <= at) {
                self.inject(sim, &fault);
            }
            let finished = match sim.step() {
                Ok(finished) => finished,
                Err(error) => return self.violation(at, &format!("the run ended: {error}")),
            };
            if finished && self.world.bulk_is_done.load(Ordering::Relaxed) && faults.peek().is_none() {
                let since = *quiet_since.get_or_insert(at);
                if at >= since + DEAD || at >= since + QUIET && self.left_over().is_empty() {
                    return;
                }
            }
            if at > latest {
                let bulk = self.world.bulk_is_done.load(Ordering::Relaxed);
                let what = format!("clients are done: {finished}, the bulk job is done: {bulk}");
                return self.violation(at, &format!("the run does not end: {what}"));
            }
        }
    }

    fn violation(&self, at: Duration, what: &str) {
        self.world.ledger.violation(at.as_millis(), what);
    }

    fn inject(&self, sim: &mut Sim<'_>, fault: &Fault) {
        let at = sim.elapsed();
        match fault {
            Fault::Partition(a, b) => sim.partition(a.as_str(), b.as_str()),
            Fault::OneWay(a, b) => sim.partition_oneway(a.as_str(), b.as_str()),
            Fault::Repair(a, b) => sim.repair(a.as_str(), b.as_str()),
            Fault::Hold(a, b) => sim.hold(a.as_str(), b.as_str()),
            Fault::Release(a, b) => sim.release(a.as_str(), b.as_str()),
            Fault::Latency(a, b, most) => {
                sim.set_link_max_message_latency(a.as_str(), b.as_str(), Duration::from_millis(*most));
            }
            Fault::Loss(a, b, of_a_thousand) => {
                sim.set_link_fail_rate(a.as_str(), b.as_str(), f64::from(*of_a_thousand) / 1000.0);
            }
            Fault::Crash(host) => sim.crash(host.as_str()),
            Fault::Stop(host) => self.world.life(host).stop(),
            Fault::Start(host) => {
                let runs = sim.is_host_running(host.as_str()) && !self.world.life(host).is_stopping();
                if runs && self.has_its_bundle(host) {
                    return;
                }
                sim.bounce(host.as_str());
            }
            Fault::Jump(host, ahead) => self.world.life(host).jump(*ahead),
            Fault::Garbage(index, garbage) => self.world.encoders[*index].set_garbage(*garbage),
            Fault::Slow(index, times) => self.world.encoders[*index].slow.store(*times, Ordering::Relaxed),
            Fault::Generation(index, generation) => {
                self.world.encoders[*index].generation.store(*generation, Ordering::Relaxed);
            }
            Fault::Names(encoders) => {
                let hosts = encoders.iter().map(|index| plan::encoder(*index)).collect();
                self.world.network.set_name(classifier_host::ENCODERS, hosts);
            }
            Fault::Model(generation, number) => self.write_model(*generation, *number),
            Fault::BrokenModel => {
                if let Err(error) = genre_model::write_atomically(&self.world.model_file(), b"no model") {
                    self.violation(at, &format!("the file cannot be written: {error}"));
                }
            }
        }
        let name = format!("{fault:?}");
        if at < self.world.plan.calm {
            let kind = name.split(['(', ' ']).next().unwrap_or_default();
            self.world.ledger.count(&format!("fault:{kind}"));
        }
        self.world.ledger.event(at.as_millis(), &name);
    }

    /// Checks that no call had to wait for a hedge so far.
    fn expect_no_hedge(&self, at: Duration) {
        let metrics = self.world.classifier.metrics().unwrap_or_default();
        let hedges = metrics.lines().find(|line| line.starts_with("encoder_hedges_total ")).unwrap_or("none");
        if hedges != "encoder_hedges_total 0" {
            self.violation(at, &format!("expected no call that waits for a hedge, found {hedges}"));
        }
    }

    fn has_its_bundle(&self, host: &str) -> bool {
        let Some(index) = host.strip_prefix("encoder-").and_then(|index| index.parse::<usize>().ok()) else {
            return true;
        };
        let state = &self.world.encoders[index];
        state.generation.load(Ordering::Relaxed) == state.running.load(Ordering::Relaxed)
    }

    fn write_model(&self, generation: u32, number: u64) {
        let model = truth::model(generation, number);
        self.world.models().add(model.clone());
        if let Err(error) = model.save(&self.world.model_file()) {
            self.violation(Duration::ZERO, &format!("a model cannot be written: {error}"));
        }
    }

    /// Returns what is left over: queued entries, permits not released, and calls still counted.
    fn left_over(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (index, encoder) in self.world.encoders.iter().enumerate() {
            if encoder.waiting() > 0 {
                found.push(format!("encoder {index} still holds {} entries", encoder.waiting()));
            }
        }
        for host in self.world.servers() {
            let metrics = self.world.life(&host).metrics().unwrap_or_default();
            let left = metrics.lines().filter(|line| must_be_zero(line) && !line.ends_with(" 0"));
            found.extend(left.map(|line| format!("{host} still counts {line}")));
        }
        found
    }

    /// Checks that nothing is left over, and that no process has more tasks than its connections
    /// explain.
    fn check_end(&self, at: Duration) {
        for what in self.left_over() {
            self.violation(at, &what);
        }
        for host in self.world.servers() {
            let tasks = self.world.life(&host).tasks();
            self.world.ledger.add("left:tasks", tasks as u64);
            let most = TASKS_OF_A_PROCESS + (self.world.plan.encoders + 4) * TASKS_OF_A_CONNECTION;
            if tasks > most {
                self.violation(
                    at,
                    &format!("{host}: expected at most {most} tasks at the end, found {tasks}"),
                );
            }
        }
    }
}

/// Whether a metric counts work in flight.
fn must_be_zero(line: &str) -> bool {
    let of_calls = line.starts_with("rpc_in_flight_calls{");
    let goes_on = line.contains("Stream") || line.contains("Health/Watch");
    line.starts_with("encoder_admitted_texts{") || (of_calls && !goes_on)
}
