//! The encoder on a GPU: the figures of `make bench-gpu`, as a table and as `bench-results/gpu.json`.
#![allow(clippy::doc_markdown, reason = "doc comments of arguments are the text of --help")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use encoder_svc::inference::device::Device;
use futures_util::StreamExt as _;
use load_generator::figures::{Figures, median};
use load_generator::load::{self, Client, quantile};
use load_generator::raw::Raw;
use load_generator::server::Server;
use proto::encoder::v1::{EncodeRequest, Priority};
use service_kit::Target;

/// The encoder's own, so that the raw loop has its memory from the same hands.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const TEXTS_IN_A_BATCH: usize = 64;
/// Of one text each.
const CALLERS: usize = 512;
/// A server's connection is served by one thread of it at a time.
const CONNECTIONS: usize = 16;
/// Of an overloading call.
const DEADLINE: Duration = Duration::from_secs(1);
const LONE_TEXTS: usize = 300;
/// Texts whose vectors are held against those of the CPU.
const COMPARED: usize = 400;

/// Load on a real encoder-svc on a GPU and on ONNX Runtime there alone, in turns, as ratios. Needs an ONNX Runtime with CUDA at
/// ORT_DYLIB_PATH.
#[derive(Parser)]
struct Arguments {
    /// The encoder-svc to start.
    #[arg(long, default_value = "target/release/encoder-svc")]
    encoder_svc: PathBuf,
    /// The bundle that both sides run, in single precision.
    #[arg(long, default_value = ".runtime/bundles/minilm-512-fp32")]
    bundle: PathBuf,
    /// A movies_metadata.csv, whose overviews are encoded; without it, texts are made up.
    #[arg(long, default_value = "../shared/data/movies_metadata.csv")]
    data: PathBuf,
    /// How many texts.
    #[arg(long, default_value_t = 16_000)]
    texts: usize,
    /// Turns of raw loop, streams and callers; the median of each counts.
    #[arg(long, default_value_t = 3)]
    turns: usize,
    /// Sessions of the raw loop, all tried.
    #[arg(long, value_delimiter = ',', default_value = "8,16")]
    raw_sessions: Vec<usize>,
    /// Texts in a batch of the raw loop, all tried.
    #[arg(long, value_delimiter = ',', default_value = "32,64")]
    raw_batches: Vec<usize>,
    /// Sessions of encoder-svc, all tried; 0 for its default.
    #[arg(long, value_delimiter = ',', default_value = "0")]
    sessions: Vec<usize>,
    /// encoder.batch_tokens of encoder-svc, all tried; 0 for its default.
    #[arg(long, value_delimiter = ',', default_value = "0")]
    batch_tokens: Vec<usize>,
    /// Seconds of twice the capacity; 0 for none.
    #[arg(long, default_value_t = 20)]
    overload_seconds: u64,
    /// Where the figures go.
    #[arg(long, default_value = "bench-results/gpu.json")]
    output: PathBuf,
}

/// The fastest raw loop: texts a second, sessions, texts in a batch.
fn best_raw(
    figures: &mut Figures,
    arguments: &Arguments,
    raw: &Raw,
    texts: &[String],
) -> (f64, usize, usize) {
    let mut best = (0.0, 0, 0);
    for &sessions in &arguments.raw_sessions {
        for &size in &arguments.raw_batches {
            let rate = raw.batched(texts, size, sessions);
            let what = format!("texts/s, raw, {sessions} sessions, batches of {size} sorted by length");
            figures.add(&format!("raw_{sessions}_sessions_batches_of_{size}"), rate, &what);
            if rate > best.0 {
                best = (rate, sessions, size);
            }
        }
    }
    best
}

/// The largest difference of a float between two lists of vectors.
fn largest_difference(vectors: &[Vec<f32>], others: &[Vec<f32>]) -> f64 {
    let pairs = vectors.iter().flatten().zip(others.iter().flatten());
    pairs.map(|(a, b)| f64::from((a - b).abs())).max_by(f64::total_cmp).unwrap_or(f64::NAN)
}

