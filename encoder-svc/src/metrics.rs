//! Metrics of the stages of an entry, and of the encoder as a whole.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelSet, EncodeLabelValue, EncodeMetric, LabelValueEncoder,
};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use service_kit::{Deadline, Metrics, latency_histogram};

use crate::bundle::Description;
use crate::calibration::Calibration;
use crate::scheduler::admission::Admission;
use crate::scheduler::entry::{Class, ClassLabel, PerClass};

/// The cores that a run uses, which is the label `worker` of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Cores {
    One,
    All,
}

impl EncodeLabelValue for Cores {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        let name = match self {
            Self::One => "single_core",
            Self::All => "all_core",
        };
        EncodeLabelValue::encode(&name, encoder)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WorkerLabel {
    worker: Cores,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EncoderLabels {
    id: String,
    version: String,
    fingerprint: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

/// The metrics of workers. Clones share them.
#[derive(Debug, Clone)]
pub struct StageMetrics {
    wait: PerClass<Histogram>,
    tokenize: Histogram,
    /// On one core, on all cores.
    run: [Histogram; 2],
    run_texts: Histogram,
    tokens: Histogram,
    caller_left: Counter,
    too_late: Counter,
    all_core_sessions: Gauge,
}

type Latencies<L> = Family<L, Histogram, fn() -> Histogram>;

impl StageMetrics {
    /// Registers the metrics.
    #[must_use]
    pub fn new(metrics: &Metrics) -> Self {
        let wait: Latencies<ClassLabel> = metrics.register(
            "encoder_wait_seconds",
            "Time that texts waited for a worker",
            Family::new_with_constructor(latency_histogram),
        );
        let run: Latencies<WorkerLabel> = metrics.register(
            "encoder_run_seconds",
            "Runs of the graph, by kind of worker",
            Family::new_with_constructor(latency_histogram),
        );
        let dropped: Family<ReasonLabel, Counter> = metrics.register(
            "encoder_dropped_texts",
            "Admitted texts that were not run: their caller left, or the deadline passed",
            Family::default(),
        );
        let reason = |reason| dropped.get_or_create_owned(&ReasonLabel { reason });
        Self {
            wait: PerClass::new(|class| wait.get_or_create_owned(&ClassLabel { class })),
            tokenize: metrics.register(
                "encoder_tokenize_seconds",
                "Tokenization of a text",
                Histogram::new(exponential_buckets(10e-6, 2.0, 12)),
            ),
            run: [Cores::One, Cores::All].map(|worker| run.get_or_create_owned(&WorkerLabel { worker })),
            run_texts: metrics.register(
                "encoder_run_texts",
                "Texts in a run of the graph; 1 if each runs alone",
                Histogram::new(exponential_buckets(1.0, 2.0, 10)),
            ),
            tokens: metrics.register(
                "encoder_text_tokens",
                "Tokens of a text, after truncation",
                Histogram::new([8.0, 16.0, 32.0, 48.0, 64.0, 96.0, 128.0, 192.0, 256.0, 384.0, 512.0]),
            ),
            caller_left: reason("caller_left"),
            too_late: reason("deadline"),
            all_core_sessions: metrics.register(
                "encoder_all_core_sessions",
                "1 if a lone online text runs on all cores, otherwise 0",
                Gauge::default(),
            ),
        }
    }

    pub(crate) fn waited(&self, class: Class, time: Duration) {
        self.wait.of(class).observe(time.as_secs_f64());
    }

    pub(crate) fn ran(&self, cores: Cores, texts: usize, time: Duration) {
        self.run_texts.observe(texts as f64);
        self.run[usize::from(cores == Cores::All)].observe(time.as_secs_f64());
    }

    pub(crate) fn tokenized(&self, tokens: usize, time: Duration) {
        self.tokenize.observe(time.as_secs_f64());
        self.tokens.observe(tokens as f64);
    }

    /// Counts a text that is not run. A call ends at its deadline, so then its texts are found like those
    /// of a caller that left.
    pub(crate) fn dropped(&self, deadline: Deadline) {
        let reason = if deadline.has_passed() { &self.too_late } else { &self.caller_left };
        reason.inc();
    }

    /// Sets the cores that run a lone online text.
    pub(crate) fn chose(&self, cores: Cores) {
        self.all_core_sessions.set((cores == Cores::All).into());
    }
}

/// Registers which encoder this is, its sessions, and the speed of the machine.
pub(crate) fn register_encoder(
    metrics: &Metrics,
    encoder: &Description,
    sessions: usize,
    calibration: &Calibration,
) {
    let labels = EncoderLabels {
        id: encoder.id.clone(),
        version: encoder.version.clone(),
        fingerprint: encoder.fingerprint.clone(),
    };
    let info: Family<EncoderLabels, Gauge> =
        metrics.register("encoder_info", "The bundle that is served; always 1", Family::default());
    info.get_or_create_owned(&labels).set(1);
    let gauge: Gauge =
        metrics.register("encoder_sessions", "Runs of the graph at the same time", Gauge::default());
    gauge.set(i64::try_from(sessions).unwrap_or(i64::MAX));
    let seconds: Family<WorkerLabel, Gauge<f64, AtomicU64>> = metrics.register(
        "encoder_reference_text_seconds",
        "Time of a reference text at startup, by the cores that ran it",
        Family::default(),
    );
    let set = |worker, time: Duration| {
        seconds.get_or_create_owned(&WorkerLabel { worker }).set(time.as_secs_f64());
    };
    set(Cores::One, calibration.one_thread);
    if let Some(time) = calibration.all_cores {
        set(Cores::All, time);
    }
}

/// The expected wait of a new text, computed at each scrape. Autoscalers use it.
#[derive(Clone)]
pub(crate) struct ExpectedWait(pub(crate) Arc<Admission>);

impl std::fmt::Debug for ExpectedWait {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ExpectedWait")
    }
}

impl Collector for ExpectedWait {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let mut metric = encoder.encode_descriptor(
            "encoder_queue_seconds",
            "Expected wait of a text that arrives now.",
            None,
            ConstGauge::new(0.0).metric_type(),
        )?;
        for class in [Class::Online, Class::Bulk] {
            let seconds = ConstGauge::new(self.0.wait(class).as_secs_f64());
            seconds.encode(metric.encode_family(&ClassLabel { class })?)?;
        }
        Ok(())
    }
}
