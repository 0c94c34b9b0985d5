//! Errors that stop the service from starting. The tests run the real binary, and check the message
//! and exit code that an operator sees.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::path::Path;
use std::process::{Command, Output};

use common::{fixture, runtime_library};

fn serve(bundle: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_encoder-svc"))
        .args(["serve", "--listen", "127.0.0.1:0", "--bundle"])
        .arg(bundle)
        .args(arguments)
        .env("ORT_DYLIB_PATH", runtime_library())
        // Another process may have the default port.
        .env("ENCODER_SVC_HTTP__LISTEN", "127.0.0.1:0")
        .output()
        .unwrap()
}

fn copy_of_tiny() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(fixture("tiny-512")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    folder
}

fn assert_fails(output: &Output, words: &[&str]) {
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    for word in words {
        assert!(message.contains(word), "expected {word:?} in: {message}");
    }
}

#[test]
fn names_the_file_of_the_bundle_with_a_flipped_byte() {
    for name in ["model.onnx", "tokenizer.json", "reference.json"] {
        let folder = copy_of_tiny();
        let path = folder.path().join(name);
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert_fails(&serve(folder.path(), &[]), &[name, "expected sha256", "found"]);
    }
}

#[test]
fn names_a_missing_bundle_and_how_to_make_one() {
    assert_fails(&serve(Path::new("no/such/bundle"), &[]), &["no/such/bundle/encoder.json", "make models"]);
}

#[test]
fn fails_the_self_check_if_vectors_differ_from_the_reference() {
    let folder = copy_of_tiny();
    // Another encoder's graph, and a manifest with its hash: every hash is right, every vector is
    // wrong.
    std::fs::copy(fixture("tiny-other-512").join("model.onnx"), folder.path().join("model.onnx")).unwrap();
    let manifest = |bundle: &Path| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(bundle.join("encoder.json")).unwrap()).unwrap()
    };
    let mut forged = manifest(folder.path());
    forged["files"]["model.onnx"] = manifest(&fixture("tiny-other-512"))["files"]["model.onnx"].clone();
    std::fs::write(folder.path().join("encoder.json"), forged.to_string()).unwrap();
    assert_fails(&serve(folder.path(), &[]), &["self-check failed", "reference text 0"]);
}

#[test]
fn rejects_a_manifest_with_a_path_outside_the_bundle() {
    let folder = copy_of_tiny();
    let path = folder.path().join("encoder.json");
    let text = std::fs::read_to_string(&path).unwrap().replace("tokenizer.json", "../tokenizer.json");
    std::fs::write(&path, text).unwrap();
    assert_fails(&serve(folder.path(), &[]), &["encoder.json", "expected plain file names"]);
}

#[test]
fn names_a_missing_runtime_library_and_how_to_install_it() {
    let output = serve(&fixture("tiny-512"), &["--runtime-library", "no/such/libonnxruntime.so"]);
    assert_fails(&output, &["no/such/libonnxruntime.so", "make models"]);
}

#[test]
fn names_an_address_in_use() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let output = serve(&fixture("tiny-512"), &["--listen", &address]);
    // `serve` already gives the flag, and clap rejects a second one.
    assert_eq!(output.status.code(), Some(2));
    let output = Command::new(env!("CARGO_BIN_EXE_encoder-svc"))
        .args(["serve", "--listen", &address, "--http-listen", ""])
        .output()
        .unwrap();
    assert_fails(&output, &[&address]);
}
