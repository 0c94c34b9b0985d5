//! What the stages of a text take, and what becomes of those that are not run.

use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use service_kit::{Metrics, latency_histogram};

use crate::encoder::Description;
use crate::scheduler::admission::Admission;
use crate::scheduler::queue::{Class, Worker};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClassLabel {
    class: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SessionLabel {
    session: &'static str,
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

/// The stages' figures. Clones share them.
#[derive(Debug, Clone)]
pub struct StageMetrics {
    /// By class: online, bulk.
    wait: [Histogram; 2],
    tokenize: Histogram,
    /// By session: one core, all cores.
    run: [Histogram; 2],
    run_texts: Histogram,
    tokens: Histogram,
    batch: Histogram,
    left: Counter,
    late: Counter,
}

type Latencies<L> = Family<L, Histogram, fn() -> Histogram>;

fn latencies<L: Clone + Hash + Eq>() -> Latencies<L> {
    Family::new_with_constructor(latency_histogram)
}

fn pair<L: Clone + Hash + Eq>(family: &Latencies<L>, labels: [L; 2]) -> [Histogram; 2] {
    labels.map(|label| family.get_or_create_owned(&label))
}

impl StageMetrics {
    /// All of them, at zero.
    #[must_use]
    pub fn new(metrics: &Metrics) -> Self {
        let wait: Latencies<ClassLabel> =
            metrics.register("encoder_wait_seconds", "Texts, from the queue to a session", latencies());
        let run: Latencies<SessionLabel> =
            metrics.register("encoder_run_seconds", "Runs of the graph, by kind of session", latencies());
        let dropped: Family<ReasonLabel, Counter> = metrics.register(
            "encoder_dropped_texts",
            "Texts that were not run: their caller left, or the deadline passed",
            Family::default(),
        );
        let reason = |reason| dropped.get_or_create_owned(&ReasonLabel { reason });
        Self {
            wait: pair(&wait, ["online", "bulk"].map(|class| ClassLabel { class })),
            tokenize: metrics.register(
                "encoder_tokenize_seconds",
                "Tokenization of a text",
                Histogram::new(exponential_buckets(10e-6, 2.0, 12)),
            ),
            run: pair(&run, ["core", "all_cores"].map(|session| SessionLabel { session })),
            run_texts: metrics.register(
                "encoder_run_texts",
                "Texts of a run of the graph: 1 where each runs alone",
                Histogram::new(exponential_buckets(1.0, 2.0, 10)),
            ),
            tokens: metrics.register(
                "encoder_text_tokens",
                "Tokens of a text, after truncation",
                Histogram::new([8.0, 16.0, 32.0, 48.0, 64.0, 96.0, 128.0, 192.0, 256.0, 384.0, 512.0]),
            ),
            batch: metrics.register(
                "encoder_batch_texts",
                "Texts of an Encode call",
                Histogram::new(exponential_buckets(1.0, 2.0, 9)),
            ),
            left: reason("caller_left"),
            late: reason("deadline"),
        }
    }

    pub(crate) fn waited(&self, class: Class, time: Duration) {
        self.wait[usize::from(class == Class::Bulk)].observe(time.as_secs_f64());
    }

    pub(crate) fn ran(&self, worker: Worker, texts: usize, time: Duration) {
        self.run_texts.observe(texts as f64);
        self.run[usize::from(worker == Worker::Lone)].observe(time.as_secs_f64());
    }

    pub(crate) fn tokenized(&self, tokens: usize, time: Duration) {
        self.tokenize.observe(time.as_secs_f64());
        self.tokens.observe(tokens as f64);
    }

    pub(crate) fn batch(&self, texts: usize) {
        self.batch.observe(texts as f64);
    }

    pub(crate) fn caller_left(&self) {
        self.left.inc();
    }

    pub(crate) fn too_late(&self) {
        self.late.inc();
    }
}

/// Which encoder this is, and how many texts it runs at a time.
pub(crate) fn register_encoder(metrics: &Metrics, encoder: &Description, sessions: usize) {
    let labels = EncoderLabels {
        id: encoder.id.clone(),
        version: encoder.version.clone(),
        fingerprint: encoder.fingerprint.clone(),
    };
    let info: Family<EncoderLabels, Gauge> =
        metrics.register("encoder_info", "The bundle that is served; always 1", Family::default());
    info.get_or_create_owned(&labels).set(1);
    let gauge: Gauge =
        metrics.register("encoder_sessions", "Texts that run at the same time", Gauge::default());
    gauge.set(i64::try_from(sessions).unwrap_or(i64::MAX));
}

/// How long a text that comes now would wait, asked when somebody looks: what replicas are scaled by.
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
            "Time that a text which comes now would wait, as expected.",
            None,
            ConstGauge::new(0.0).metric_type(),
        )?;
        for (class, label) in [(Class::Online, "online"), (Class::Bulk, "bulk")] {
            let seconds = ConstGauge::new(self.0.wait(class).as_secs_f64());
            seconds.encode(metric.encode_family(&ClassLabel { class: label })?)?;
        }
        Ok(())
    }
}
