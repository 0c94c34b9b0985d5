//! What the hosts of a run share with whoever breaks them.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use service_kit::{Metrics, Shutdown};
use tokio::sync::Notify;

use crate::encoder_workers::TaskQueue;
use crate::ledger::{Ledger, now};
use crate::network::SimulatedNetwork;
use crate::plan::{self, Garbage, Plan};
use crate::truth::Models;

/// Everything that hosts share. Nothing of it passes between them but over the network.
pub struct World {
    /// What the seed decided.
    pub plan: Plan,
    /// What happened.
    pub ledger: Ledger,
    /// Names and connections.
    pub network: SimulatedNetwork,
    /// Models that were written.
    pub models: Mutex<Models>,
    /// Files of the run.
    pub folder: PathBuf,
    /// One for each encoder host.
    pub encoders: Vec<EncoderState>,
    /// The classifier's.
    pub classifier: Life,
    /// The trainer's.
    pub trainer: Life,
    /// Whether the bulk job has come to its end.
    pub bulk_is_done: AtomicBool,
}

/// One host's process, seen from outside.
#[derive(Default)]
pub struct Life {
    shutdown: Mutex<Shutdown>,
    ahead: Mutex<Duration>,
    jump: Notify,
    metrics: Mutex<Option<Metrics>>,
    tasks: Mutex<Option<tokio::runtime::Handle>>,
}

/// One encoder host.
pub struct EncoderState {
    /// Its process.
    pub life: Life,
    /// The bundle at its next start.
    pub generation: AtomicU32,
    /// Its bundle now.
    pub running: AtomicU32,
    /// So many times as slow.
    pub slow: AtomicU32,
    garbage: Mutex<Option<Garbage>>,
    queue: Mutex<Weak<TaskQueue>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Life {
    /// A process begins: what will tell it to stop. Its clock can be put ahead from now on.
    pub fn begin(
        world: &Arc<World>,
        of: impl Fn(&World) -> &Self + Send + 'static,
        metrics: &Metrics,
    ) -> Shutdown {
        let shutdown = Shutdown::new();
        let life = of(world);
        *lock(&life.shutdown) = shutdown.clone();
        *lock(&life.metrics) = Some(metrics.clone());
        *lock(&life.tasks) = Some(tokio::runtime::Handle::current());
        let world = world.clone();
        tokio::spawn(async move {
            loop {
                of(&world).jump.notified().await;
                let ahead = std::mem::take(&mut *lock(&of(&world).ahead));
                tokio::time::advance(ahead).await;
            }
        });
        shutdown
    }

    /// Asks the process to stop.
    pub fn stop(&self) {
        lock(&self.shutdown).cancel();
    }

    /// Whether it was asked to.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        lock(&self.shutdown).is_cancelled()
    }

    /// Puts the host's clock ahead.
    pub fn jump(&self, ahead: Duration) {
        *lock(&self.ahead) += ahead;
        self.jump.notify_one();
    }

    /// The metrics of the running process, as text.
    #[must_use]
    pub fn metrics(&self) -> Option<String> {
        lock(&self.metrics).as_ref().map(Metrics::render)
    }

    /// Tasks that the process has.
    #[must_use]
    pub fn tasks(&self) -> usize {
        lock(&self.tasks).as_ref().map_or(0, |runtime| runtime.metrics().num_alive_tasks())
    }
}

impl Default for EncoderState {
    fn default() -> Self {
        Self {
            life: Life::default(),
            generation: AtomicU32::new(1),
            running: AtomicU32::new(0),
            slow: AtomicU32::new(1),
            garbage: Mutex::default(),
            queue: Mutex::default(),
        }
    }
}

impl EncoderState {
    /// What it answers in the place of vectors, if anything.
    #[must_use]
    pub fn garbage(&self) -> Option<Garbage> {
        *lock(&self.garbage)
    }

    /// Begins or ends garbage.
    pub fn set_garbage(&self, garbage: Option<Garbage>) {
        *lock(&self.garbage) = garbage;
    }

    /// A process begins with an encoder of this queue.
    pub fn set_queue(&self, queue: Weak<TaskQueue>, generation: u32) {
        *lock(&self.queue) = queue;
        self.running.store(generation, Ordering::Relaxed);
    }

    /// Texts that wait there.
    #[must_use]
    pub fn waiting(&self) -> usize {
        lock(&self.queue).upgrade().map_or(0, |queue| queue.waiting())
    }
}

impl World {
    /// Hosts that serve calls.
    pub fn servers(&self) -> impl Iterator<Item = String> {
        (0..self.plan.encoders).map(plan::encoder).chain(["classifier".to_owned()])
    }

    /// The process of that host.
    #[must_use]
    pub fn life(&self, host: &str) -> &Life {
        match host {
            "classifier" => &self.classifier,
            "trainer" => &self.trainer,
            _ => &self.encoders[host.trim_start_matches("encoder-").parse().unwrap_or(0)].life,
        }
    }

    /// The file that the classifier follows.
    #[must_use]
    pub fn model_file(&self) -> PathBuf {
        self.folder.join("model.safetensors")
    }

    /// The models that were written so far.
    pub fn models(&self) -> MutexGuard<'_, Models> {
        lock(&self.models)
    }

    /// Something happened, now.
    pub fn event(&self, what: &str) {
        self.ledger.event(now(), what);
    }

    /// A promise was broken, now.
    pub fn violation(&self, what: &str) {
        self.ledger.violation(now(), what);
    }
}
