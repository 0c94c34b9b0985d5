//! `load-generator`: measures encoder-svc on the CPU, for the table and
//! `bench-results/encoder.json` of `make bench`.
#![allow(clippy::doc_markdown, reason = "doc comments of arguments are the text of --help")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use encoder_svc::inference::device::Device;
use load_generator::collector::Collector;
use load_generator::cores;
use load_generator::figures::{Figures, median};
use load_generator::load::{self, Client, quantile};
use load_generator::noise::{COMPETE, Noise, compete};
use load_generator::raw::Raw;
use load_generator::server::{Server, ServerArguments, own_cpu_seconds};
use load_generator::texts::TextArguments;

const BATCH_SIZES: [usize; 4] = [2, 4, 8, 16];
/// Concurrent unary calls that saturate the encoder.
const CONCURRENCY: usize = 32;
/// Slices of the texts in a round. The contenders alternate within each slice.
const SLICES: usize = 4;
/// Texts for the latency of single texts, and how many each contender takes before the next one.
const SINGLE_TEXTS: usize = 600;
const SINGLE_SLICE: usize = 20;

/// Measures encoder-svc on the CPU, as ratios to ONNX Runtime alone
///
/// Starts encoder-svc on a free port, without a cache, and opens the same bundle in this process
/// ("raw"). Both encode the same texts and take turns within seconds, because the speed of a
/// machine drifts. Compare ratios between runs, not texts per second. Figures are printed as they
/// are measured, then as a table, and written as JSON.
///
/// Measures, in this order: the time to readiness; the latency of a single online text beside a raw
/// run and an empty call; the throughput of one bulk stream and of 32 concurrent unary calls, as
/// ratios to raw; raw batches; the cost of traces; online latency while bulk texts saturate the
/// encoder; and goodput, latencies, memory and recovery at twice the capacity.
#[derive(Parser)]
#[command(after_long_help = "\
Examples:
  load-generator
          Measure target/release/encoder-svc in about four minutes
  load-generator --quick --encoder-svc old/encoder-svc --output bench-results/old.json
  load-generator --quick --output bench-results/new.json
          Compare two builds: alternate these two commands a few times, then compare the ratios in the files
  load-generator --noise --output bench-results/encoder-noise.json
          Measure beside a process that uses a core in bursts
  load-generator --quick --texts 200 --rounds 1
          Check within a minute that everything works")]
struct Arguments {
    #[command(flatten)]
    server: ServerArguments,
    #[command(flatten)]
    texts: TextArguments,
    /// Rounds of raw runs, a stream and unary calls; the figures are medians of the rounds
    #[arg(long, value_name = "N", alias = "turns", default_value_t = 3)]
    rounds: usize,
    /// Duration of the overload at twice the capacity
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    overload_seconds: u64,
    /// Measure only single texts and bulk throughput, to compare two builds within minutes
    #[arg(long)]
    quick: bool,
    /// Let a competing process use every second core in bursts meanwhile, for about a third of the
    /// time, as a neighbour on the same machine does
    #[arg(long)]
    noise: bool,
    /// Be the competing process of --noise, until standard input ends
    #[arg(long = COMPETE.trim_start_matches('-'), hide = true)]
    compete: bool,
    /// The JSON file to write
    #[arg(long, value_name = "FILE", default_value = "bench-results/encoder.json")]
    output: PathBuf,
}

/// Texts per second of an encoder that is saturated with calls of one text.
async fn unary_rate(client: &Client, texts: &Arc<Vec<String>>) -> f64 {
    load::closed_loop(std::slice::from_ref(client), texts, CONCURRENCY, 1).await
}

/// Bulk throughput in texts per second, one value per round.
#[derive(Default)]
struct BulkRates {
    raw: Vec<f64>,
    stream: Vec<f64>,
    unary: Vec<f64>,
    /// The share of all cores that this process spends on making the unary calls, and that raw runs
    /// have for themselves.
    client_share: Vec<f64>,
}

/// Measures raw runs, a stream and unary calls on each slice of the texts, in an order that changes
/// with each round.
async fn bulk_rates(raw: &Raw, client: &Client, texts: &[String], rounds: usize) -> BulkRates {
    let slices: Vec<_> =
        texts.chunks(texts.len().div_ceil(SLICES)).map(|slice| Arc::new(slice.to_vec())).collect();
    let mut rates = BulkRates::default();
    for round in 0..rounds {
        let (mut seconds, mut own) = ([0.0; 3], 0.0);
        for slice in &slices {
            for kind in (0..3).map(|kind| (kind + round) % 3) {
                let rate = match kind {
                    0 => raw.each_alone(slice, cores()),
                    1 => load::stream(client, slice).await,
                    _ => {
                        let before = own_cpu_seconds();
                        let rate = unary_rate(client, slice).await;
                        own += own_cpu_seconds() - before;
                        rate
                    }
                };
                seconds[kind] += slice.len() as f64 / rate;
            }
        }
        rates.client_share.push(own / seconds[2] / cores() as f64);
        let [raw, stream, unary] = seconds.map(|seconds| texts.len() as f64 / seconds);
        rates.raw.push(raw);
        rates.stream.push(stream);
        rates.unary.push(unary);
    }
    rates
}

