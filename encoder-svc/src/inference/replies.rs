//! Replies that are sent in groups when the caller cannot tell the difference.
//!
//! Sending a reply wakes a thread that serves calls, which takes the core from a worker and evicts
//! its caches. A bulk client does not wait for single texts, and an online text that has already
//! waited for [`LONG_WAIT`] is not hurt by a few milliseconds more. So while enough entries wait
//! for all workers, a worker holds such replies back until it has [`GROUP`] of them.

use std::time::Duration;

use service_kit::ApiError;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::scheduler::cost::CostModel;
use crate::scheduler::entry::{Class, Entry, Reply};

/// The number of replies in a group, and the maximum number of runs for which a reply is held back.
const GROUP: usize = 4;
/// After this wait, a few milliseconds more do not hurt an online text: it was queued behind many
/// others.
const LONG_WAIT: Duration = Duration::from_millis(200);

/// The longest time that a reply is held back. If the caller has less time left, the reply is sent
/// before the next run.
pub(crate) fn max_delay(costs: &CostModel) -> Duration {
    let micros = costs.micros(costs.max_units() as f64) * GROUP as f64;
    Duration::from_micros(micros as u64)
}

/// A reply and where it goes.
type Held = (oneshot::Sender<Result<Reply, ApiError>>, Result<Reply, ApiError>);

/// The replies that one worker holds back. Dropping it sends them.
pub(crate) struct GroupedReplies {
    /// The runtime that serves calls.
    runtime: Handle,
    /// Replies are held back only while at least this many entries wait. A caller sends no new text
    /// until it has its reply, and workers must not run out of entries meanwhile.
    enough: usize,
    held: Vec<Held>,
    runs: usize,
    urgent: bool,
}

impl GroupedReplies {
    /// Creates the group of one worker among `workers`. Held replies are sent from `runtime`.
    pub(crate) fn new(runtime: Handle, workers: usize) -> Self {
        Self { runtime, enough: GROUP * workers, held: Vec::with_capacity(GROUP), runs: 0, urgent: false }
    }

    /// Sends a reply at once, or holds it back for at most `max_delay`.
    pub(crate) fn send(
        &mut self,
        entry: Entry,
        class: Class,
        result: Result<Reply, ApiError>,
        max_delay: Duration,
    ) {
        if class == Class::Online && entry.since.elapsed() < LONG_WAIT {
            // This fails if the caller has left, which needs no handling.
            let _ = entry.reply.send(result);
            return;
        }
        self.urgent |= entry.deadline.remaining().is_some_and(|left| left < max_delay);
        self.held.push((entry.reply, result));
    }

    /// Called before a run while entries wait. Sends the group if it must not be held back during
    /// the run.
    pub(crate) fn before_run(&mut self, waiting: impl FnOnce() -> usize) {
        if self.held.is_empty() {
            return;
        }
        self.runs += 1;
        if self.urgent || self.held.len() >= GROUP || self.runs >= GROUP || waiting() < self.enough {
            self.flush();
        }
    }

    /// Sends all replies that are held back. A task of the runtime sends them. If the worker did,
    /// the first reply would wake a thread that takes its core before it could send the second.
    pub(crate) fn flush(&mut self) {
        self.runs = 0;
        self.urgent = false;
        if self.held.is_empty() {
            return;
        }
        let held = std::mem::replace(&mut self.held, Vec::with_capacity(GROUP));
        self.runtime.spawn(async move {
            for (reply, result) in held {
                let _ = reply.send(result);
            }
        });
    }
}

impl Drop for GroupedReplies {
    fn drop(&mut self) {
        self.flush();
    }
}

#[cfg(test)]
mod tests {
    use service_kit::{CallerId, Deadline};

    use super::*;
    use crate::scheduler::entry::Share;

    const SHARE: Share = Share { caller: CallerId::UNKNOWN, units: 1 };

