//! The state that the hosts of a run share with the director that injects the faults.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use service_kit::{Metrics, Shutdown};
use tokio::sync::Notify;

use crate::ledger::{Ledger, now};
use crate::network::SimulatedNetwork;
use crate::plan::{self, Garbage, Plan};
use crate::task_queue::TaskQueue;
use crate::truth::Models;

/// The shared state. Hosts exchange data only over the network.
pub struct World {
    /// The plan of the seed.
    pub plan: Plan,
    /// The record of the run.
    pub ledger: Ledger,
    /// The network between the hosts.
    pub network: SimulatedNetwork,
    /// All models that were written.
    pub models: Mutex<Models>,
    /// The folder of the run's files.
    pub folder: PathBuf,
    /// The encoder hosts.
    pub encoders: Vec<EncoderState>,
    /// The process of the classifier.
    pub classifier: Life,
    /// The process of the trainer.
    pub trainer: Life,
    /// Whether the bulk job has finished.
    pub bulk_is_done: AtomicBool,
}

/// The process of a host, seen from outside.
#[derive(Default)]
pub struct Life {
    shutdown: Mutex<Shutdown>,
    ahead: Mutex<Duration>,
    jump: Notify,
    metrics: Mutex<Option<Metrics>>,
    tasks: Mutex<Option<tokio::runtime::Handle>>,
}

/// An encoder host.
pub struct EncoderState {
    /// The process.
    pub life: Life,
    /// The bundle of the next start.
    pub generation: AtomicU32,
    /// The current bundle.
    pub running: AtomicU32,
    /// The factor on the time of each run.
    pub slow: AtomicU32,
    garbage: Mutex<Option<Garbage>>,
    queue: Mutex<Weak<TaskQueue>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Life {
    /// Registers a new process; returns its shutdown signal. Its clock can jump from now on.
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

    /// Whether the process was asked to stop.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        lock(&self.shutdown).is_cancelled()
    }

    /// Moves the clock of the host forward.
    pub fn jump(&self, ahead: Duration) {
        *lock(&self.ahead) += ahead;
        self.jump.notify_one();
    }

    /// The metrics of the process, as text.
    #[must_use]
    pub fn metrics(&self) -> Option<String> {
        lock(&self.metrics).as_ref().map(Metrics::render)
    }

    /// The number of tasks of the process.
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
    /// The garbage that the encoder returns, if any.
    #[must_use]
    pub fn garbage(&self) -> Option<Garbage> {
        *lock(&self.garbage)
    }

    /// Starts or ends garbage.
    pub fn set_garbage(&self, garbage: Option<Garbage>) {
        *lock(&self.garbage) = garbage;
    }

    /// Registers the queue of a new process.
    pub fn set_queue(&self, queue: Weak<TaskQueue>, generation: u32) {
        *lock(&self.queue) = queue;
        self.running.store(generation, Ordering::Relaxed);
    }

    /// The number of entries in the queue.
    #[must_use]
    pub fn waiting(&self) -> usize {
        lock(&self.queue).upgrade().map_or(0, |queue| queue.waiting())
    }
}

impl World {
    /// The hosts that serve calls.
    pub fn servers(&self) -> impl Iterator<Item = String> {
        (0..self.plan.encoders).map(plan::encoder).chain(["classifier".to_owned()])
    }

    /// The process of a host.
    #[must_use]
    pub fn life(&self, host: &str) -> &Life {
        match host {
            "classifier" => &self.classifier,
            "trainer" => &self.trainer,
            _ => &self.encoders[host.trim_start_matches("encoder-").parse().unwrap_or(0)].life,
        }
    }

    /// The model file of the classifier.
    #[must_use]
    pub fn model_file(&self) -> PathBuf {
        self.folder.join("model.safetensors")
    }

    /// All models written so far.
    pub fn models(&self) -> MutexGuard<'_, Models> {
        lock(&self.models)
    }

    /// Records an event.
    pub fn event(&self, what: &str) {
        self.ledger.event(now(), what);
    }

    /// Records a broken promise.
    pub fn violation(&self, what: &str) {
        self.ledger.violation(now(), what);
    }
}
