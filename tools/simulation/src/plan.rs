//! The plan that a seed decides: hosts, load, and faults with their times.

use std::time::Duration;

use rand_of_seed::rngs::StdRng;
use rand_of_seed::{RngExt as _, SeedableRng as _};

use crate::sabotage::Sabotage;

/// What a faulty encoder returns instead of correct vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Garbage {
    /// One vector is too short.
    Dimension,
    /// NaN in a vector.
    NotANumber,
    /// One vector is missing.
    TooFew,
    /// One vector too many.
    TooMany,
    /// No vectors.
    None,
    /// Correct vectors with the fingerprint of another encoder.
    Fingerprint,
}

/// One fault, or its end.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// Drops all messages between two hosts.
    Partition(String, String),
    /// Drops all messages from the first host to the second.
    OneWay(String, String),
    /// Ends `Partition` and `OneWay`.
    Repair(String, String),
    /// Holds messages back.
    Hold(String, String),
    /// Delivers the messages held back.
    Release(String, String),
    /// Sets the largest latency, in milliseconds.
    Latency(String, String, u64),
    /// Sets how many of a thousand messages are lost, which silently breaks their connections.
    Loss(String, String, u32),
    /// Kills the process.
    Crash(String),
    /// Asks the process to drain and stop.
    Stop(String),
    /// Starts the process, with the bundle set for its next start.
    Start(String),
    /// Moves the clock of a host forward, as after a pause of the machine.
    Jump(String, Duration),
    /// Sets what an encoder returns.
    Garbage(usize, Option<Garbage>),
    /// Multiplies the time of each run of an encoder.
    Slow(usize, u32),
    /// Sets the bundle of an encoder for its next start.
    Generation(usize, u32),
    /// Sets the encoders that the name server knows; without any, it does not answer.
    Names(Vec<usize>),
    /// Writes a model file, by encoder generation and number.
    Model(u32, u64),
    /// Writes a model file that is not a model.
    BrokenModel,
}

/// Everything that a seed decides.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// The number of encoder hosts.
    pub encoders: usize,
    /// Texts that an encoder runs at the same time.
    pub sessions: usize,
    /// Size of an encoder's cache in mebibytes.
    pub cache_mib: usize,
    /// Longest time of an online text in the queue, in milliseconds.
    pub max_queue_ms: usize,
    /// The classifier's `encoder.hedge_seconds`.
    pub hedge_seconds: f64,
    /// The encoders' `endpoint_removal_seconds`.
    pub removal_seconds: f64,
    /// Movies of the bulk job.
    pub bulk_movies: u64,
    /// Calls of each client during the faults.
    pub calls: u32,
    /// The faults, in order of time.
    pub faults: Vec<(Duration, Fault)>,
    /// The time of the last fault.
    pub calm: Duration,
    /// The encoder generation and the model number at the end.
    pub last: (u32, u64),
    /// Whether a clock jumps.
    pub clocks_jump: bool,
    /// Whether an encoder returns garbage.
    pub garbage: bool,
    /// Whether no call may have had to wait for a hedge before `calm`.
    pub is_prompt: bool,
    /// A defect that the run must detect.
    pub sabotage: Option<Sabotage>,
}

/// The time at which the faults end.
const CALM: Duration = Duration::from_secs(10);
/// Time from the last fault to full recovery: keepalive detects dead connections (13 s), then
/// probes run (2.5 s).
pub const RECOVERY: Duration = Duration::from_secs(17);
/// Time after recovery in which the run must end.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// The name of an encoder's host.
#[must_use]
pub fn encoder(index: usize) -> String {
    format!("encoder-{index}")
}

struct Draft {
    rng: StdRng,
    plan: Plan,
    generation: u32,
    model: u64,
}

