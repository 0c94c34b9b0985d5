//! What a seed stands for: hosts, load, and what is broken when.

use std::time::Duration;

use rand_of_seed::rngs::StdRng;
use rand_of_seed::{RngExt as _, SeedableRng as _};

use crate::sabotage::Sabotage;

/// What an encoder that is out of order answers, in the place of right vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Garbage {
    /// Vectors one float short.
    Dimension,
    /// Not-a-number in a vector.
    NotANumber,
    /// One vector fewer than texts.
    TooFew,
    /// One more.
    TooMany,
    /// No vectors at all.
    None,
    /// Right vectors under the fingerprint of another encoder.
    Fingerprint,
}

/// One thing that is done to the world.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// Nothing passes between two hosts, and what is on its way is lost.
    Partition(String, String),
    /// Nothing passes from the first to the second.
    OneWay(String, String),
    /// Either of both ends.
    Repair(String, String),
    /// What is sent waits.
    Hold(String, String),
    /// And goes on.
    Release(String, String),
    /// Milliseconds that everything takes at most.
    Latency(String, String, u64),
    /// Of so many thousand messages one breaks the connection it belongs to, without a word; 0 for none.
    Loss(String, String, u32),
    /// The process is killed.
    Crash(String),
    /// It is asked to stop, and drains.
    Stop(String),
    /// It is started again, with what it has for its next start.
    Start(String),
    /// Its clock goes so far ahead at once, as after a pause of the whole machine.
    Jump(String, Duration),
    /// An encoder's answers from now on.
    Garbage(usize, Option<Garbage>),
    /// An encoder takes so many times as long.
    Slow(usize, u32),
    /// Which bundle an encoder has at its next start.
    Generation(usize, u32),
    /// Which encoders the name server knows; none: it does not answer.
    Names(Vec<usize>),
    /// Another model file: of the generation, by number.
    Model(u32, u64),
    /// A model file that is none.
    BrokenModel,
}

/// All that a seed decides.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// Encoder hosts.
    pub encoders: usize,
    /// Texts that each runs at a time.
    pub sessions: usize,
    /// Mebibytes of an encoder's cache.
    pub cache_mib: usize,
    /// How long an online text may wait.
    pub max_queue_ms: usize,
    /// Seconds until a second encoder is asked; 0 for never.
    pub hedge_seconds: f64,
    /// Movies of the bulk job.
    pub bulk_movies: u64,
    /// Calls of each caller while things break.
    pub calls: u32,
    /// In order of time.
    pub faults: Vec<(Duration, Fault)>,
    /// From here on nothing is broken any more.
    pub calm: Duration,
    /// The encoders' generation and the model's number in the end.
    pub last: (u32, u64),
    /// Whether any clock jumps.
    pub clocks_jump: bool,
    /// Whether any encoder answers garbage.
    pub garbage: bool,
    /// What the run is to be caught at.
    pub sabotage: Option<Sabotage>,
}

/// When the faults end.
const CALM: Duration = Duration::from_secs(10);
/// What a network needs to be well again: dead connections are found by their keepalive (13 s), and probes come then (2.5 s).
pub const RECOVERY: Duration = Duration::from_secs(17);
/// What everything has to be done by, after the faults.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// An encoder's host.
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
            bulk_movies: rng.random_range(300..1_200),
            calls: rng.random_range(20..60),
            faults: Vec::new(),
            calm: CALM,
            last: (1, 0),
            clocks_jump: false,
            garbage: false,
            sabotage,
        };
        let mut draft = Draft { rng, plan, generation: 1, model: 0 };
        for _ in 0..draft.rng.random_range(2..=7) {
            draft.episode();
        }
        draft.finish()
    }
}

impl Draft {
    /// A time from the first calls on, and one that is later, both before the end of the faults.
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

    /// Two hosts that talk to each other.
    fn link(&mut self) -> (String, String) {
        let encoder = encoder(self.any_encoder());
        match self.rng.random_range(0..6) {
            0 => ("caller-0".to_owned(), "classifier".to_owned()),
            1 => ("caller-1".to_owned(), "classifier".to_owned()),
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

    /// Something breaks and is mended.
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
        let (breaks, mends) = match self.rng.random_range(0..5) {
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
        self.push(begin, breaks);
        self.push(end, mends);
    }

    fn restart(&mut self) {
        let ((begin, end), host) = (self.span(), self.service());
        let gently = host != "trainer" && self.rng.random_bool(0.4);
        self.push(begin, if gently { Fault::Stop(host.clone()) } else { Fault::Crash(host.clone()) });
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

    /// An encoder comes back with another bundle for a while.
    fn impostor(&mut self) {
        let ((begin, end), index) = (self.span(), self.any_encoder());
        for (at, generation) in [(begin, 90), (end, self.generation)] {
            self.push(at, Fault::Crash(encoder(index)));
            self.push(at, Fault::Generation(index, generation));
            self.push(at, Fault::Start(encoder(index)));
        }
    }

    /// All encoders get another bundle, one after the other, and the classifier the model for it, before or after.
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

    /// Several models for the same encoders, and now and then a file that is no model.
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

    /// Whatever is still broken is mended, and what overlapped is put in order.
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
            let callers = ["caller-0", "caller-1", "reader"].map(str::to_owned);
            for b in services[index + 1..].iter().cloned().chain(callers) {
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

/// The longest that a message takes on a sound link.
pub const LATENCY_MS: u64 = 6;
