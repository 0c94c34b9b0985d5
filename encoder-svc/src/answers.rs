//! Answers to bulk texts, handed over several at once.
//!
//! An answer wakes a thread that serves calls, and the caller, which both take the core from a worker: each finds the
//! caches of another. Nobody waits for a single bulk text, so while there is enough to run for all workers, a worker keeps
//! its answers back until there are [`TOGETHER`] of them. An online text's answer is never kept back.

use std::time::Duration;

use service_kit::ApiError;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::queue::{Encoded, Entry};

/// So many answers are handed over at once, and an answer is kept back for so many runs at most.
pub(crate) const TOGETHER: usize = 4;
/// An answer is kept back only where its caller has more time left than this; a few runs take some tens of milliseconds.
const TIME_TO_SPARE: Duration = Duration::from_secs(1);

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
        Self { runtime, enough: TOGETHER * workers, kept: Vec::with_capacity(TOGETHER), runs: 0, urgent: false }
    }

    /// Keeps an answer until [`hand_over`](Self::hand_over).
    pub(crate) fn keep(&mut self, entry: Entry, result: Result<Encoded, ApiError>) {
        self.urgent |= entry.deadline.remaining().is_some_and(|left| left < TIME_TO_SPARE);
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

    fn encoded() -> Result<Encoded, ApiError> {
        Ok(Encoded { vector: vec![1.0], token_count: 3, truncated: false })
    }

    /// A worker of two, and the callers whose answers it keeps.
    fn kept(count: usize, deadline: Deadline) -> (Answers, Vec<Reply>) {
        let mut answers = Answers::new(Handle::current(), 2);
        let callers = (0..count).map(|_| {
            let (entry, reply) = Entry::new("a text".to_owned(), deadline);
            answers.keep(entry, encoded());
            reply
        });
        let callers = callers.collect();
        (answers, callers)
    }

    /// How many have their answer.
    async fn answered(callers: &mut [Reply]) -> usize {
        tokio::task::yield_now().await;
        callers.iter_mut().filter(|reply| reply.try_recv().is_ok()).count()
    }

    #[tokio::test(start_paused = true)]
    async fn answers_wait_for_each_other_while_there_is_enough_to_run() {
        let (mut answers, mut callers) = kept(3, Deadline::NONE);
        answers.before_run(|| 8);
        assert_eq!(answered(&mut callers).await, 0);
        let (entry, reply) = Entry::new("the fourth".to_owned(), Deadline::NONE);
        answers.keep(entry, encoded());
        callers.push(reply);
        answers.before_run(|| 8);
        assert_eq!(answered(&mut callers).await, 4);
    }

    #[tokio::test(start_paused = true)]
    async fn no_worker_is_left_without_a_text_for_answers_that_are_kept_back() {
        let (mut answers, mut callers) = kept(1, Deadline::NONE);
        answers.before_run(|| 7);
        assert_eq!(answered(&mut callers).await, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_kept_back_for_a_few_runs_at_most() {
        let (mut answers, mut callers) = kept(1, Deadline::NONE);
        for _ in 1..TOGETHER {
            answers.before_run(|| 100);
            assert_eq!(answered(&mut callers).await, 0);
        }
        answers.before_run(|| 100);
        assert_eq!(answered(&mut callers).await, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_with_little_time_left_is_answered_at_once_and_those_before_it_too() {
        let (mut answers, mut callers) = kept(1, Deadline::after(Duration::from_secs(2)));
        let (entry, reply) = Entry::new("in a hurry".to_owned(), Deadline::after(Duration::from_millis(500)));
        answers.keep(entry, encoded());
        callers.push(reply);
        answers.before_run(|| 100);
        assert_eq!(answered(&mut callers).await, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_ends_keeps_nothing() {
        let (answers, mut callers) = kept(2, Deadline::NONE);
        drop(answers);
        assert_eq!(answered(&mut callers).await, 2);
    }
}
