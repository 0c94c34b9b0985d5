//! Measures the latency that the classifier adds to the encoder.
//!
//! Calls both alternately with one text at a time, over real sockets, in one process. Writes
//! `bench-results/classifier.json`.
#![allow(clippy::unwrap_used, reason = "a benchmark may panic")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use classifier_svc::{ClassifierSvcConfig, ClassifierSvcSettings};
use comfy_table::{Table, presets};
use encoder_svc::{EncoderSvcConfig, EncoderSvcSettings};
use genre_model::GenreModel;
use proto::classifier::v1::ClassifyRequest;
use proto::classifier::v1::classifier_service_client::ClassifierServiceClient;
use proto::encoder::v1::EncodeRequest;
use proto::encoder::v1::encoder_service_client::EncoderServiceClient;
use service_kit::{Listeners, Shutdown, Target};

const WARM_UP: usize = 50;
const ROUNDS: usize = 1500;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// An invented overview of 20 to 90 words; only its length matters.
fn overview(index: usize) -> String {
    const WORDS: [&str; 12] = [
        "a", "pilot", "finds", "the", "harbour", "where", "her", "brother", "vanished", "and", "storm",
        "returns",
    ];
    let words = 20 + index * 7 % 70;
    (0..words).map(|word| WORDS[(index * 5 + word * 7) % WORDS.len()]).collect::<Vec<_>>().join(" ")
}

fn percentile(sorted: &[Duration], fraction: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * fraction) as usize].as_secs_f64() * 1e3
}

#[tokio::main]
async fn main() {
    let shutdown = Shutdown::new();
    let any = "127.0.0.1:0".parse().unwrap();
    let mut settings = EncoderSvcSettings::default();
    settings.encoder.bundle = root().join(&settings.encoder.bundle);
    settings.encoder.runtime_library = Some(root().join(".runtime/lib/libonnxruntime.so"));
    let config = EncoderSvcConfig::try_from(settings).unwrap();
    let listeners = Listeners::bind(any, None).unwrap();
    let encoder_url = format!("http://{}", listeners.grpc.local_addr().unwrap());
    tokio::spawn(encoder_svc::run(config, listeners, shutdown.clone()));

    let mut settings = ClassifierSvcSettings::default();
    settings.model = root().join(&settings.model);
    settings.encoder.url.clone_from(&encoder_url);
    let model = GenreModel::load(&settings.model).unwrap();
    let template = model.provenance().input_template.clone();
    let listeners = Listeners::bind(any, None).unwrap();
    let classifier_url = format!("http://{}", listeners.grpc.local_addr().unwrap());
    service_kit::healthcheck(&encoder_url, Duration::from_secs(60), None).await.unwrap();
    tokio::spawn(classifier_svc::run(
        ClassifierSvcConfig::try_from(settings).unwrap(),
        None,
        service_kit::Metrics::default(),
        listeners,
        shutdown,
    ));
    service_kit::healthcheck(&classifier_url, Duration::from_secs(60), None).await.unwrap();

    let channel = |url: &str| Target::parse(url).unwrap().channel(None, None);
    let mut encoder = EncoderServiceClient::new(channel(&encoder_url));
    let mut classifier = ClassifierServiceClient::new(channel(&classifier_url));
    let (mut encoding, mut classifying) = (Vec::new(), Vec::new());
    for round in 0..WARM_UP + ROUNDS {
        let (title, overview) = ("Harbour".to_owned(), overview(round));
        let texts = vec![template.compose(&title, &overview)];
        let encode = EncodeRequest { texts, ..EncodeRequest::default() };
        let classify = ClassifyRequest { title, overview, ..ClassifyRequest::default() };
        // Alternate which one goes first, so that other load on the machine affects both equally.
        for order in 0..2 {
            let begin = Instant::now();
            if (round + order) % 2 == 0 {
                encoder.encode(encode.clone()).await.unwrap();
                if round >= WARM_UP {
                    encoding.push(begin.elapsed());
                }
            } else {
                classifier.classify(classify.clone()).await.unwrap();
                if round >= WARM_UP {
                    classifying.push(begin.elapsed());
                }
            }
        }
    }
    encoding.sort_unstable();
    classifying.sort_unstable();
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_header(["one text at a time", "p50 ms", "p99 ms"]);
    for (name, times) in [("encoder, Encode", &encoding), ("classifier, Classify", &classifying)] {
        let ms = |fraction| format!("{:.3}", percentile(times, fraction));
        table.add_row([name.to_owned(), ms(0.5), ms(0.99)]);
    }
    let over = percentile(&classifying, 0.5) - percentile(&encoding, 0.5);
    println!("{table}\nthe classifier adds {over:.3} ms to the encoder's p50 ({ROUNDS} texts)");
    let results = serde_json::json!({
        "p50_over_encoder_ms": over,
        "encoder_p50_ms": percentile(&encoding, 0.5),
        "encoder_p99_ms": percentile(&encoding, 0.99),
        "classifier_p50_ms": percentile(&classifying, 0.5),
        "classifier_p99_ms": percentile(&classifying, 0.99),
        "texts": ROUNDS,
    });
    let folder = root().join("bench-results");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("classifier.json"), format!("{results:#}\n")).unwrap();
}