impl Plan {
    /// The plan of a seed.
    #[must_use]
    pub fn of(seed: u64, sabotage: Option<Sabotage>) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let plan = Self {
            seed,
            encoders: rng.random_range(1..=3),
            sessions: rng.random_range(1..=3),
            cache_mib: rng.random_range(0..=1),
            max_queue_ms: [100, 400, 2000][rng.random_range(0..3)],
            hedge_seconds: [0.0, 0.1, 0.4, 1.0][rng.random_range(0..4)],
            removal_seconds: 0.0,
            bulk_movies: rng.random_range(300..1_200),
            calls: rng.random_range(20..60),
            faults: Vec::new(),
            calm: CALM,
            last: (1, 0),
            clocks_jump: false,
            garbage: false,
            is_prompt: false,
            sabotage,
        };
        let mut draft = Draft { rng, plan, generation: 1, model: 0 };
        for _ in 0..draft.rng.random_range(2..=7) {
            draft.episode();
        }
        draft.finish()
    }

    /// A plan in which an encoder stops as a pod does, while the name server lists it for 30 s more
    /// and its address answers nobody. The seed decides the load.
    #[must_use]
    pub fn with_a_stale_name(seed: u64) -> Self {
        let plan = Self {
            encoders: 3,
            sessions: 2,
            // A full queue must not make a call wait for a hedge.
            max_queue_ms: 400,
            hedge_seconds: 1.0,
            removal_seconds: 5.0,
            bulk_movies: 300,
            calls: 150,
            calm: Duration::from_secs(42),
            clocks_jump: false,
            garbage: false,
            is_prompt: true,
            ..Self::of(seed, None)
        };
        let mut draft = Draft { rng: StdRng::seed_from_u64(seed), generation: 1, model: 0, plan };
        let (classifier, encoder) = ("classifier".to_owned(), encoder(0));
        let stop = Duration::from_secs(3);
        // Its last calls may end a second after it has stopped to accept new ones.
        let gone = stop + Duration::from_secs(7);
        draft.plan.faults = vec![
            (stop, Fault::Stop(encoder.clone())),
            (gone, Fault::Partition(classifier.clone(), encoder.clone())),
            (gone + Duration::from_secs(30), Fault::Names(vec![1, 2])),
            (draft.plan.calm, Fault::Repair(classifier, encoder)),
        ];
        draft.finish()
    }
}

impl Draft {
    /// Draws the start and end of an episode. It starts while clients make calls and ends before
    /// the faults end.
    fn span(&mut self) -> (Duration, Duration) {
        let (begin, length) = self.begin_and_length();
        (begin, begin + length)
    }

    fn begin_and_length(&mut self) -> (Duration, Duration) {
        let begin = self.rng.random_range(500..8_500);
        let length = self.rng.random_range(50..4_000).min(CALM.as_millis() as u64 - 100 - begin);
        (Duration::from_millis(begin), Duration::from_millis(length))
    }

    fn push(&mut self, at: Duration, fault: Fault) {
        self.plan.faults.push((at, fault));
    }

    fn any_encoder(&mut self) -> usize {
        self.rng.random_range(0..self.plan.encoders)
    }

    /// Draws two hosts that are connected.
    fn link(&mut self) -> (String, String) {
        let encoder = encoder(self.any_encoder());
        match self.rng.random_range(0..6) {
            0 => ("client-0".to_owned(), "classifier".to_owned()),
            1 => ("client-1".to_owned(), "classifier".to_owned()),
            2 => ("reader".to_owned(), encoder),
            3 => ("trainer".to_owned(), encoder),
            _ => ("classifier".to_owned(), encoder),
        }
    }

    fn service(&mut self) -> String {
        match self.rng.random_range(0..5) {
            0 => "classifier".to_owned(),
            1 => "trainer".to_owned(),
            _ => encoder(self.any_encoder()),
        }
    }

    /// Adds a fault and its end.
    fn episode(&mut self) {
        match self.rng.random_range(0..16) {
            0..=4 => self.network(),
            5..=7 => self.restart(),
            8 => {
                let (at, host) = (self.span().0, self.service());
                let ahead = Duration::from_millis(self.rng.random_range(100..6_000));
                self.plan.clocks_jump = true;
                self.push(at, Fault::Jump(host, ahead));
            }
            9 | 10 => self.garbage(),
            11 => {
                let ((begin, end), encoder) = (self.span(), self.any_encoder());
                let times = self.rng.random_range(5..200);
                self.push(begin, Fault::Slow(encoder, times));
                self.push(end, Fault::Slow(encoder, 1));
            }
            12 => {
                let (begin, end) = self.span();
                let all: Vec<_> = (0..self.plan.encoders).collect();
                let some = all.iter().copied().filter(|_| self.rng.random_bool(0.4)).collect();
                self.push(begin, Fault::Names(some));
                self.push(end, Fault::Names(all));
            }
            13 => self.impostor(),
            14 => self.upgrade(),
            _ => self.reloads(),
        }
    }

