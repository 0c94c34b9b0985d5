//! `load-generator-bulk`: measures `trainer classify` and `trainer encode`, for the table and
//! `bench-results/bulk.json` of `make bench-bulk`.
#![allow(clippy::doc_markdown, reason = "doc comments of arguments are the text of --help")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::Parser;
use encoder_svc::inference::device::Device;
use load_generator::figures::{Figures, median};
use load_generator::raw::Raw;
use load_generator::server::{Server, ServerArguments, memory_mib};
use load_generator::texts::{TextArguments, WORDS};

/// How often a running command is looked at.
const POLL: Duration = Duration::from_millis(10);
/// Linux counts the CPU time of a process in hundredths of a second.
const TICKS: f64 = 100.0;
/// Tokens of the texts whose rate is measured by length.
const LENGTHS: [usize; 5] = [16, 32, 64, 128, 256];
/// Tokens of all texts of a length together, so that each length takes about as long.
const TOKENS_OF_A_LENGTH: usize = 6_000;
/// Bytes of the longest text, since an encoder counts no more tokens than it reads.
const LONGEST_TEXT: usize = 2_000;

/// Measures `trainer classify` end to end, as a ratio to ONNX Runtime alone on the same texts
///
/// In each round, the raw loop (each text alone, one session a core), `trainer encode` and `trainer
/// classify` work on the same movies in turns, in an order that changes from round to round, because
/// the speed of a machine drifts. Both commands call one encoder-svc without a cache. Their times are
/// those of whole processes: they read a CSV file, and write and sync a table.
///
/// Then one session runs texts of 16 to 256 tokens on one core, with each of the bundles.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    server: ServerArguments,
    #[command(flatten)]
    texts: TextArguments,
    /// The trainer binary to measure
    #[arg(long, value_name = "BINARY", default_value = "target/release/trainer")]
    trainer: PathBuf,
    /// The model to classify with
    #[arg(long, value_name = "FILE.safetensors", default_value = "models/default.safetensors")]
    model: PathBuf,
    /// Rounds; the figures are medians of the rounds
    #[arg(long, value_name = "N", default_value_t = 3)]
    rounds: usize,
    /// Bundles whose rate is measured by length of text; a missing one is left out
    #[arg(long, value_name = "FOLDER", num_args = 0.., default_values = [".runtime/bundles/minilm-512", ".runtime/bundles/minilm-512-fp32"])]
    lengths_of: Vec<PathBuf>,
    /// The JSON file to write
    #[arg(long, value_name = "FILE", default_value = "bench-results/bulk.json")]
    output: PathBuf,
}

/// What one run of a command took.
#[derive(Clone, Copy)]
struct Run {
    rows_per_second: f64,
    peak_mib: f64,
    cpu_ms_per_row: f64,
}

impl Arguments {
    /// Runs `trainer COMMAND` on the movies in `folder`, and removes what it wrote.
    async fn run(&self, command: &str, folder: &Path, url: &str, rows: usize) -> Run {
        let output = folder.join(format!("{command}.parquet"));
        let binary = self.trainer.display();
        let mut arguments = vec![command, "--encoder", url];
        let model = self.model.display().to_string();
        if command == "classify" {
            arguments.extend(["--model", &model]);
        }
        let begin = Instant::now();
        let mut child = Command::new(&self.trainer)
            .args(arguments)
            .arg("--input")
            .arg(folder.join("movies.csv"))
            .arg("--output")
            .arg(&output)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {binary}: {error}"));
        let (mut peak_mib, mut cpu_seconds) = (0.0, 0.0);
        let status = loop {
            let (mib, seconds) = usage(child.id());
            peak_mib = f64::max(peak_mib, mib);
            cpu_seconds = f64::max(cpu_seconds, seconds);
            match child.try_wait() {
                Ok(None) => tokio::time::sleep(POLL).await,
                Ok(Some(status)) => break status,
                Err(error) => panic!("cannot wait for {binary}: {error}"),
            }
        };
        let seconds = begin.elapsed().as_secs_f64();
        assert!(status.success(), "{binary} {command} failed: run it by hand to see why");
        std::fs::remove_file(&output).unwrap_or_else(|error| panic!("{}: {error}", output.display()));
        let (rows_per_second, cpu_ms_per_row) = (rows as f64 / seconds, 1e3 * cpu_seconds / rows as f64);
        Run { rows_per_second, peak_mib, cpu_ms_per_row }
    }
}

