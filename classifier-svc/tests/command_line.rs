//! The binary as a person or a script meets it: output, messages, exit codes.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::process::{Command, Output};

use common::{any_port, bundle, model_file, runtime_library, start_classifier, start_encoder};

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_classifier-svc"))
        .args(arguments)
        .env("ORT_DYLIB_PATH", runtime_library())
        .output()
        .unwrap()
}

async fn run_blocking(arguments: Vec<String>) -> Output {
    tokio::task::spawn_blocking(move || run(&arguments.iter().map(String::as_str).collect::<Vec<_>>()))
        .await
        .unwrap()
}

fn arguments(arguments: &[&str]) -> Vec<String> {
    arguments.iter().map(|argument| (*argument).to_owned()).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_film_is_classified_the_same_by_a_service_and_embedded() {
    let encoder = start_encoder("tiny-512", any_port()).await;
    let (_folder, model) = model_file("tiny-512");
    let classifier = start_classifier(&model, &encoder.url()).await;
    let film = ["classify", "--json", "--title", "Harbour", "--overview", "a storm over the sea"];
    let served =
        run_blocking([arguments(&film), arguments(&["--address", &classifier.url()])].concat()).await;
    let (model, bundle) = (model.to_string_lossy(), bundle("tiny-512"));
    let alone = arguments(&["--embedded", "--model", &model, "--bundle", &bundle.to_string_lossy()]);
    let embedded = run_blocking([arguments(&film), alone].concat()).await;
    assert!(served.status.success(), "{}", text(&served.stderr));
    assert!(embedded.status.success(), "{}", text(&embedded.stderr));
    let json: serde_json::Value = serde_json::from_slice(&served.stdout).unwrap();
    assert_eq!(json["scores"].as_array().unwrap().len(), 20);
    assert_eq!(text(&served.stdout), text(&embedded.stdout));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_default_output_is_a_table() {
    let encoder = start_encoder("tiny-512", any_port()).await;
    let (_folder, model) = model_file("tiny-512");
    let classifier = start_classifier(&model, &encoder.url()).await;
    let call = ["classify", "--all", "--overview", "a horse", "--address", &classifier.url()];
    let output = run_blocking(arguments(&call)).await;
    let table = text(&output.stdout);
    for word in ["Genre", "Probability", "Threshold", "Western"] {
        assert!(table.contains(word), "{table}");
    }
}

#[test]
fn without_a_service_the_message_says_how_to_get_one() {
    let output = run(&["classify", "--overview", "a horse", "--address", "http://127.0.0.1:9"]);
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(message.contains("http://127.0.0.1:9") && message.contains("--embedded"), "{message}");
    assert!(output.stdout.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blank_overview_is_refused_with_its_name() {
    let encoder = start_encoder("tiny-512", any_port()).await;
    let (_folder, model) = model_file("tiny-512");
    let classifier = start_classifier(&model, &encoder.url()).await;
    let output =
        run_blocking(arguments(&["classify", "--overview", " ", "--address", &classifier.url()])).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("overview: expected a text"), "{}", text(&output.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_of_another_encoder_is_refused_at_start_by_its_name() {
    let encoder = start_encoder("tiny-512", any_port()).await;
    let (_folder, model) = model_file("tiny-other-512");
    let model = model.to_string_lossy().into_owned();
    let serve = ["serve", "--listen", "127.0.0.1:0", "--model", &model, "--encoder", &encoder.url()];
    let served = run_blocking(arguments(&serve)).await;
    let bundle = bundle("tiny-512").to_string_lossy().into_owned();
    let classify = ["classify", "--overview", "a", "--embedded", "--model", &model, "--bundle", &bundle];
    let embedded = run_blocking(arguments(&classify)).await;
    for output in [served, embedded] {
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{message}");
        for word in [model.as_str(), "the model expects encoder tiny-other-512", "found tiny-512"] {
            assert!(message.contains(word), "expected {word:?} in: {message}");
        }
    }
}

#[test]
fn a_truncated_model_file_is_named_and_left_as_it_is() {
    let (_folder, model) = model_file("tiny-512");
    let bytes = std::fs::read(&model).unwrap();
    std::fs::write(&model, &bytes[..bytes.len() / 2]).unwrap();
    let output = run(&["serve", "--listen", "127.0.0.1:0", "--model", &model.to_string_lossy()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains(&*model.to_string_lossy()), "{}", text(&output.stderr));
    assert_eq!(std::fs::read(&model).unwrap(), bytes[..bytes.len() / 2]);
}
