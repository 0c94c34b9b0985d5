//! Metrics of the calls and of the replicas.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use service_kit::Metrics;

use crate::failure::Failure;
use crate::status::Class;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

/// Every outcome of an attempt.
const OUTCOMES: [&str; 5] = ["ok", "rejected", "failed", "full", "wrong_encoder"];

pub(crate) struct CallMetrics {
    attempts: Family<Outcome, Counter>,
    pub(crate) retries: Counter,
    pub(crate) hedges: Counter,
    replicas: Gauge,
    ejected: Gauge,
    unresolved: Gauge,
}

impl CallMetrics {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let attempts: Family<Outcome, Counter> =
            metrics.register("encoder_attempts", "Attempts to encode, by outcome", Family::default());
        // Start every outcome at zero, so that its first occurrence is an increase.
        for outcome in OUTCOMES {
            attempts.get_or_create(&Outcome { outcome }).inc_by(0);
        }
        let unresolved = "Host names of encoders that cannot be looked up or watched";
        let ejected = "Encoder replicas that do not answer, do not serve or are ejected";
        Self {
            attempts,
            retries: metrics.register("encoder_retries", "Attempts after a failed one", Counter::default()),
            hedges: metrics.register("encoder_hedges", "Attempts beside a silent one", Counter::default()),
            replicas: metrics.register("encoder_replicas", "Encoder replicas known", Gauge::default()),
            ejected: metrics.register("encoder_ejected_replicas", ejected, Gauge::default()),
            unresolved: metrics.register("encoder_unresolved_names", unresolved, Gauge::default()),
        }
    }

    pub(crate) fn set_unresolved(&self, names: usize) {
        self.unresolved.set(gauge(names));
    }

    pub(crate) fn set_replicas(&self, all: usize, ejected: usize) {
        self.replicas.set(gauge(all));
        self.ejected.set(gauge(ejected));
    }

    pub(crate) fn succeeded(&self) {
        self.count("ok");
    }

    pub(crate) fn failed(&self, failure: &Failure) {
        self.count(match failure {
            Failure::OtherEncoder { .. } => "wrong_encoder",
            Failure::Malformed(_) => "failed",
            Failure::Status(_) => match failure.class() {
                Some(Class::Busy(_)) => "full",
                Some(Class::OutOfTime | Class::Rejected) => "rejected",
                Some(Class::Unreachable | Class::Defect) | None => "failed",
            },
        });
    }

    fn count(&self, outcome: &'static str) {
        self.attempts.get_or_create(&Outcome { outcome }).inc();
    }
}

fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