/// Vectors of texts that run together on the service's GPU.
async fn vectors(client: &Client, texts: &[String]) -> Vec<Vec<f32>> {
    let calls = texts.chunks(100).map(|texts| {
        let mut client = client.clone();
        let request = EncodeRequest { texts: texts.to_vec(), priority: Priority::Bulk.into() };
        async move { client.encode(request).await.expect("an answer").into_inner().embeddings }
    });
    let answers = futures_util::future::join_all(calls).await;
    answers.into_iter().flatten().map(|embedding| embedding.values).collect()
}

/// Texts a second of so many streams at once, a connection each.
async fn streams(clients: &[Client], texts: &[String]) -> f64 {
    let begin = Instant::now();
    let parts = clients.iter().cloned().zip(texts.chunks(texts.len().div_ceil(clients.len())));
    let running: futures_util::stream::FuturesUnordered<_> = parts
        .map(|(client, texts)| {
            let texts = texts.to_vec();
            tokio::spawn(async move { load::stream(&client, &texts).await })
        })
        .collect();
    running.for_each(|done| async move { assert!(done.expect("no panic") > 0.0) }).await;
    texts.len() as f64 / begin.elapsed().as_secs_f64()
}

struct Measured<'a> {
    arguments: &'a Arguments,
    texts: Arc<Vec<String>>,
    /// Of the first texts, on the CPU, each alone.
    on_cpu: Vec<Vec<f32>>,
    raw: (f64, usize, usize),
}

