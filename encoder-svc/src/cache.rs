//! A cache of vectors of recent texts, which also joins concurrent requests for the same text into
//! one run.
//!
//! `moka` does the caching; this module adds the key, the weight in bytes, the counters and the
//! joining. `moka` joins calls, too, but it panics once 200 callers that began a run have left one
//! after the other, and clients decide when they leave.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use moka::future::Cache;
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use service_kit::{ApiError, Metrics};
use sha2::{Digest as _, Sha256};
use tokio::sync::OnceCell;

use crate::scheduler::entry::Reply;

/// The approximate size of an element without its floats.
const OVERHEAD_BYTES: usize = 192;

/// A cryptographic digest of a text, so that no caller can make two texts collide. Keys of one size
/// do not fragment memory as texts of different lengths would.
type Key = [u8; 32];

fn key(text: &str) -> Key {
    Sha256::digest(text).into()
}

/// The run of a text that is under way. The calls that joined it wait in order of arrival: the first
/// one runs the text, and if it leaves, the next one does. All get the outcome at once.
type Run = OnceCell<Result<Arc<Reply>, ApiError>>;

/// The runs under way.
#[derive(Default)]
struct Runs(Mutex<HashMap<Key, Weak<Run>>>);

impl Runs {
    /// Returns the run of a text that has no outcome yet, or a new one.
    fn join(&self, key: Key) -> Arc<Run> {
        let mut runs = self.0.lock();
        let found = runs.get(&key).and_then(Weak::upgrade).filter(|run| !run.initialized());
        found.unwrap_or_else(|| {
            let run = Arc::new(Run::new());
            runs.insert(key, Arc::downgrade(&run));
            run
        })
    }
}

/// Forgets the run of a text when the last call that joined it ends. A call drops its run first.
struct Joined<'a> {
    runs: &'a Runs,
    key: Key,
}

impl Drop for Joined<'_> {
    fn drop(&mut self) {
        let mut runs = self.runs.0.lock();
        if runs.get(&self.key).is_some_and(|run| run.strong_count() == 0) {
            runs.remove(&self.key);
        }
    }
}

/// A cache bounded in bytes. It evicts the least frequently requested texts (`TinyLFU`).
pub struct VectorCache {
    cache: Cache<Key, Arc<Reply>>,
    runs: Runs,
    hits: Counter,
    misses: Counter,
    joined: Counter,
}

impl VectorCache {
    /// Creates an empty cache.
    #[must_use]
    pub fn new(max_bytes: u64, metrics: &Metrics) -> Self {
        let cache = Cache::builder()
            .max_capacity(max_bytes)
            .weigher(|_: &Key, reply: &Arc<Reply>| {
                let bytes = reply.vector.len() * size_of::<f32>() + OVERHEAD_BYTES;
                u32::try_from(bytes).unwrap_or(u32::MAX)
            })
            .build();
        let counter = |name, help| metrics.register(name, help, Counter::default());
        Self {
            cache,
            runs: Runs::default(),
            hits: counter("encoder_cache_hits", "Texts whose vector was in the cache"),
            misses: counter("encoder_cache_misses", "Texts that had to be run"),
            joined: counter(
                "encoder_cache_joins",
                "Texts that waited for another caller's run of the same text",
            ),
        }
    }

    /// Returns the vector of `text`, if it is in the cache.
    pub async fn get(&self, text: &str) -> Option<Reply> {
        let found = self.cache.get(&key(text)).await?;
        self.hits.inc();
        Some((*found).clone())
    }

    /// Returns the vector of `text`, which `run` computes. No other call joins that run.
    pub async fn run(
        &self,
        text: &str,
        run: impl Future<Output = Result<Reply, ApiError>>,
    ) -> Result<Reply, ApiError> {
        let key = key(text);
        self.misses.inc();
        let reply = run.await?;
        self.cache.insert(key, Arc::new(reply.clone())).await;
        Ok(reply)
    }