    fn network(&mut self) {
        let ((begin, end), (a, b)) = (self.span(), self.link());
        let (one, other) = (|| a.clone(), || b.clone());
        let (fault, repair) = match self.rng.random_range(0..5) {
            0 => (Fault::Partition(one(), other()), Fault::Repair(one(), other())),
            1 if self.rng.random_bool(0.5) => (Fault::OneWay(one(), other()), Fault::Repair(one(), other())),
            1 => (Fault::OneWay(other(), one()), Fault::Repair(one(), other())),
            2 => (Fault::Hold(one(), other()), Fault::Release(one(), other())),
            3 => {
                let most = self.rng.random_range(50..1_500);
                (Fault::Latency(one(), other(), most), Fault::Latency(one(), other(), LATENCY_MS))
            }
            _ => {
                let of_a_thousand = self.rng.random_range(1..30);
                (Fault::Loss(one(), other(), of_a_thousand), Fault::Loss(one(), other(), 0))
            }
        };
        self.push(begin, fault);
        self.push(end, repair);
    }

    fn restart(&mut self) {
        let ((begin, end), host) = (self.span(), self.service());
        let drains = host != "trainer" && self.rng.random_bool(0.4);
        self.push(begin, if drains { Fault::Stop(host.clone()) } else { Fault::Crash(host.clone()) });
        self.push(end, Fault::Start(host));
    }

    fn garbage(&mut self) {
        let ((begin, end), encoder) = (self.span(), self.any_encoder());
        let kinds = [
            Garbage::Dimension,
            Garbage::NotANumber,
            Garbage::TooFew,
            Garbage::TooMany,
            Garbage::None,
            Garbage::Fingerprint,
        ];
        let kind = kinds[self.rng.random_range(0..kinds.len())];
        self.plan.garbage = true;
        self.push(begin, Fault::Garbage(encoder, Some(kind)));
        self.push(end, Fault::Garbage(encoder, None));
    }

    /// Restarts an encoder with another bundle for a while.
    fn impostor(&mut self) {
        let ((begin, end), index) = (self.span(), self.any_encoder());
        for (at, generation) in [(begin, 90), (end, self.generation)] {
            self.push(at, Fault::Crash(encoder(index)));
            self.push(at, Fault::Generation(index, generation));
            self.push(at, Fault::Start(encoder(index)));
        }
    }

    /// Upgrades the bundles of all encoders one by one, and the model at a random time in between.
    fn upgrade(&mut self) {
        let (begin, length) = self.begin_and_length();
        self.generation += 1;
        self.model += 1;
        let step = length / self.plan.encoders as u32;
        for index in 0..self.plan.encoders {
            let at = begin + step * index as u32;
            self.push(at, Fault::Crash(encoder(index)));
            self.push(at, Fault::Generation(index, self.generation));
            self.push(at, Fault::Start(encoder(index)));
        }
        let at = begin + length.mul_f64(self.rng.random_range(0.0..1.0));
        self.push(at, Fault::Model(self.generation, self.model));
    }

    /// Writes several models for the same encoders, some of them broken.
    fn reloads(&mut self) {
        let (begin, length) = self.begin_and_length();
        let count = self.rng.random_range(1..=5_u32);
        for step in 0..count {
            let at = begin + length / count * step;
            if self.rng.random_bool(0.3) {
                self.push(at, Fault::BrokenModel);
            } else {
                self.model += 1;
                self.push(at, Fault::Model(self.generation, self.model));
            }
        }
    }

    /// Sorts the faults, and then ends all of them at once.
    fn finish(mut self) -> Plan {
        self.plan.faults.sort_by_key(|(at, _)| *at);
        let hosts = (0..self.plan.encoders).map(encoder);
        let services: Vec<_> = hosts.chain(["classifier".to_owned(), "trainer".to_owned()]).collect();
        let calm = self.plan.calm;
        self.model += 1;
        self.plan.last = (self.generation, self.model);
        self.push(calm, Fault::Names((0..self.plan.encoders).collect()));
        for index in 0..self.plan.encoders {
            self.push(calm, Fault::Garbage(index, None));
            self.push(calm, Fault::Slow(index, 1));
            self.push(calm, Fault::Generation(index, self.generation));
        }
        for (index, a) in services.iter().enumerate() {
            let clients = ["client-0", "client-1", "reader"].map(str::to_owned);
            for b in services[index + 1..].iter().cloned().chain(clients) {
                self.push(calm, Fault::Release(a.clone(), b.clone()));
                self.push(calm, Fault::Loss(a.clone(), b.clone(), 0));
                self.push(calm, Fault::Latency(a.clone(), b, LATENCY_MS));
            }
        }
        self.push(calm, Fault::Model(self.generation, self.model));
        for host in services {
            self.push(calm, Fault::Start(host));
        }
        self.plan
    }
}

/// The largest latency of a sound link, in milliseconds.
pub const LATENCY_MS: u64 = 6;