impl Measured<'_> {
    /// Twice the capacity, which is measured on both sides of it.
    async fn overload(&self, figures: &mut Figures, name: &impl Fn(&str) -> String, clients: &[Client]) {
        let duration = Duration::from_secs(self.arguments.overload_seconds);
        if duration.is_zero() {
            return;
        }
        let before = load::closed_loop(clients, &self.texts, (CALLERS, 1), Priority::Bulk).await;
        let outcomes = load::open_loop(clients, &self.texts, 2.0 * before, duration, DEADLINE).await;
        let after = load::closed_loop(clients, &self.texts, (CALLERS, 1), Priority::Bulk).await;
        let capacity = f64::midpoint(before, after);
        let took = outcomes.took.as_secs_f64();
        let (answered, refused) = (outcomes.answered.len() as f64, outcomes.refused.len() as f64);
        let goodput = answered / took / capacity;
        let asked = (answered + refused + (outcomes.late + outcomes.failed) as f64) / took / capacity;
        for (key, value, what) in [
            ("asked_ratio", asked, "times the capacity was asked for"),
            ("goodput_ratio", goodput, "of the capacity is answered in time then"),
            ("refused_p99_ms", quantile(&outcomes.refused, 0.99), "ms to a refusal, p99"),
            ("answered_p99_ms", quantile(&outcomes.answered, 0.99), "ms to an answer, p99"),
            ("refused", refused, "calls refused"),
            ("late", outcomes.late as f64, "calls admitted and late"),
            ("failed", outcomes.failed as f64, "calls failed otherwise"),
        ] {
            figures.add(&name(&format!("overload_{key}")), value, what);
        }
    }

    async fn service(&self, figures: &mut Figures, raw: &Raw, sessions: usize, batch_tokens: usize) {
        let Self { arguments, texts, .. } = self;
        let name = |name: &str| format!("{name}_sessions_{sessions}_batch_tokens_{batch_tokens}");
        println!("encoder.sessions = {sessions}, encoder.batch_tokens = {batch_tokens}");
        let server = Server::start(
            &arguments.encoder_svc,
            &arguments.bundle,
            &[
                ("ENCODER_SVC_ENCODER__DEVICE", "cuda"),
                ("ENCODER_SVC_ENCODER__SESSIONS", &sessions.to_string()),
                ("ENCODER_SVC_ENCODER__BATCH_TOKENS", &batch_tokens.to_string()),
            ],
        )
        .await;
        let target = Target::parse(&server.url).expect("our own address");
        let clients: Vec<_> = (0..CONNECTIONS).map(|_| Client::new(target.channel(None, None))).collect();
        figures.add(&name("ready_seconds"), server.ready.as_secs_f64(), "seconds from start to ready");

        let found = vectors(&clients[0], &texts[..self.on_cpu.len()]).await;
        let difference = largest_difference(&found, &self.on_cpu);
        figures.add(
            &name("vector_difference_millionths"),
            difference * 1e6,
            "millionths, largest difference of a float to the CPU's",
        );

        let mut lone = load::histogram();
        load::one_caller(&clients[0], &texts[..LONE_TEXTS], &mut lone).await;
        figures.add(
            &name("online_p50_ms"),
            quantile(&lone, 0.5),
            "ms, one online text, nothing else running, p50",
        );

        let names = ["one stream", "16 streams", "8 callers with batches of 64", "512 callers with one text"];
        let mut rates = [const { Vec::new() }; 4];
        let mut raw_rates = Vec::new();
        let mut seconds = [0.0; 4];
        for turn in 0..=arguments.turns {
            let raw_rate = raw.batched(texts, self.raw.2, self.raw.1);
            for (kind, rates) in rates.iter_mut().enumerate() {
                let before = server.processor_seconds();
                let rate = match kind {
                    0 => load::stream(&clients[0], texts).await,
                    1 => streams(&clients, texts).await,
                    2 => load::closed_loop(&clients, texts, (8, TEXTS_IN_A_BATCH), Priority::Bulk).await,
                    _ => load::closed_loop(&clients, texts, (CALLERS, 1), Priority::Bulk).await,
                };
                // The first turn warms both sides.
                if turn > 0 {
                    rates.push(rate);
                    seconds[kind] += server.processor_seconds() - before;
                }
            }
            if turn > 0 {
                raw_rates.push(raw_rate);
            }
        }
        let raw_rate = median(raw_rates);
        figures.add(&name("raw_texts_per_second"), raw_rate, "texts/s, best raw loop");
        let keys = ["stream", "streams", "batches", "callers"];
        let texts_run = (texts.len() * arguments.turns) as f64;
        for (((rates, what), key), seconds) in rates.into_iter().zip(names).zip(keys).zip(seconds) {
            let ratio = median(rates) / raw_rate;
            figures.add(&name(&format!("{key}_ratio")), ratio, &format!("of that, through {what}"));
            let micros = seconds / texts_run * 1e6;
            figures.add(&name(&format!("{key}_cpu_us")), micros, "microseconds of a core a text, there");
        }

        let bulk = tokio::spawn({
            let (clients, texts) = (clients.clone(), texts.clone());
            async move {
                loop {
                    load::closed_loop(&clients[1..], &texts, (16, TEXTS_IN_A_BATCH), Priority::Bulk).await;
                }
            }
        });
        tokio::time::sleep(Duration::from_millis(500)).await;
        let mut under_bulk = load::histogram();
        load::one_caller(&clients[0], &texts[..LONE_TEXTS], &mut under_bulk).await;
        bulk.abort();
        for (key, quantile_of) in [("p50", 0.5), ("p99", 0.99)] {
            figures.add(
                &name(&format!("online_{key}_under_bulk_ms")),
                quantile(&under_bulk, quantile_of),
                &format!("ms, one online text while bulk texts fill the service, {key}"),
            );
        }
        self.overload(figures, &name, &clients).await;
        figures.add(&name("rss_mib"), server.memory_mib("VmRSS"), "MiB resident after that");
    }
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let arguments = Arguments::parse();
    let (texts, source) = load_generator::texts::texts(&arguments.data, arguments.texts);
    println!("{} texts of {source}", texts.len());
    let mut figures = Figures::default();
    let on_cpu = Raw::open(&arguments.bundle, Device::Cpu).vectors(&texts[..texts.len().min(COMPARED)]);
    let raw = Raw::open(&arguments.bundle, Device::Cuda);
    let best = best_raw(&mut figures, &arguments, &raw, &texts);
    let measured = Measured { arguments: &arguments, texts: Arc::new(texts), on_cpu, raw: best };
    for &sessions in &arguments.sessions {
        for &batch_tokens in &arguments.batch_tokens {
            measured.service(&mut figures, &raw, sessions, batch_tokens).await;
        }
    }
    figures.write(&arguments.output)
}
