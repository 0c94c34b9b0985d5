//! Several encoders that are the same one: each call goes to the least busy that is well.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use proto::encoder::v1::encoder_service_client::EncoderServiceClient;
use tokio::time::Instant;
use tonic::transport::Channel;

#[derive(Debug)]
struct Replica {
    client: EncoderServiceClient<Channel>,
    in_flight: AtomicUsize,
    /// Until when it is left alone after a failure.
    resting_until: Mutex<Instant>,
}

/// The replicas of a job.
#[derive(Debug)]
pub(crate) struct Replicas {
    all: Vec<Replica>,
    turn: AtomicUsize,
}

/// A replica that a call is at; dropped, the call is over.
pub(crate) struct Chosen<'a> {
    replica: &'a Replica,
}

impl Replicas {
    pub(crate) fn new(clients: impl IntoIterator<Item = EncoderServiceClient<Channel>>) -> Self {
        let replica = |client| Replica {
            client,
            in_flight: AtomicUsize::new(0),
            resting_until: Mutex::new(Instant::now()),
        };
        Self { all: clients.into_iter().map(replica).collect(), turn: AtomicUsize::new(0) }
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// The replica with the fewest calls under way among those that do not rest, in turn among equals; where all
    /// rest, the one that has rested longest.
    pub(crate) fn choose(&self) -> Chosen<'_> {
        let (now, turn) = (Instant::now(), self.turn.fetch_add(1, Ordering::Relaxed));
        let load = |place: &usize| {
            let replica = &self.all[(place + turn) % self.all.len()];
            let rest = replica.rest().saturating_duration_since(now);
            (rest, replica.in_flight.load(Ordering::Relaxed))
        };
        let place = (0..self.all.len()).min_by_key(load).expect("there is at least one replica");
        let replica = &self.all[(place + turn) % self.all.len()];
        replica.in_flight.fetch_add(1, Ordering::Relaxed);
        Chosen { replica }
    }

    /// How long until some replica does not rest.
    pub(crate) fn wait(&self) -> Duration {
        let now = Instant::now();
        let waits = self.all.iter().map(|replica| replica.rest().saturating_duration_since(now));
        waits.min().unwrap_or_default()
    }
}

impl Replica {
    fn rest(&self) -> Instant {
        *self.resting_until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Chosen<'_> {
    pub(crate) fn client(&self) -> EncoderServiceClient<Channel> {
        self.replica.client.clone()
    }

    /// Leaves it alone for a while.
    pub(crate) fn rest(&self, wait: Duration) {
        let until = Instant::now() + wait;
        *self.replica.resting_until.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }
}

impl Drop for Chosen<'_> {
    fn drop(&mut self) {
        self.replica.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replicas(count: usize) -> Replicas {
        let client = |_| {
            let channel = tonic::transport::Endpoint::from_static("http://127.0.0.1:1").connect_lazy();
            EncoderServiceClient::new(channel)
        };
        Replicas::new((0..count).map(client))
    }

    fn loads(replicas: &Replicas) -> Vec<usize> {
        replicas.all.iter().map(|replica| replica.in_flight.load(Ordering::Relaxed)).collect()
    }

    #[tokio::test]
    async fn calls_are_spread_evenly_and_a_resting_replica_gets_none() {
        let replicas = replicas(3);
        let calls: Vec<_> = (0..9).map(|_| replicas.choose()).collect();
        assert_eq!(loads(&replicas), [3, 3, 3]);
        drop(calls);
        assert_eq!(loads(&replicas), [0, 0, 0]);
        let ill = replicas.choose();
        ill.rest(Duration::from_secs(60));
        let before = loads(&replicas);
        let _calls: Vec<_> = (0..10).map(|_| replicas.choose()).collect();
        let after = loads(&replicas);
        let place = before.iter().position(|load| *load == 1).unwrap();
        assert_eq!(after[place], 1);
        assert_eq!(after.iter().sum::<usize>(), 11);
        assert_eq!(replicas.wait(), Duration::ZERO);
    }

    #[tokio::test]
    async fn where_all_rest_the_first_to_be_well_is_asked() {
        let replicas = replicas(2);
        let (a, b) = (replicas.choose(), replicas.choose());
        a.rest(Duration::from_secs(60));
        b.rest(Duration::from_secs(30));
        let next = replicas.choose();
        assert!(std::ptr::eq(next.replica, b.replica));
        let wait = replicas.wait();
        assert!(wait > Duration::from_secs(29) && wait <= Duration::from_secs(30), "{wait:?}");
    }
}
