//! A cache of vectors of recent texts, which also joins concurrent requests for the same text into
//! one run.
//!
//! `moka` does the caching and the joining; this module adds the key, the weight in bytes and the
//! counters.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use moka::future::Cache;
use prometheus_client::metrics::counter::Counter;
use service_kit::{ApiError, Metrics};
use sha2::{Digest as _, Sha256};

use crate::scheduler::entry::Reply;

/// The approximate size of an element without its floats.
const OVERHEAD_BYTES: usize = 192;

/// A cryptographic digest of a text, so that no caller can make two texts collide. Keys of one size
/// do not fragment memory as texts of different lengths would.
type Key = [u8; 32];

fn key(text: &str) -> Key {
    Sha256::digest(text).into()
}

/// A cache bounded in bytes. It evicts the least frequently requested texts (`TinyLFU`).
pub struct VectorCache {
    cache: Cache<Key, Arc<Reply>>,
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

    /// Returns the vector of `text`. Calls `run` for it unless another caller's run of the same
    /// text is under way. If that caller leaves, the next one takes over.
    pub async fn get_or_run(
        &self,
        text: &str,
        run: impl Future<Output = Result<Reply, ApiError>>,
    ) -> Result<Reply, ApiError> {
        let ran = AtomicBool::new(false);
        let marked = async {
            ran.store(true, Ordering::Relaxed);
            run.await.map(Arc::new)
        };
        let found = self.cache.try_get_with(key(text), marked).await;
        if ran.into_inner() {
            self.misses.inc()
        } else {
            self.joined.inc()
        };
        found.map(|reply| (*reply).clone()).map_err(|error| (*error).clone())
    }
}
