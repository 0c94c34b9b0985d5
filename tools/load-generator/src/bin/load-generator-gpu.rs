//! `load-generator-gpu`: measures encoder-svc on a GPU, for the table and `bench-results/gpu.json`
//! of `make bench-gpu`.
#![allow(clippy::doc_markdown, reason = "doc comments of arguments are the text of --help")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use encoder_svc::inference::device::Device;
use load_generator::figures::{Figures, median};
use load_generator::load::{self, Client, quantile};
use load_generator::raw::Raw;
use load_generator::server::{Server, ServerArguments};
use load_generator::texts::TextArguments;
use proto::encoder::v1::{EncodeRequest, Priority};

const BATCH: usize = 64;
/// Concurrent calls of one text that saturate the encoder.
const CONCURRENCY: usize = 512;
/// Several connections, because the server handles each one on a single thread at a time.
const CONNECTIONS: usize = 16;
/// Texts for the latency of single texts.
const SINGLE_TEXTS: usize = 300;
/// Texts whose vectors are compared with those of the CPU.
const COMPARED: usize = 400;

/// Measures encoder-svc on a GPU, as ratios to ONNX Runtime alone on the same GPU
///
/// First searches for the fastest raw loop, over sessions and batch sizes. Then starts encoder-svc
/// with each combination of --sessions and --batch-tokens and compares it with that loop: bulk
/// throughput of four kinds of clients, CPU time per text, latency of online texts, and goodput at
/// twice the capacity. Vectors are compared with those of the CPU. Figures are printed as they are
/// measured, then as a table, and written as JSON.
///
/// Needs an ONNX Runtime with CUDA, named by the environment variable ORT_DYLIB_PATH (`make cuda`
/// installs one).
#[derive(Parser)]
#[command(
    mut_arg("bundle", |arg| arg.default_value(".runtime/bundles/minilm-512-fp32")),
    mut_arg("texts", |arg| arg.default_value("16000")),
    after_long_help = "\
Examples:
  load-generator-gpu
          Measure the default settings in about three minutes
  load-generator-gpu --sessions 1,2,4 --batch-tokens 8192,16384 --overload-seconds 0
          Search for the best settings of a GPU"
)]
struct Arguments {
    #[command(flatten)]
    server: ServerArguments,
    #[command(flatten)]
    texts: TextArguments,
    /// Rounds of the raw loop, streams and calls; the figures are medians of the rounds
    #[arg(long, value_name = "N", alias = "turns", default_value_t = 3)]
    rounds: usize,
    /// Sessions of the raw loop, separated by commas; the fastest combination with --raw-batches
    /// counts
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "8,16")]
    raw_sessions: Vec<usize>,
    /// Texts per batch of the raw loop, separated by commas
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "32,64")]
    raw_batches: Vec<usize>,
    /// Values of encoder.sessions to measure, separated by commas; 0 is the default of encoder-svc
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "0")]
    sessions: Vec<usize>,
    /// Values of encoder.batch_tokens to measure, separated by commas; 0 is the default of
    /// encoder-svc
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "0")]
    batch_tokens: Vec<usize>,
    /// Duration of the overload at twice the capacity; 0 skips it
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    overload_seconds: u64,
    /// The JSON file to write
    #[arg(long, value_name = "FILE", default_value = "bench-results/gpu.json")]
    output: PathBuf,
}

/// A configuration of the raw loop.
#[derive(Clone, Copy, Default)]
struct RawLoop {
    sessions: usize,
    batch: usize,
}

/// Returns the fastest raw loop.
fn fastest(figures: &mut Figures, arguments: &Arguments, raw: &Raw, texts: &[String]) -> RawLoop {
    let (mut best, mut best_rate) = (RawLoop::default(), 0.0);
    for &sessions in &arguments.raw_sessions {
        for &batch in &arguments.raw_batches {
            let rate = raw.batched(texts, batch, sessions);
            let description =
                format!("texts/s, raw, {sessions} sessions, batches of {batch} sorted by length");
            figures.add(&format!("raw_{sessions}_sessions_batches_of_{batch}"), rate, &description);
            if rate > best_rate {
                (best, best_rate) = (RawLoop { sessions, batch }, rate);
            }
        }
    }
    best
}