    type Receiver = oneshot::Receiver<Result<Reply, ApiError>>;

    fn reply() -> Reply {
        Reply { vector: vec![1.0], token_count: 3, truncated: false }
    }

    const MAX_DELAY: Duration = Duration::from_millis(50);

    /// The replies of one of two workers.
    fn replies() -> GroupedReplies {
        GroupedReplies::new(Handle::current(), 2)
    }

    /// Sends `count` replies, and returns their receivers.
    fn send(replies: &mut GroupedReplies, class: Class, deadline: Deadline, count: usize) -> Vec<Receiver> {
        let receivers = (0..count).map(|_| {
            let (entry, receiver) = Entry::new("a text".to_owned(), SHARE, deadline);
            replies.send(entry, class, Ok(reply()), MAX_DELAY);
            receiver
        });
        receivers.collect()
    }

    /// The number of receivers that have their reply.
    async fn replied(receivers: &mut [Receiver]) -> usize {
        tokio::task::yield_now().await;
        receivers
            .iter_mut()
            .map(|receiver| receiver.try_recv().is_ok())
            .filter(|has_reply| *has_reply)
            .count()
    }

    #[tokio::test(start_paused = true)]
    async fn holds_replies_back_while_enough_entries_wait() {
        let mut replies = replies();
        let mut receivers = send(&mut replies, Class::Bulk, Deadline::NONE, 3);
        replies.before_run(|| 8);
        assert_eq!(replied(&mut receivers).await, 0);
        receivers.extend(send(&mut replies, Class::Bulk, Deadline::NONE, 1));
        replies.before_run(|| 8);
        assert_eq!(replied(&mut receivers).await, 4);
    }

    #[tokio::test(start_paused = true)]
    async fn sends_replies_before_workers_run_out_of_entries() {
        let mut replies = replies();
        let mut receivers = send(&mut replies, Class::Bulk, Deadline::NONE, 1);
        replies.before_run(|| 7);
        assert_eq!(replied(&mut receivers).await, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn holds_a_reply_back_for_a_few_runs_at_most() {
        let mut replies = replies();
        let mut receivers = send(&mut replies, Class::Bulk, Deadline::NONE, 1);
        for _ in 1..GROUP {
            replies.before_run(|| 100);
            assert_eq!(replied(&mut receivers).await, 0);
        }
        replies.before_run(|| 100);
        assert_eq!(replied(&mut receivers).await, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn sends_the_group_before_the_next_run_if_one_deadline_is_near() {
        let mut replies = replies();
        let mut receivers = send(&mut replies, Class::Bulk, Deadline::after(MAX_DELAY * 2), 1);
        replies.before_run(|| 100);
        assert_eq!(replied(&mut receivers).await, 0);
        receivers.extend(send(&mut replies, Class::Bulk, Deadline::after(MAX_DELAY / 2), 1));
        replies.before_run(|| 100);
        assert_eq!(replied(&mut receivers).await, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn sends_an_online_reply_at_once_unless_the_text_has_waited_long() {
        let mut replies = replies();
        let mut receivers = send(&mut replies, Class::Online, Deadline::NONE, 1);
        assert_eq!(replied(&mut receivers).await, 1);
        let (mut entry, receiver) = Entry::new("a text".to_owned(), SHARE, Deadline::NONE);
        entry.since -= LONG_WAIT;
        replies.send(entry, Class::Online, Ok(reply()), MAX_DELAY);
        receivers.push(receiver);
        replies.before_run(|| 100);
        assert_eq!(replied(&mut receivers).await, 0);
        replies.flush();
        assert_eq!(replied(&mut receivers).await, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn sends_held_replies_when_the_worker_ends() {
        let mut replies = replies();
        let mut receivers = send(&mut replies, Class::Bulk, Deadline::NONE, 2);
        drop(replies);
        assert_eq!(replied(&mut receivers).await, 2);
    }
}
