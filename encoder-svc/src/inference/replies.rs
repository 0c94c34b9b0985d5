//! Answers handed over several at once.
//!
//! An answer wakes a thread that serves calls, and the caller, which both take the core from a worker: each finds the
//! caches of another. Nobody waits for a single bulk text, nor notices some milliseconds after [`LONG_WAIT`]. So while there
//! is enough to run for all workers, a worker keeps such answers back until there are [`TOGETHER`] of them. Measured on two
//! cores: 0.96 of ONNX Runtime alone through 32 callers in the place of 0.93, and 0.996 in the place of 0.966 through a stream.

use std::time::Duration;

use service_kit::ApiError;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::scheduler::cost::CostModel;
use crate::scheduler::queue::{Class, Encoded, Entry};

/// So many answers are handed over at once, and an answer is kept back for so many runs at most.
const TOGETHER: usize = 4;
/// An online text that has been here so long has waited in a queue, with many others.
const LONG_WAIT: Duration = Duration::from_millis(200);

/// How long an answer is kept back at most: an answer is where its caller has more time left.
pub(crate) fn longest_keep(costs: &CostModel) -> Duration {
    let micros = costs.micros(costs.dearest_units() as f64) * TOGETHER as f64;
    Duration::from_micros(micros as u64)
}

/// A vector or an error, and where it goes.
type Answer = (oneshot::Sender<Result<Encoded, ApiError>>, Result<Encoded, ApiError>);

/// What a worker has not handed over yet; dropping it hands it over.
pub(crate) struct Answers {
    /// Where calls are served.
    runtime: Handle,
    /// Texts that must wait for a worker, for answers to be kept back: whoever gets none asks for nothing new, and meanwhile no
    /// worker may be left without a text.
    enough: usize,
    kept: Vec<Answer>,
    runs: usize,
    urgent: bool,
}

impl Answers {
    /// Of one of so many workers, for calls that are served on `runtime`.
    pub(crate) fn new(runtime: Handle, workers: usize) -> Self {
        Self {
            runtime,
            enough: TOGETHER * workers,
            kept: Vec::with_capacity(TOGETHER),
            runs: 0,
            urgent: false,
        }
    }

    /// Hands over an answer at once, or keeps it, for `longest` at most, until [`hand_over`](Self::hand_over).
    pub(crate) fn give(
        &mut self,
        entry: Entry,
        class: Class,
        result: Result<Encoded, ApiError>,
        longest: Duration,
    ) {
        if class == Class::Online && entry.since.elapsed() < LONG_WAIT {
            // The caller may have left meanwhile.
            let _ = entry.reply.send(result);
            return;
        }
        self.urgent |= entry.deadline.remaining().is_some_and(|left| left < longest);
        self.kept.push((entry.reply, result));
    }

    /// Before a run, while so many texts wait: hands over what cannot be kept back any longer.
    pub(crate) fn before_run(&mut self, waiting: impl FnOnce() -> usize) {
        if self.kept.is_empty() {
            return;
        }
        self.runs += 1;
        if self.urgent || self.kept.len() >= TOGETHER || self.runs >= TOGETHER || waiting() < self.enough {
            self.hand_over();
        }
    }

    /// Hands over all that is kept, by one task of the runtime: sent from here, the first would wake it, and it would take
    /// the core before the second.
    pub(crate) fn hand_over(&mut self) {
        self.runs = 0;
        self.urgent = false;
        if self.kept.is_empty() {
            return;
        }
        let answers = std::mem::replace(&mut self.kept, Vec::with_capacity(TOGETHER));
        self.runtime.spawn(async move {
            for (reply, result) in answers {
                // The caller may have left meanwhile.
                let _ = reply.send(result);
            }
        });
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        self.hand_over();
    }
}

#[cfg(test)]
mod tests {
    use service_kit::Deadline;

    use super::*;

    type Reply = oneshot::Receiver<Result<Encoded, ApiError>>;

    fn encoded() -> Encoded {
        Encoded { vector: vec![1.0], token_count: 3, truncated: false }
    }

    const LONGEST: Duration = Duration::from_millis(50);

    /// A worker of two.
    fn worker() -> Answers {
        Answers::new(Handle::current(), 2)
    }

    /// Callers of so many texts of which the worker has made vectors.
    fn given(answers: &mut Answers, class: Class, deadline: Deadline, count: usize) -> Vec<Reply> {
        let callers = (0..count).map(|_| {
            let (entry, reply) = Entry::new("a text".to_owned(), deadline);
            answers.give(entry, class, Ok(encoded()), LONGEST);
            reply
        });
        callers.collect()
    }

    /// How many have their answer.
    async fn answered(callers: &mut [Reply]) -> usize {
        tokio::task::yield_now().await;
        callers.iter_mut().map(|reply| reply.try_recv().is_ok()).filter(|is_answered| *is_answered).count()
    }

    #[tokio::test(start_paused = true)]
    async fn answers_wait_for_each_other_while_there_is_enough_to_run() {
        let mut answers = worker();
        let mut callers = given(&mut answers, Class::Bulk, Deadline::NONE, 3);
        answers.before_run(|| 8);
        assert_eq!(answered(&mut callers).await, 0);
        callers.extend(given(&mut answers, Class::Bulk, Deadline::NONE, 1));
        answers.before_run(|| 8);
        assert_eq!(answered(&mut callers).await, 4);
    }

    #[tokio::test(start_paused = true)]
    async fn no_worker_is_left_without_a_text_for_answers_that_are_kept_back() {
        let mut answers = worker();
        let mut callers = given(&mut answers, Class::Bulk, Deadline::NONE, 1);
        answers.before_run(|| 7);
        assert_eq!(answered(&mut callers).await, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_kept_back_for_a_few_runs_at_most() {
        let mut answers = worker();
        let mut callers = given(&mut answers, Class::Bulk, Deadline::NONE, 1);
        for _ in 1..TOGETHER {
            answers.before_run(|| 100);
            assert_eq!(answered(&mut callers).await, 0);
        }
        answers.before_run(|| 100);
        assert_eq!(answered(&mut callers).await, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_with_little_time_left_is_answered_before_the_next_run_and_those_before_it_too() {
        let mut answers = worker();
        let mut callers = given(&mut answers, Class::Bulk, Deadline::after(LONGEST * 2), 1);
        answers.before_run(|| 100);
        assert_eq!(answered(&mut callers).await, 0);
        callers.extend(given(&mut answers, Class::Bulk, Deadline::after(LONGEST / 2), 1));
        answers.before_run(|| 100);
        assert_eq!(answered(&mut callers).await, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn an_online_text_is_answered_at_once_unless_it_has_waited_for_long() {
        let mut answers = worker();
        let mut callers = given(&mut answers, Class::Online, Deadline::NONE, 1);
        assert_eq!(answered(&mut callers).await, 1);
        let (mut entry, reply) = Entry::new("a text".to_owned(), Deadline::NONE);
        entry.since -= LONG_WAIT;
        answers.give(entry, Class::Online, Ok(encoded()), LONGEST);
        callers.push(reply);
        answers.before_run(|| 100);
        assert_eq!(answered(&mut callers).await, 0);
        answers.hand_over();
        assert_eq!(answered(&mut callers).await, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_ends_keeps_nothing() {
        let mut answers = worker();
        let mut callers = given(&mut answers, Class::Bulk, Deadline::NONE, 2);
        drop(answers);
        assert_eq!(answered(&mut callers).await, 2);
    }
}
