//! `load-generator`: the encoder's figures of `make bench`, as a table and as `bench-results/encoder.json`.
#![allow(clippy::doc_markdown, reason = "doc comments of arguments are the text of --help")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use encoder_svc::inference::device::Device;
use load_generator::collector::Collector;
use load_generator::figures::{Figures, median};
use load_generator::load::{self, Client, quantile};
use load_generator::raw::Raw;
use load_generator::server::{Server, processor_seconds};
use proto::encoder::v1::Priority;
use service_kit::Target;

/// The encoder's own, so that the raw loop has its memory from the same hands.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const BATCH_SIZES: [usize; 4] = [2, 4, 8, 16];
const CALLERS: usize = 32;
/// Of a turn.
const SLICES: usize = 4;
/// For figures of one text at a time: so many, in turns of so many.
const LONE_TEXTS: usize = 600;
const LONE_SLICE: usize = 20;
/// Of an overloading call.
const DEADLINE: Duration = Duration::from_secs(1);

/// Load on a real encoder-svc and on ONNX Runtime alone, in turns, as ratios.
#[derive(Parser)]
struct Arguments {
    /// The encoder-svc to start.
    #[arg(long, default_value = "target/release/encoder-svc")]
    encoder_svc: PathBuf,
    /// The bundle that both sides run.
    #[arg(long, default_value = ".runtime/bundles/minilm-512")]
    bundle: PathBuf,
    /// A movies_metadata.csv, whose overviews are encoded; without it, texts are made up.
    #[arg(long, default_value = "../shared/data/movies_metadata.csv")]
    data: PathBuf,
    /// How many texts.
    #[arg(long, default_value_t = 2000)]
    texts: usize,
    /// Turns of raw loop, stream and unary callers; the median of each counts.
    #[arg(long, default_value_t = 3)]
    turns: usize,
    /// Seconds of twice the capacity.
    #[arg(long, default_value_t = 60)]
    overload_seconds: u64,
    /// Only one text at a time, and the bulk ratios: to compare two builds within minutes.
    #[arg(long)]
    quick: bool,
    /// Where the figures go.
    #[arg(long, default_value = "bench-results/encoder.json")]
    output: PathBuf,
}