    /// Returns the vector of `text`. Calls `run` for it unless another caller's run of the same
    /// text is under way. If that caller leaves, the next one takes over. If the run fails, the
    /// calls that joined it fail, too.
    pub async fn get_or_run(
        &self,
        text: &str,
        run: impl Future<Output = Result<Reply, ApiError>>,
    ) -> Result<Reply, ApiError> {
        let key = key(text);
        // Declared before the run, so that it is dropped after it.
        let _joined = Joined { runs: &self.runs, key };
        let shared = self.runs.join(key);
        let mut ran = false;
        let run = async {
            // An earlier run may have ended since this call looked its text up.
            if let Some(found) = self.cache.get(&key).await {
                return Ok::<_, ApiError>(found);
            }
            ran = true;
            let reply = Arc::new(run.await?);
            self.cache.insert(key, reply.clone()).await;
            Ok(reply)
        };
        let outcome = shared.get_or_init(|| run).await.clone();
        if ran {
            self.misses.inc()
        } else {
            self.joined.inc()
        };
        outcome.map(|reply| (*reply).clone())
    }
}

#[cfg(test)]
mod tests {
    use std::future::{Pending, pending};

    use futures_util::FutureExt as _;

    use super::*;

    const TEXT: &str = "a storm at sea";

    fn cache() -> VectorCache {
        VectorCache::new(1 << 20, &Metrics::default())
    }

    fn reply() -> Reply {
        Reply { vector: vec![1.0], token_count: 3, truncated: false }
    }

    fn never() -> Pending<Result<Reply, ApiError>> {
        pending()
    }

    #[test]
    fn callers_that_leave_one_after_the_other_do_not_fail_the_last_one() {
        let cache = cache();
        let mut leaving: std::collections::VecDeque<_> =
            (0..300).map(|_| Box::pin(cache.get_or_run(TEXT, never()))).collect();
        let mut stays = Box::pin(cache.get_or_run(TEXT, async { Ok(reply()) }));
        while !leaving.is_empty() {
            assert!(leaving.iter_mut().all(|call| call.as_mut().now_or_never().is_none()));
            assert!(stays.as_mut().now_or_never().is_none());
            leaving.pop_front();
        }
        assert_eq!(stays.now_or_never(), Some(Ok(reply())));
        assert!(cache.runs.0.lock().is_empty());
    }

    #[test]
    fn forgets_a_run_once_all_of_its_callers_have_left() {
        let cache = cache();
        let mut calls = [(); 3].map(|()| Box::pin(cache.get_or_run(TEXT, never())));
        assert!(calls.iter_mut().all(|call| call.as_mut().now_or_never().is_none()));
        assert_eq!(cache.runs.0.lock().len(), 1);
        drop(calls);
        assert!(cache.runs.0.lock().is_empty());
    }

    #[test]
    fn calls_that_joined_a_run_share_its_error_and_later_ones_run_again() {
        let cache = cache();
        let (sender, failure) = tokio::sync::oneshot::channel();
        let mut first = Box::pin(cache.get_or_run(TEXT, async { failure.await.unwrap() }));
        let mut joins = Box::pin(cache.get_or_run(TEXT, never()));
        assert!(first.as_mut().now_or_never().is_none() && joins.as_mut().now_or_never().is_none());
        sender.send(Err(ApiError::DeadlineExceeded)).unwrap();
        assert_eq!(first.now_or_never(), Some(Err(ApiError::DeadlineExceeded)));
        // One call has not seen the error yet, and a new one does not get it.
        let again = cache.get_or_run(TEXT, async { Ok(reply()) }).now_or_never();
        assert_eq!(again, Some(Ok(reply())));
        assert_eq!(joins.now_or_never(), Some(Err(ApiError::DeadlineExceeded)));
        assert!(cache.runs.0.lock().is_empty());
    }

    #[test]
    fn no_call_joins_a_run_of_its_own() {
        let cache = cache();
        let mut alone = Box::pin(cache.run(TEXT, never()));
        assert!(alone.as_mut().now_or_never().is_none());
        assert_eq!(cache.get_or_run(TEXT, async { Ok(reply()) }).now_or_never(), Some(Ok(reply())));
        assert_eq!(cache.get(TEXT).now_or_never(), Some(Some(reply())));
    }
}
