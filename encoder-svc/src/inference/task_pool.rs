//! Workers that are tasks of the runtime in the place of threads: for a model whose texts take the runtime's time and not
//! this processor's, as in the simulation. What is before and after a run is the same.

use std::sync::Arc;

use tokio::time::Instant;

use crate::metrics::StageMetrics;
use crate::scheduler::admission::Admission;
use crate::scheduler::queue::{Class, Encoded, Entry, Queue, Worker};

/// What makes a vector of a text.
pub trait Model: Send + Sync + 'static {
    /// The text's vector, after the time that it takes such a worker.
    fn run(&self, text: &str, worker: Worker) -> impl Future<Output = Result<Encoded, String>> + Send;
}

/// The workers; dropping it ends them, each after the text it is at.
pub(crate) struct TaskPool {
    queue: Arc<Queue>,
}

impl TaskPool {
    /// Starts as many workers as there are cores, and the one of lone texts.
    pub(crate) fn start(
        model: impl Model,
        cores: usize,
        queue: &Arc<Queue>,
        admission: &Arc<Admission>,
        stages: &StageMetrics,
    ) -> Self {
        let model = Arc::new(model);
        for kind in std::iter::repeat_n(Worker::Core, cores).chain([Worker::Lone]) {
            let worker = TaskWorker {
                kind,
                model: model.clone(),
                admission: admission.clone(),
                stages: stages.clone(),
            };
            let queue = queue.clone();
            tokio::spawn(async move { worker.work(&queue).await });
        }
        Self { queue: queue.clone() }
    }
}

impl Drop for TaskPool {
    fn drop(&mut self) {
        self.queue.close();
    }
}

struct TaskWorker<M> {
    kind: Worker,
    model: Arc<M>,
    admission: Arc<Admission>,
    stages: StageMetrics,
}

impl<M: Model> TaskWorker<M> {
    async fn work(&self, queue: &Queue) {
        while let Some((entry, class)) = queue.next(self.kind).await {
            self.answer(entry, class).await;
            queue.done(class, 1);
        }
    }

    async fn answer(&self, entry: Entry, class: Class) {
        if entry.waited(class, &self.stages).is_none() {
            return;
        }
        let result = match entry.in_time(&self.stages) {
            Ok(()) => self.encode(&entry.text).await.map_err(|reason| entry.failed(&reason)),
            Err(error) => Err(error),
        };
        // The caller may have left meanwhile.
        let _ = entry.reply.send(result);
    }

    async fn encode(&self, text: &str) -> Result<Encoded, String> {
        let begin = Instant::now();
        let encoded = self.model.run(text, self.kind).await?;
        let took = begin.elapsed();
        self.stages.ran(self.kind, 1, took);
        if self.kind == Worker::Core {
            self.admission.costs().learn(&[text.len()], took);
        }
        Ok(encoded)
    }
}