/// Texts a second, turn by turn.
#[derive(Default)]
struct Rates {
    alone: Vec<f64>,
    stream: Vec<f64>,
    unary: Vec<f64>,
    /// Of the cores, what this process takes as the 32 callers: cores that the raw loop has for itself.
    callers: Vec<f64>,
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Seconds of a processor that this thread, which makes all calls, has had so far.
fn own_seconds() -> f64 {
    processor_seconds("/proc/thread-self/schedstat".as_ref())
}

/// Raw loop, stream and unary callers, slice after slice of the texts, each turn in another order: the speed of a machine
/// drifts by percents within seconds.
async fn bulk_rates(raw: &Raw, cores: usize, client: &Client, texts: &[String], turns: usize) -> Rates {
    let slices: Vec<_> =
        texts.chunks(texts.len().div_ceil(SLICES)).map(|slice| Arc::new(slice.to_vec())).collect();
    let mut rates = Rates::default();
    for turn in 0..turns {
        let (mut seconds, mut own) = ([0.0; 3], 0.0);
        for slice in &slices {
            for kind in (0..3).map(|kind| (kind + turn) % 3) {
                let rate = match kind {
                    0 => raw.each_alone(slice, cores),
                    1 => load::stream(client, slice).await,
                    _ => {
                        let before = own_seconds();
                        let rate = load::closed_loop(
                            std::slice::from_ref(client),
                            slice,
                            (CALLERS, 1),
                            Priority::Bulk,
                        )
                        .await;
                        own += own_seconds() - before;
                        rate
                    }
                };
                seconds[kind] += slice.len() as f64 / rate;
            }
        }
        rates.callers.push(own / seconds[2] / cores as f64);
        let [alone, stream, unary] = seconds.map(|seconds| texts.len() as f64 / seconds);
        rates.alone.push(alone);
        rates.stream.push(stream);
        rates.unary.push(unary);
    }
    rates
}

/// Medians of one text at a time, nothing else running, in milliseconds.
struct Lone {
    narrow: f64,
    wide: f64,
    online: f64,
    empty: f64,
}

/// Raw runs on one thread and on all cores, online calls, and calls that run nothing, slice after slice of the texts, each time in
/// another order.
async fn lone(raw: &Raw, cores: usize, client: &Client, texts: &[String]) -> Lone {
    let mut raw = [1, cores].map(|threads| raw.one_caller(threads));
    let mut latencies = [(); 4].map(|()| load::histogram());
    for (turn, slice) in texts.chunks(LONE_SLICE).enumerate() {
        for kind in (0..4).map(|kind| (kind + turn) % 4) {
            let latencies = &mut latencies[kind];
            match kind {
                0 | 1 => raw[kind].run(slice, latencies),
                2 => load::one_caller(client, slice, latencies).await,
                _ => load::empty_calls(client, slice.len(), latencies).await,
            }
        }
    }
    let [narrow, wide, online, empty] = latencies.map(|latencies| quantile(&latencies, 0.5));
    Lone { narrow, wide, online, empty }
}

/// What traces to a collector beside it cost an encoder, sampled as by default, by callers that take turns with the same binary
/// without.
async fn traced(figures: &mut Figures, arguments: &Arguments, client: &Client, texts: &Arc<Vec<String>>) {
    let collector = Collector::start().await.expect("a free port");
    let server = Server::start(
        &arguments.encoder_svc,
        &arguments.bundle,
        &[("ENCODER_SVC_TRACE__ENDPOINT", &collector.url)],
    )
    .await;
    let traced = Client::new(Target::parse(&server.url).expect("our own address").channel(None, None));
    let mut ratios = Vec::new();
    for _ in 0..=arguments.turns {
        let without =
            load::closed_loop(std::slice::from_ref(client), texts, (CALLERS, 1), Priority::Bulk).await;
        ratios.push(
            load::closed_loop(std::slice::from_ref(&traced), texts, (CALLERS, 1), Priority::Bulk).await
                / without,
        );
    }
    // The first turn warms both.
    figures.add(
        "traced_unary_ratio",
        median(ratios.split_off(1)),
        "of the throughput without traces, when they are sampled as by default",
    );
    figures.add("traced_spans", collector.spans() as f64, "spans came to the collector");
}

/// Twice the capacity for so long, and how it is after that.
async fn overload(
    figures: &mut Figures,
    server: &Server,
    client: &Client,
    texts: &Arc<Vec<String>>,
    usual: &Usual,
    seconds: u64,
) {
    let duration = Duration::from_secs(seconds);
    // What it can do is measured on both sides of the overload: a machine drifts by more within a minute than is looked for.
    let capacity_before =
        load::closed_loop(std::slice::from_ref(client), texts, (CALLERS, 1), Priority::Bulk).await;
    let memory_before = server.memory_mib("VmRSS");
    let own = own_seconds();
    let outcomes =
        load::open_loop(std::slice::from_ref(client), texts, 2.0 * capacity_before, duration, DEADLINE).await;
    let end = Instant::now();
    let own = (own_seconds() - own) / outcomes.took.as_secs_f64() / cores() as f64;
    let mut recovery = f64::NAN;
    while end.elapsed() < Duration::from_secs(10) {
        let mut latencies = load::histogram();
        load::one_caller(client, &texts[..5], &mut latencies).await;
        if quantile(&latencies, 0.5) < 2.0 * usual.online_ms {
            recovery = end.elapsed().as_secs_f64();
            break;
        }
    }
    let growth = server.memory_mib("VmRSS") - memory_before;
    let capacity_after =
        load::closed_loop(std::slice::from_ref(client), texts, (CALLERS, 1), Priority::Bulk).await;
    let capacity = f64::midpoint(capacity_before, capacity_after);
    let goodput = outcomes.answered.len() as f64 / outcomes.took.as_secs_f64() / capacity;
    figures.add(
        "overload_goodput_ratio",
        goodput,
        "of the capacity is answered in time at twice the capacity",
    );
    figures.add("overload_callers_share", own, "of the cores, which those callers take themselves");
    figures.add(
        "overload_goodput_of_cores_left_ratio",
        goodput * (1.0 - usual.callers) / (1.0 - own),
        "of the capacity of the cores that they leave",
    );
    figures.add("overload_refused_p50_ms", quantile(&outcomes.refused, 0.5), "ms to a refusal, p50");
    figures.add("overload_refused_p99_ms", quantile(&outcomes.refused, 0.99), "ms to a refusal, p99");
    figures.add("overload_answered_p99_ms", quantile(&outcomes.answered, 0.99), "ms to an answer, p99");
    figures.add("overload_refused", outcomes.refused.len() as f64, "calls refused");
    figures.add("overload_late", outcomes.late as f64, "calls admitted and late");
    figures.add("overload_failed", outcomes.failed as f64, "calls failed otherwise");
    figures.add("overload_memory_growth_mib", growth, "MiB grown");
    figures.add("overload_recovery_seconds", recovery, "seconds until a lone text is as fast as before");
}

/// How it is without a load: what figures under one are held against.
struct Usual {
    /// Texts a second of one stream.
    stream: f64,
    /// Of the cores, what 32 unary callers take.
    callers: f64,
    /// Of a raw run on one thread.
    narrow_ms: f64,
    /// Of one online text.
    online_ms: f64,
}

/// Raw batches, traces, an online text beside bulk, and twice the capacity.
async fn under_load(
    figures: &mut Figures,
    arguments: &Arguments,
    raw: &Raw,
    server: &Server,
    client: &Client,
    texts: &Arc<Vec<String>>,
    usual: &Usual,
) {
    let sizes = BATCH_SIZES.map(|size| (raw.batched(texts, size, cores()), size));
    let (best_batched, size) =
        sizes.into_iter().fold((0.0, 0), |best, next| if next.0 > best.0 { next } else { best });
    figures.add(
        "raw_best_batched_texts_per_second",
        best_batched,
        &format!("texts/s, best raw batches, of {size}"),
    );
    figures.add("bulk_over_best_batched_ratio", usual.stream / best_batched, "of that, through one stream");
    traced(figures, arguments, client, texts).await;
    figures.add("rss_mib", server.memory_mib("VmRSS"), "MiB resident after that");

    let bulk = tokio::spawn({
        let (client, texts) = (client.clone(), texts.clone());
        async move {
            loop {
                load::stream(&client, &texts).await;
            }
        }
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut under_bulk = load::histogram();
    load::one_caller(client, &texts[..texts.len().min(1000)], &mut under_bulk).await;
    bulk.abort();
    let runs = quantile(&under_bulk, 0.99) / usual.narrow_ms;
    figures.add(
        "online_p99_under_bulk_ms",
        quantile(&under_bulk, 0.99),
        "ms, one online text while bulk saturates, p99",
    );
    figures.add("online_p99_under_bulk_runs", runs, "median runs of one text, that is");
    tokio::time::sleep(Duration::from_secs(1)).await;

    overload(figures, server, client, texts, usual, arguments.overload_seconds).await;
    figures.add("peak_memory_mib", server.memory_mib("VmHWM"), "MiB at most");
}

// One thread: the load takes as little as it can of the cores that it shares with the encoder.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    let (texts, source) = load_generator::texts::texts(&arguments.data, arguments.texts);
    let texts = Arc::new(texts);
    let cores = cores();
    println!("{} texts of {source}, {cores} cores", texts.len());
    let raw = Raw::open(&arguments.bundle, Device::Cpu);
    let mut figures = Figures::default();

    let server = Server::start(&arguments.encoder_svc, &arguments.bundle, &[]).await;
    let client = Client::new(Target::parse(&server.url)?.channel(None, None));
    load::one_caller(&client, &texts[..texts.len().min(50)], &mut load::histogram()).await;
    figures.add("ready_seconds", server.ready.as_secs_f64(), "seconds from start to ready");

    let Lone { narrow, wide, online, empty } =
        lone(&raw, cores, &client, &texts[..texts.len().min(LONE_TEXTS)]).await;
    figures.add("raw_one_thread_p50_ms", narrow, "ms, raw run of one text, one thread, p50");
    figures.add("raw_all_cores_p50_ms", wide, "ms, raw run of one text, all cores, p50");
    figures.add("online_p50_ms", online, "ms, one online text, nothing else running, p50");
    figures.add("online_p50_over_raw_ms", online - narrow.min(wide), "ms, that over the best raw run");
    figures.add("empty_call_p50_ms", empty, "ms, a call that runs nothing, p50");

    let Rates { alone, stream, unary, callers } =
        bulk_rates(&raw, cores, &client, &texts, arguments.turns).await;
    let ratios = |ours: &[f64]| median(ours.iter().zip(&alone).map(|(ours, raw)| ours / raw).collect());
    figures.add("raw_texts_per_second", median(alone.clone()), "texts/s, raw loop, each text alone");
    figures.add("bulk_stream_ratio", ratios(&stream), "of that, through one stream");
    figures.add("bulk_unary_ratio", ratios(&unary), "of that, through 32 unary callers");
    let callers = median(callers);
    figures.add("bulk_unary_callers_share", callers, "of the cores, which those callers take themselves");
    if !arguments.quick {
        let usual = Usual { stream: median(stream), callers, narrow_ms: narrow, online_ms: online };
        under_load(&mut figures, &arguments, &raw, &server, &client, &texts, &usual).await;
    }

    figures.write(&arguments.output)?;
    Ok(())
}