/// Returns the largest difference of a component between two lists of vectors.
fn largest_difference(vectors: &[Vec<f32>], others: &[Vec<f32>]) -> f64 {
    let pairs = vectors.iter().flatten().zip(others.iter().flatten());
    pairs.map(|(a, b)| f64::from((a - b).abs())).max_by(f64::total_cmp).unwrap_or(f64::NAN)
}

/// Returns the vectors that the service computes in batches.
async fn vectors(client: &Client, texts: &[String]) -> Vec<Vec<f32>> {
    let calls = texts.chunks(100).map(|texts| {
        let mut client = client.clone();
        let request = EncodeRequest { texts: texts.to_vec(), priority: Priority::Bulk.into() };
        async move { client.encode(request).await.expect("a bulk call succeeds").into_inner().embeddings }
    });
    let replies = futures_util::future::join_all(calls).await;
    replies.into_iter().flatten().map(|embedding| embedding.values).collect()
}

/// Encodes the texts over one stream per client and returns texts per second.
async fn streams(clients: &[Client], texts: &[String]) -> f64 {
    let begin = Instant::now();
    let shares = clients.iter().cloned().zip(texts.chunks(texts.len().div_ceil(clients.len())));
    let running: tokio::task::JoinSet<_> = shares
        .map(|(client, texts)| {
            let texts = texts.to_vec();
            async move { load::stream(&client, &texts).await }
        })
        .collect();
    running.join_all().await;
    texts.len() as f64 / begin.elapsed().as_secs_f64()
}

struct Benchmark<'a> {
    arguments: &'a Arguments,
    texts: Arc<Vec<String>>,
    /// Vectors of the first texts, computed on the CPU, each text alone.
    on_cpu: Vec<Vec<f32>>,
    raw: Raw,
    raw_loop: RawLoop,
}

