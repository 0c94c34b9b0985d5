//! Metrics, in the text formats that Prometheus scrapes.
//!
//! Every name is `<prefix>_<what>_<unit>`. The text encoder adds `_total` to the names of counters.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use axum::body::Bytes;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

use super::exposition::{Exposition, to_text};

/// Upper bounds of the buckets, in seconds: from the duration of a rejection to the longest usual
/// deadline.
const LATENCY_BUCKETS: [f64; 15] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// How long a rendering is used again, in multiples of the time that it took. However often clients
/// ask, rendering takes at most a twentieth of a core.
const REUSE: u32 = 20;

/// The metrics of one service; by default their names have no prefix. Clones share the registry.
#[derive(Clone, Default)]
pub struct Metrics(Arc<Shared>);

#[derive(Default)]
struct Shared {
    registry: Mutex<Registry>,
    /// The last rendering, and until when it is used again.
    rendered: Mutex<Option<(Rendered, Instant)>>,
}

/// All metrics in each format.
struct Rendered {
    open_metrics: Bytes,
    text: Bytes,
}

impl Rendered {
    fn in_format(&self, exposition: Exposition) -> Bytes {
        match exposition {
            Exposition::OpenMetrics => self.open_metrics.clone(),
            Exposition::Text => self.text.clone(),
        }
    }
}

/// Returns a histogram of durations in seconds.
#[must_use]
pub fn latency_histogram() -> Histogram {
    Histogram::new(LATENCY_BUCKETS)
}

impl Metrics {
    /// Returns a registry whose names begin with `prefix` and an underscore.
    #[must_use]
    pub fn with_prefix(prefix: &str) -> Self {
        let registry = Mutex::new(Registry::with_prefix(prefix));
        Self(Arc::new(Shared { registry, rendered: Mutex::default() }))
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.0.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a metric and returns a handle to it.
    pub fn register<M: Metric + Clone>(&self, name: &str, help: &str, metric: M) -> M {
        self.registry().register(name, help, metric.clone());
        metric
    }

    /// Adds metrics that are computed when they are scraped.
    pub fn register_collector(&self, collector: impl Collector) {
        self.registry().register_collector(Box::new(collector));
    }

    /// Returns all metrics in the OpenMetrics text format.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        let registry = self.registry();
        encode(&mut text, &registry).expect("writing to a string does not fail");
        text
    }

    /// Returns all metrics in this format, as they are now or were a moment ago. Requests that
    /// arrive together share one rendering.
    pub(crate) fn render_shared(&self, exposition: Exposition) -> Bytes {
        let mut rendered = self.0.rendered.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = Instant::now();
        if let Some((rendered, until)) = &*rendered
            && begin < *until
        {
            return rendered.in_format(exposition);
        }
        let open_metrics = self.render();
        let new = Rendered { text: to_text(&open_metrics).into(), open_metrics: open_metrics.into() };
        let bytes = new.in_format(exposition);
        *rendered = Some((new, Instant::now() + begin.elapsed() * REUSE));
        bytes
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;

    use super::*;

    #[test]
    fn renders_a_counter_with_its_prefix() {
        let metrics = Metrics::with_prefix("product");
        let counter: Counter = metrics.register("model_reloads", "Model reloads", Counter::default());
        counter.inc_by(3);
        assert!(metrics.render().contains("product_model_reloads_total 3"), "{}", metrics.render());
    }
}
