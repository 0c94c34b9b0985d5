//! The metrics of the memory budget.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::budget::MemoryBudget;

/// Computes the metrics of a budget when they are scraped.
#[derive(Debug)]
pub(crate) struct MemoryMetrics(pub(crate) MemoryBudget);

impl Collector for MemoryMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let held = ConstGauge::new(i64::try_from(self.0.held()).unwrap_or(i64::MAX));
        held.encode(encoder.encode_descriptor(
            "client_memory_bytes",
            "Memory held for clients",
            None,
            held.metric_type(),
        )?)?;
        let evictions = ConstCounter::new(self.0.evictions());
        evictions.encode(encoder.encode_descriptor(
            "evictions",
            "Calls and connections ended because the memory for clients was exhausted",
            None,
            evictions.metric_type(),
        )?)
    }
}
