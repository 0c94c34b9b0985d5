//! Texts per second and core of encoder bundles, as ratios to the first one.
//!
//! Each bundle runs in one session of one thread, each text alone, tokenization included, like a
//! single-core worker of encoder-svc. The bundles alternate every hundred texts, so that machine
//! drift affects them alike.
#![allow(clippy::doc_markdown, reason = "doc comments of arguments are the text of --help")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Parser;
use comfy_table::{Table, presets};
use encoder_svc::inference::device::Device;
use load_generator::load;
use load_generator::raw::{Raw, SingleSession};
use load_generator::texts::TextArguments;
use serde_json::json;

const SLICE: usize = 100;
const RESULTS: &str = "bench-results/bundles.json";

/// Measures texts per second and core of encoder bundles, as ratios to the first one
#[derive(Parser)]
struct Arguments {
    /// Bundle folders; the others are compared with the first one
    #[arg(required = true, value_name = "FOLDER")]
    bundles: Vec<PathBuf>,
    #[command(flatten)]
    texts: TextArguments,
    /// Passed by cargo bench
    #[arg(long, hide = true)]
    bench: bool,
}

struct Contender<'a> {
    session: SingleSession<'a>,
    spent: Duration,
}

impl Contender<'_> {
    fn run(&mut self, texts: &[String]) -> Duration {
        let begin = Instant::now();
        self.session.run(texts, &mut load::histogram());
        begin.elapsed()
    }
}

fn main() -> std::io::Result<()> {
    // cargo runs a benchmark in the folder of its package, but paths are relative to the
    // repository.
    std::env::set_current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))?;
    let arguments = Arguments::parse();
    let (texts, source) = arguments.texts.read();
    let bundles: Vec<_> = arguments.bundles.iter().map(|folder| Raw::open(folder, Device::Cpu)).collect();
    let mut contenders: Vec<_> =
        bundles.iter().map(|raw| Contender { session: raw.single(1), spent: Duration::ZERO }).collect();
    for contender in &mut contenders {
        contender.run(&texts[..texts.len().min(20)]);
    }
    for slice in texts.chunks(SLICE) {
        for contender in &mut contenders {
            let spent = contender.run(slice);
            contender.spent += spent;
        }
    }
    report(&contenders, texts.len(), &source)
}

fn report(contenders: &[Contender<'_>], texts: usize, source: &str) -> std::io::Result<()> {
    let rate = |contender: &Contender<'_>| texts as f64 / contender.spent.as_secs_f64();
    let base = rate(&contenders[0]);
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["bundle", "version", "texts/s and core", "ratio"]);
    let mut results = Vec::new();
    for contender in contenders {
        let (bundle, rate) = (&contender.session.raw.bundle, rate(contender));
        let (id, version) = (bundle.manifest.id.clone(), bundle.manifest.version.clone());
        table.add_row([id, version, format!("{rate:.1}"), format!("{:.2}", rate / base)]);
        results.push(json!({
            "id": bundle.manifest.id,
            "fingerprint": bundle.fingerprint,
            "texts_per_second_and_core": rate,
            "ratio": rate / base,
        }));
    }
    println!("{texts} texts of {source}, each alone, one thread\n{table}");
    let results = json!({ "texts": texts, "source": source, "bundles": results });
    std::fs::create_dir_all("bench-results")?;
    std::fs::write(RESULTS, format!("{results:#}\n"))?;
    println!("wrote {RESULTS}");
    Ok(())
}