/// Returns the most resident mebibytes and the CPU seconds of a process; 0 without `/proc`.
fn usage(process: u32) -> (f64, f64) {
    // The name of the command, in parentheses, may contain spaces.
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
    let ticks: f64 = fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum();
    (memory_mib(process, "VmHWM"), ticks / TICKS)
}

/// Writes the texts as movies without titles, whose texts to encode are their overviews.
fn write_movies(texts: &[String], path: &Path) -> std::io::Result<()> {
    let mut writer = csv::Writer::from_path(path)?;
    writer.write_record(["id", "title", "overview", "genres"])?;
    for (index, text) in texts.iter().enumerate() {
        writer.write_record([&(index + 1).to_string(), "", text, "[{'id': 18, 'name': 'Drama'}]"])?;
    }
    writer.flush()
}

/// Measures the texts a second of one core, by bundle and length. The lengths take turns.
fn by_length(arguments: &Arguments, figures: &mut Figures) {
    for folder in arguments.lengths_of.iter().filter(|folder| folder.is_dir()) {
        let raw = Raw::open(folder, Device::Cpu);
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let texts = LENGTHS.map(|tokens| texts_of_length(&raw, tokens));
        let mut rates = LENGTHS.map(|_| Vec::new());
        for _ in 0..arguments.rounds {
            for (rates, texts) in rates.iter_mut().zip(&texts) {
                rates.push(raw.each_alone(texts, 1));
            }
        }
        for (tokens, rates) in LENGTHS.iter().zip(rates) {
            let description = format!("texts/s of one core, {name}, {tokens} tokens");
            figures.add(&format!("{name}_{tokens}_tokens_texts_per_second"), median(rates), &description);
        }
    }
}

/// Returns different texts of exactly this many tokens, if the encoder reads as many.
fn texts_of_length(raw: &Raw, tokens: usize) -> Vec<String> {
    let text = |number: usize| {
        let mut text = format!("{number}");
        for word in WORDS.iter().cycle().skip(number) {
            let longer = format!("{text} {word}");
            if raw.tokens(&longer) > tokens || longer.len() > LONGEST_TEXT {
                break;
            }
            text = longer;
        }
        text
    };
    (0..TOKENS_OF_A_LENGTH / tokens).map(text).collect()
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let arguments = Arguments::parse();
    let (texts, source) = arguments.texts.read();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut figures = Figures::begin();
    println!("{} texts of {source}, {cores} cores", texts.len());
    let folder = std::env::temp_dir().join(format!("bench-bulk-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    write_movies(&texts, &folder.join("movies.csv"))?;
    let raw = Raw::open(&arguments.server.bundle, Device::Cpu);
    let server = Server::start(&arguments.server, &[]).await;

    let (mut raws, mut encodes, mut classifies) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..arguments.rounds {
        for turn in 0..3 {
            match (round + turn) % 3 {
                0 => raws.push(raw.each_alone(&texts, cores)),
                1 => encodes.push(arguments.run("encode", &folder, server.url(), texts.len()).await),
                _ => classifies.push(arguments.run("classify", &folder, server.url(), texts.len()).await),
            }
        }
    }
    let over = |runs: &[Run], base: &[f64]| {
        median(runs.iter().zip(base).map(|(run, base)| run.rows_per_second / base).collect())
    };
    let encode_rates: Vec<f64> = encodes.iter().map(|run| run.rows_per_second).collect();
    figures.add("raw_texts_per_second", median(raws.clone()), "texts/s, raw, each text alone");
    for (command, runs) in [("encode", &encodes), ("classify", &classifies)] {
        let of = |value: fn(&Run) -> f64| median(runs.iter().map(value).collect());
        let named = |what: &str| format!("{command}_{what}");
        let rate = of(|run| run.rows_per_second);
        figures.add(&named("rows_per_second"), rate, &format!("rows/s, trainer {command}, end to end"));
        figures.add(&named("over_raw_ratio"), over(runs, &raws), "of the raw loop");
        let cpu = of(|run| run.cpu_ms_per_row);
        figures.add(&named("cpu_ms_per_row"), cpu, "ms of CPU a row in the trainer");
        figures.add(&named("peak_mib"), of(|run| run.peak_mib), "MiB resident at most in the trainer");
    }
    let ratio = over(&classifies, &encode_rates);
    figures.add("classify_over_encode_ratio", ratio, "of trainer encode, by trainer classify");
    std::fs::remove_dir_all(&folder)?;
    drop(server);
    by_length(&arguments, &mut figures);
    figures.write(&arguments.output)
}