impl Benchmark<'_> {
    async fn service(&self, figures: &mut Figures, sessions: usize, batch_tokens: usize) {
        let Self { arguments, texts, .. } = self;
        let name = |figure: &str| format!("{figure}_sessions_{sessions}_batch_tokens_{batch_tokens}");
        println!("encoder.sessions = {sessions}, encoder.batch_tokens = {batch_tokens}");
        let server = Server::start(
            &arguments.server,
            &[
                ("ENCODER_SVC_ENCODER__DEVICE", "cuda"),
                ("ENCODER_SVC_ENCODER__SESSIONS", &sessions.to_string()),
                ("ENCODER_SVC_ENCODER__BATCH_TOKENS", &batch_tokens.to_string()),
            ],
        )
        .await;
        let clients: Vec<_> = (0..CONNECTIONS).map(|_| server.client()).collect();
        figures.add(&name("ready_seconds"), server.ready.as_secs_f64(), "seconds from start to ready");

        let found = vectors(&clients[0], &texts[..self.on_cpu.len()]).await;
        let difference = largest_difference(&found, &self.on_cpu) * 1e6;
        let description = "millionths, largest difference of a component to the CPU";
        figures.add(&name("vector_difference_millionths"), difference, description);

        let mut online = load::histogram();
        load::online_calls(&clients[0], &texts[..SINGLE_TEXTS], &mut online).await;
        let description = "ms, one online text, nothing else running, p50";
        figures.add(&name("online_p50_ms"), quantile(&online, 0.5), description);

        self.throughput(figures, &name, &server, &clients).await;

        let bulk = {
            let (clients, texts) = (clients.clone(), texts.clone());
            async move {
                loop {
                    load::closed_loop(&clients[1..], &texts, 16, BATCH).await;
                }
            }
        };
        let under_bulk = load::online_calls_under_bulk(&clients[0], &texts[..SINGLE_TEXTS], bulk).await;
        for (label, at) in [("p50", 0.5), ("p99", 0.99)] {
            let key = name(&format!("online_{label}_under_bulk_ms"));
            let description = format!("ms, one online text while bulk texts saturate the encoder, {label}");
            figures.add(&key, quantile(&under_bulk, at), &description);
        }
        self.overload(figures, &name, &clients).await;
        figures.add(&name("rss_mib"), server.memory_mib("VmRSS"), "MiB resident after that");
    }

    /// Measures bulk throughput of four kinds of clients, as ratios to the raw loop, which runs in
    /// every round.
    async fn throughput(
        &self,
        figures: &mut Figures,
        name: &impl Fn(&str) -> String,
        server: &Server,
        clients: &[Client],
    ) {
        let Self { arguments, texts, raw, raw_loop, .. } = self;
        let kinds = [
            ("stream", "one stream"),
            ("streams", "16 streams"),
            ("batches", "8 concurrent calls with batches of 64"),
            ("callers", "512 concurrent calls with one text"),
        ];
        let mut rates = [const { Vec::new() }; 4];
        let mut raw_rates = Vec::new();
        let mut cpu_seconds = [0.0; 4];
        for round in 0..=arguments.rounds {
            let raw_rate = raw.batched(texts, raw_loop.batch, raw_loop.sessions);
            for (kind, rates) in rates.iter_mut().enumerate() {
                let before = server.cpu_seconds();
                let rate = match kind {
                    0 => load::stream(&clients[0], texts).await,
                    1 => streams(clients, texts).await,
                    2 => load::closed_loop(clients, texts, 8, BATCH).await,
                    _ => load::closed_loop(clients, texts, CONCURRENCY, 1).await,
                };
                // The first round warms up both.
                if round > 0 {
                    rates.push(rate);
                    cpu_seconds[kind] += server.cpu_seconds() - before;
                }
            }
            if round > 0 {
                raw_rates.push(raw_rate);
            }
        }
        let raw_rate = median(raw_rates);
        figures.add(&name("raw_texts_per_second"), raw_rate, "texts/s, fastest raw loop");
        let texts_run = (texts.len() * arguments.rounds) as f64;
        for (((key, through), rates), seconds) in kinds.into_iter().zip(rates).zip(cpu_seconds) {
            let ratio = median(rates) / raw_rate;
            figures.add(&name(&format!("{key}_ratio")), ratio, &format!("of that, through {through}"));
            let micros = seconds / texts_run * 1e6;
            figures.add(&name(&format!("{key}_cpu_us")), micros, "µs of CPU time of encoder-svc per text");
        }
    }

    /// Measures an overload of twice the capacity, which is measured before and after.
    async fn overload(&self, figures: &mut Figures, name: &impl Fn(&str) -> String, clients: &[Client]) {
        let duration = Duration::from_secs(self.arguments.overload_seconds);
        if duration.is_zero() {
            return;
        }
        let before = load::closed_loop(clients, &self.texts, CONCURRENCY, 1).await;
        let outcomes = load::open_loop(clients, &self.texts, 2.0 * before, duration).await;
        let after = load::closed_loop(clients, &self.texts, CONCURRENCY, 1).await;
        let capacity = f64::midpoint(before, after);
        let offered = outcomes.offered() / capacity;
        figures.add(&name("overload_asked_ratio"), offered, "times the capacity was offered");
        let goodput = outcomes.goodput() / capacity;
        figures.add(&name("overload_goodput_ratio"), goodput, "of the capacity is served in time then");
        outcomes.report(figures, name);
    }
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let arguments = Arguments::parse();
    let (texts, source) = arguments.texts.read();
    println!("{} texts of {source}", texts.len());
    let mut figures = Figures::begin();
    let bundle = &arguments.server.bundle;
    let on_cpu = Raw::open(bundle, Device::Cpu).vectors(&texts[..texts.len().min(COMPARED)]);
    let raw = Raw::open(bundle, Device::Cuda);
    let raw_loop = fastest(&mut figures, &arguments, &raw, &texts);
    let benchmark = Benchmark { arguments: &arguments, texts: Arc::new(texts), on_cpu, raw, raw_loop };
    for &sessions in &arguments.sessions {
        for &batch_tokens in &arguments.batch_tokens {
            benchmark.service(&mut figures, sessions, batch_tokens).await;
        }
    }
    figures.write(&arguments.output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_those_of_a_gpu() {
        let arguments = Arguments::parse_from(["load-generator-gpu"]);
        assert_eq!(arguments.texts.texts, 16_000);
        assert!(arguments.server.bundle.ends_with("minilm-512-fp32"));
    }
}
