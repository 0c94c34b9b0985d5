//! Texts per second and core of encoder bundles, as ratios to the first one named.
//!
//! One session of one thread, each text alone, tokenization included: what a worker of the service does. The bundles
//! take turns of a hundred texts, so that whatever else the machine does falls on all of them alike.
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot run says why and ends")]
#![allow(clippy::doc_markdown, reason = "doc comments of arguments are the text of --help")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Parser;
use comfy_table::{Table, presets};
use encoder_svc::bundle::Bundle;
use encoder_svc::inference::session::EncoderSession;
use encoder_svc::inference::shared_weights::SharedWeights;
use encoder_svc::tokenizer::TextTokenizer;
use serde_json::json;

const TURN: usize = 100;
const RESULTS: &str = "bench-results/bundles.json";

/// Texts per second and core of encoder bundles, as ratios to the first one.
#[derive(Parser)]
struct Arguments {
    /// Folders of bundles; the first is what the others are held against.
    #[arg(required = true)]
    bundles: Vec<PathBuf>,
    /// A movies_metadata.csv, whose overviews are encoded; without it, texts are made up.
    #[arg(long, default_value = "../shared/data/movies_metadata.csv")]
    data: PathBuf,
    /// How many texts.
    #[arg(long, default_value_t = 2000)]
    texts: usize,
    /// cargo bench passes it.
    #[arg(long, hide = true)]
    bench: bool,
}

struct Contender {
    bundle: Bundle,
    tokenizer: TextTokenizer,
    session: EncoderSession,
    spent: Duration,
}

impl Contender {
    fn load(folder: &Path) -> Self {
        let environment =
            encoder_svc::inference::onnx_runtime::load(None).unwrap_or_else(|error| panic!("{error}"));
        let bundle = Bundle::open(folder).unwrap_or_else(|error| panic!("{error}"));
        let tokenizer = TextTokenizer::load(&bundle).unwrap();
        let weights = SharedWeights::read(&bundle.model_path()).unwrap();
        let session = EncoderSession::load(&environment, &bundle, &weights, 1).unwrap();
        Self { bundle, tokenizer, session, spent: Duration::ZERO }
    }

    fn encode(&mut self, texts: &[String]) -> Duration {
        let begin = Instant::now();
        for text in texts {
            let tokens = self.tokenizer.tokenize(text).unwrap();
            std::hint::black_box(self.session.run(&tokens).unwrap());
        }
        begin.elapsed()
    }
}

fn main() {
    // cargo runs benches in their package's folder; paths are meant from the repository's root.
    std::env::set_current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")).unwrap();
    let arguments = Arguments::parse();
    let (texts, source) = load_generator::texts::texts(&arguments.data, arguments.texts);
    let mut contenders: Vec<_> = arguments.bundles.iter().map(|folder| Contender::load(folder)).collect();
    for contender in &mut contenders {
        contender.encode(&texts[..texts.len().min(20)]);
    }
    for turn in texts.chunks(TURN) {
        for contender in &mut contenders {
            let spent = contender.encode(turn);
            contender.spent += spent;
        }
    }
    report(&contenders, texts.len(), &source);
}

fn report(contenders: &[Contender], texts: usize, source: &str) {
    let rate = |contender: &Contender| texts as f64 / contender.spent.as_secs_f64();
    let base = rate(&contenders[0]);
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["bundle", "version", "texts/s and core", "ratio"]);
    let mut results = Vec::new();
    for contender in contenders {
        let (manifest, rate) = (&contender.bundle.manifest, rate(contender));
        table.add_row([
            manifest.id.clone(),
            manifest.version.clone(),
            format!("{rate:.1}"),
            format!("{:.2}", rate / base),
        ]);
        results.push(json!({
            "id": manifest.id,
            "fingerprint": contender.bundle.fingerprint,
            "texts_per_second_and_core": rate,
            "ratio": rate / base,
        }));
    }
    println!("{texts} texts of {source}, each alone, one thread\n{table}");
    let results = json!({ "texts": texts, "source": source, "bundles": results });
    std::fs::create_dir_all("bench-results").unwrap();
    std::fs::write(RESULTS, format!("{results:#}\n")).unwrap();
    println!("wrote {RESULTS}");
}