/// Median latencies of single texts on an idle machine, in milliseconds.
struct SingleText {
    raw_one_thread: f64,
    raw_all_cores: f64,
    online: f64,
    empty_call: f64,
}

/// Measures raw runs on one thread and on all cores, online calls and empty calls, slice by slice,
/// in a changing order.
async fn single_text(raw: &Raw, client: &Client, texts: &[String]) -> SingleText {
    let mut sessions = [1, cores()].map(|threads| raw.single(threads));
    let mut latencies = [(); 4].map(|()| load::histogram());
    for (round, slice) in texts.chunks(SINGLE_SLICE).enumerate() {
        for kind in (0..4).map(|kind| (kind + round) % 4) {
            let latencies = &mut latencies[kind];
            match kind {
                0 | 1 => sessions[kind].run(slice, latencies),
                2 => load::online_calls(client, slice, latencies).await,
                _ => load::empty_calls(client, slice.len(), latencies).await,
            }
        }
    }
    let [raw_one_thread, raw_all_cores, online, empty_call] =
        latencies.map(|latencies| quantile(&latencies, 0.5));
    SingleText { raw_one_thread, raw_all_cores, online, empty_call }
}

/// The baseline for measurements under load.
struct Baseline {
    /// Texts per second of one stream.
    stream: f64,
    /// Share of all cores that this process spends on 32 concurrent unary calls.
    client_share: f64,
    /// Latency of a raw run on one thread.
    raw_one_thread_ms: f64,
    /// Latency of an online text on an idle machine.
    online_ms: f64,
}

struct Benchmark {
    arguments: Arguments,
    texts: Arc<Vec<String>>,
    raw: Raw,
    server: Server,
    client: Client,
    figures: Figures,
}

impl Benchmark {
    fn add(&mut self, key: &str, value: f64, description: &str) {
        self.figures.add(key, value, description);
    }

    fn first_texts(&self, count: usize) -> &[String] {
        &self.texts[..self.texts.len().min(count)]
    }

    async fn idle(&mut self) -> Baseline {
        load::online_calls(&self.client, self.first_texts(50), &mut load::histogram()).await;
        self.add("ready_seconds", self.server.ready.as_secs_f64(), "seconds from start to ready");

        let single = single_text(&self.raw, &self.client, self.first_texts(SINGLE_TEXTS)).await;
        let best_raw = single.raw_one_thread.min(single.raw_all_cores);
        self.add("raw_one_thread_p50_ms", single.raw_one_thread, "ms, raw run of one text, one thread, p50");
        self.add("raw_all_cores_p50_ms", single.raw_all_cores, "ms, raw run of one text, all cores, p50");
        self.add("online_p50_ms", single.online, "ms, one online text, nothing else running, p50");
        self.add("online_p50_over_raw_ms", single.online - best_raw, "ms, that minus the faster raw run");
        self.add("empty_call_p50_ms", single.empty_call, "ms, a call that runs no graph, p50");

        let BulkRates { raw, stream, unary, client_share } =
            bulk_rates(&self.raw, &self.client, &self.texts, self.arguments.rounds).await;
        let ratio = |rates: &[f64]| median(rates.iter().zip(&raw).map(|(rate, raw)| rate / raw).collect());
        let client_share = median(client_share);
        self.add("raw_texts_per_second", median(raw.clone()), "texts/s, raw, each text alone");
        self.add("bulk_stream_ratio", ratio(&stream), "of that, through one stream");
        self.add("bulk_unary_ratio", ratio(&unary), "of that, through 32 concurrent unary calls");
        self.add("bulk_unary_callers_share", client_share, "of the cores is spent on making those calls");
        Baseline {
            stream: median(stream),
            client_share,
            raw_one_thread_ms: single.raw_one_thread,
            online_ms: single.online,
        }
    }

