//! Metrics, in the OpenMetrics text format that Prometheus scrapes.
//!
//! Every name is `<prefix>_<what>_<unit>`; a counter ends in `_total`, which the encoder adds.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

/// The content type of [`Metrics::render`].
pub(crate) const METRICS_CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper bounds in seconds: from a refusal to the longest deadline that anybody sets.
const LATENCY_BUCKETS: [f64; 15] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// All metrics of one service. Clones share them.
#[derive(Clone)]
pub struct Metrics(Arc<Mutex<Registry>>);

impl Default for Metrics {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Registry::default())))
    }
}

/// A histogram of [`LATENCY_BUCKETS`].
#[must_use]
pub fn latency_histogram() -> Histogram {
    Histogram::new(LATENCY_BUCKETS)
}

impl Metrics {
    /// Metrics whose names all begin with `prefix` and an underscore.
    #[must_use]
    pub fn with_prefix(prefix: &str) -> Self {
        Self(Arc::new(Mutex::new(Registry::with_prefix(prefix))))
    }

    /// Adds a metric; what is given back shares its values.
    pub fn register<M: Metric + Clone>(&self, name: &str, help: &str, metric: M) -> M {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).register(name, help, metric.clone());
        metric
    }

    /// Adds metrics that are asked for when somebody looks.
    pub fn register_collector(&self, collector: impl Collector) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).register_collector(Box::new(collector));
    }

    /// All of them as text.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        let registry = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        encode(&mut text, &registry).expect("writing into a string does not fail");
        text
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;

    use super::*;

    #[test]
    fn a_counter_is_rendered_under_its_prefix() {
        let metrics = Metrics::with_prefix("product");
        let counter: Counter = metrics.register("model_reloads", "Model files taken", Counter::default());
        counter.inc_by(3);
        assert!(metrics.render().contains("product_model_reloads_total 3"), "{}", metrics.render());
    }
}
