//! Vectors of texts that were asked for lately, and one run for all who ask for the same text at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use moka::future::Cache;
use prometheus_client::metrics::counter::Counter;
use service_kit::{ApiError, Metrics};
use sha2::{Digest as _, Sha256};

use crate::scheduler::queue::Encoded;

/// What an entry takes beside its floats, about.
const ENTRY_BYTES: usize = 192;

/// The digest of a text stands for it: nobody can make two texts of one digest, and entries are all of one size. Texts
/// themselves as keys, of all lengths, leave gaps in memory that grow for hours.
type Key = [u8; 32];

fn key(text: &str) -> Key {
    Sha256::digest(text).into()
}

/// Bounded in bytes; what is asked for least goes first (`TinyLFU`).
pub struct EmbeddingCache {
    cache: Cache<Key, Arc<Encoded>>,
    hits: Counter,
    misses: Counter,
    joined: Counter,
}

impl EmbeddingCache {
    /// An empty cache.
    #[must_use]
    pub fn new(max_bytes: u64, metrics: &Metrics) -> Self {
        let cache = Cache::builder()
            .max_capacity(max_bytes)
            .weigher(|_: &Key, encoded: &Arc<Encoded>| {
                let bytes = encoded.vector.len() * size_of::<f32>() + ENTRY_BYTES;
                u32::try_from(bytes).unwrap_or(u32::MAX)
            })
            .build();
        let counter = |name, help| metrics.register(name, help, Counter::default());
        Self {
            cache,
            hits: counter("encoder_cache_hits", "Texts whose vector was there"),
            misses: counter("encoder_cache_misses", "Texts that had to be run"),
            joined: counter(
                "encoder_cache_joins",
                "Texts that waited for another caller's run of the same text",
            ),
        }
    }

    /// The vector of `text`, if it is there.
    pub async fn get(&self, text: &str) -> Option<Encoded> {
        let found = self.cache.get(&key(text)).await?;
        self.hits.inc();
        Some((*found).clone())
    }

    /// The vector of `text`, by `run` unless somebody else is already at it. Where that somebody leaves, the next one
    /// takes over.
    pub async fn get_or_run(
        &self,
        text: &str,
        run: impl Future<Output = Result<Encoded, ApiError>>,
    ) -> Result<Encoded, ApiError> {
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
        found.map(|encoded| (*encoded).clone()).map_err(|error| (*error).clone())
    }
}