    async fn under_load(&mut self, baseline: &Baseline) {
        let batched = BATCH_SIZES.map(|size| (self.raw.batched(&self.texts, size, cores()), size));
        let (best, size) = batched.into_iter().max_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or_default();
        let description = format!("texts/s, best raw batches, of {size}");
        self.add("raw_best_batched_texts_per_second", best, &description);
        self.add("bulk_over_best_batched_ratio", baseline.stream / best, "of that, through one stream");
        self.traced().await;
        self.add("rss_mib", self.server.memory_mib("VmRSS"), "MiB resident after that");

        let bulk = {
            let (client, texts) = (self.client.clone(), self.texts.clone());
            async move {
                loop {
                    load::stream(&client, &texts).await;
                }
            }
        };
        let latencies = load::online_calls_under_bulk(&self.client, self.first_texts(1000), bulk).await;
        let p99 = quantile(&latencies, 0.99);
        self.add("online_p99_under_bulk_ms", p99, "ms, one online text while bulk texts saturate, p99");
        let runs = p99 / baseline.raw_one_thread_ms;
        self.add("online_p99_under_bulk_runs", runs, "times a raw run of one text on one thread");
        tokio::time::sleep(Duration::from_secs(1)).await;

        self.overload(baseline).await;
        self.add("peak_memory_mib", self.server.memory_mib("VmHWM"), "MiB resident at most");
    }

    /// Measures what traces cost, with default sampling and a collector on this machine. A second
    /// encoder-svc with traces alternates with the first one without.
    async fn traced(&mut self) {
        let collector = Collector::start().await.expect("a port is free");
        let server =
            Server::start(&self.arguments.server, &[("ENCODER_SVC_TRACE__ENDPOINT", &collector.url)]).await;
        let traced = server.client();
        let mut ratios = Vec::new();
        for round in 0..=self.arguments.rounds {
            let without = unary_rate(&self.client, &self.texts).await;
            let ratio = unary_rate(&traced, &self.texts).await / without;
            // The first round warms up both.
            if round > 0 {
                ratios.push(ratio);
            }
        }
        let description = "of the throughput without traces, with traces sampled at the default rate";
        self.add("traced_unary_ratio", median(ratios), description);
        self.add("traced_spans", collector.spans() as f64, "spans reached the collector");
    }

    /// Measures twice the capacity, and how fast the encoder recovers.
    async fn overload(&mut self, baseline: &Baseline) {
        let Self { arguments, texts, server, client, figures, .. } = self;
        let duration = Duration::from_secs(arguments.overload_seconds);
        // The capacity is measured before and after: within a minute a machine drifts by more than
        // the expected effect.
        let capacity_before = unary_rate(client, texts).await;
        let memory_before = server.memory_mib("VmRSS");
        let own = own_cpu_seconds();
        let clients = std::slice::from_ref(&*client);
        let outcomes = load::open_loop(clients, texts, 2.0 * capacity_before, duration).await;
        let end = Instant::now();
        let own = (own_cpu_seconds() - own) / outcomes.took.as_secs_f64() / cores() as f64;
        let mut recovery = f64::NAN;
        while end.elapsed() < Duration::from_secs(10) {
            let mut latencies = load::histogram();
            load::online_calls(client, &texts[..5], &mut latencies).await;
            if quantile(&latencies, 0.5) < 2.0 * baseline.online_ms {
                recovery = end.elapsed().as_secs_f64();
                break;
            }
        }
        let growth = server.memory_mib("VmRSS") - memory_before;
        let capacity = f64::midpoint(capacity_before, unary_rate(client, texts).await);

        let goodput = outcomes.goodput() / capacity;
        let of_cores_left = goodput * (1.0 - baseline.client_share) / (1.0 - own);
        let description = "of the capacity is served in time at twice the capacity";
        figures.add("overload_goodput_ratio", goodput, description);
        figures.add("overload_callers_share", own, "of the cores is spent on making those calls");
        let description = "of the capacity of the cores that are left";
        figures.add("overload_goodput_of_cores_left_ratio", of_cores_left, description);
        outcomes.report(figures, str::to_owned);
        figures.add("overload_memory_growth_mib", growth, "MiB of growth");
        figures.add("overload_recovery_seconds", recovery, "seconds until a single text is fast again");
    }
}

// One thread, so that making the load takes as few cycles as possible from the encoder on the same
// cores.
#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let arguments = Arguments::parse();
    if arguments.compete {
        compete();
        return Ok(());
    }
    let (texts, source) = arguments.texts.read();
    println!("{} texts of {source}, {} cores", texts.len(), cores());
    let raw = Raw::open(&arguments.server.bundle, Device::Cpu);
    let server = Server::start(&arguments.server, &[]).await;
    let client = server.client();
    let quick = arguments.quick;
    let mut figures = Figures::begin();
    figures.note("noise", arguments.noise);
    let _noise = arguments.noise.then(Noise::start);
    let mut benchmark = Benchmark { arguments, texts: Arc::new(texts), raw, server, client, figures };
    let baseline = benchmark.idle().await;
    if !quick {
        benchmark.under_load(&baseline).await;
    }
    benchmark.figures.write(&benchmark.arguments.output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_turns_as_the_old_name_of_rounds() {
        let arguments = Arguments::parse_from(["load-generator", "--quick", "--turns", "5"]);
        assert_eq!((arguments.quick, arguments.rounds, arguments.texts.texts), (true, 5, 2000));
    }
}
