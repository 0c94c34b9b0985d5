//! All replicas of an encoder, and the choice of one for an attempt.
//!
//! `tower::balance` picks one of two random services and cannot exclude those that a call has
//! already tried.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use genre_model::EncoderIdentity;

use crate::error::EncoderError;
use crate::replica::{Health, Replica};

/// The replicas that are known now.
pub(crate) struct Replicas {
    all: ArcSwap<Vec<Arc<Replica>>>,
    turn: AtomicUsize,
    /// The host names of the replicas, for error messages.
    names: String,
    /// Why no more replicas are known, for error messages; empty if nothing failed.
    failure: ArcSwap<String>,
}

impl Replicas {
    pub(crate) fn new(all: Vec<Arc<Replica>>, names: String) -> Self {
        let (all, failure) = (ArcSwap::from_pointee(all), ArcSwap::default());
        Self { all, turn: AtomicUsize::new(0), names, failure }
    }

    pub(crate) fn names(&self) -> &str {
        &self.names
    }

    pub(crate) fn all(&self) -> Arc<Vec<Arc<Replica>>> {
        self.all.load_full()
    }

    /// Replaces all replicas. `failure` says why there are no more; empty if nothing failed.
    pub(crate) fn replace(&self, all: Vec<Arc<Replica>>, failure: String) {
        self.failure.store(Arc::new(failure));
        self.all.store(Arc::new(all));
    }

    /// Returns the best replica that is not one of `tried`. Available replicas come before busy
    /// ones, then those that are about to stop, then ejected ones, and last those that nobody hears
    /// of. Among equal ones, those of this zone come first, and of these the one with the fewest
    /// pending texts; these take turns.
    pub(crate) fn pick(
        &self,
        expected: Option<&EncoderIdentity>,
        tried: &[Arc<Replica>],
    ) -> Result<Arc<Replica>, EncoderError> {
        let replicas = self.all.load();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % replicas.len().max(1);
        let (later, first) = replicas.split_at(turn);
        let mut wrong = None;
        let candidates = first.iter().chain(later).filter(|replica| {
            if tried.iter().any(|tried| Arc::ptr_eq(tried, replica)) {
                return false;
            }
            match expected.and_then(|expected| replica.mismatch(expected)) {
                Some(error) => {
                    wrong = Some(error);
                    false
                }
                None => true,
            }
        });
        let best = candidates
            .min_by_key(|replica| {
                let (health, is_ejected) = (replica.health(), replica.is_ejected());
                let is_far = replica.is_far();
                (health == Health::Unknown, is_ejected, health, replica.busy_for(), is_far, replica.pending())
            })
            .cloned();
        best.ok_or_else(|| wrong.unwrap_or_else(|| self.unreachable()))
    }

    /// Returns an error with the last failure of each replica.
    pub(crate) fn unreachable(&self) -> EncoderError {
        let replicas = self.all.load();
        if replicas.is_empty() {
            let failure = self.failure.load();
            let reason = if failure.is_empty() { String::new() } else { format!(": {failure}") };
            return EncoderError::Unreachable(format!("no address is known for {}{reason}", self.names));
        }
        let failures: Vec<_> = replicas.iter().map(|replica| replica.last_failure()).collect();
        EncoderError::Unreachable(failures.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tonic::transport::Endpoint;

    use super::*;

    fn replicas(count: usize) -> Replicas {
        let channel = || Endpoint::from_static("http://127.0.0.1:1").connect_lazy();
        let replica =
            |index: usize| Arc::new(Replica::new(index.to_string(), channel(), None, Health::Serving));
        Replicas::new((0..count).map(replica).collect(), String::new())
    }

    fn loads(replicas: &Replicas) -> Vec<usize> {
        replicas.all().iter().map(|replica| replica.pending()).collect()
    }

    fn begin(replicas: &Replicas) -> crate::replica::Pending {
        replicas.pick(None, &[]).unwrap().take(1)
    }

    #[tokio::test]
    async fn spreads_calls_evenly_and_skips_a_busy_replica() {
        let replicas = replicas(3);
        let calls: Vec<_> = (0..9).map(|_| begin(&replicas)).collect();
        assert_eq!(loads(&replicas), [3, 3, 3]);
        drop(calls);
        assert_eq!(loads(&replicas), [0, 0, 0]);
        let busy = replicas.pick(None, &[]).unwrap();
        busy.is_busy_for(Duration::from_secs(60));
        let _calls: Vec<_> = (0..10).map(|_| begin(&replicas)).collect();
        assert_eq!(busy.pending(), 0);
        assert_eq!(loads(&replicas).iter().sum::<usize>(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn picks_the_replica_with_the_shortest_pause_when_all_are_busy() {
        let replicas = replicas(2);
        let all = replicas.all();
        all[0].is_busy_for(Duration::from_secs(60));
        all[1].is_busy_for(Duration::from_secs(30));
        let next = replicas.pick(None, &[]).unwrap();
        assert!(Arc::ptr_eq(&next, &all[1]));
        assert_eq!(next.busy_for(), Duration::from_secs(30));
    }
}
