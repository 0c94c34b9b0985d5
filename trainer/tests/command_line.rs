//! The command as users and scripts call it: exit codes, messages, standard output.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod command;
mod fake_encoder;

use std::path::Path;
use std::process::Output;

use command::{succeed, trainer, write_movies};
use fake_encoder::{Behaviour, start};
use trainer::Split;

const MOVIES: u64 = 400;

fn run(folder: &Path, line: &str) -> Output {
    trainer(folder, line).output().unwrap()
}

/// Runs a command that must fail with exit code 1 and an empty standard output. Returns standard
/// error.
fn fail(folder: &Path, line: &str) -> String {
    let output = run(folder, line);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), &b""[..]), "{line}");
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.starts_with("error: "), "{message}");
    message
}

/// Whether the id of each movie is even or odd, as a table without its header.
fn parities() -> String {
    let row = |id: u64| format!("{id},{}\n", if id.is_multiple_of(2) { "even" } else { "odd" });
    (1..=MOVIES).map(row).collect()
}

#[test]
fn exits_with_2_on_a_wrong_argument_and_1_on_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let code = |line: &str| run(folder.path(), line).status.code();
    assert_eq!(code("fit --units many"), Some(2));
    assert_eq!(code("evaluate --split some"), Some(2));
    assert_eq!(code("encode --output v.parquet"), Some(2));
    assert_eq!(code("encode --input a.csv --output v.parquet --template {genre}"), Some(2));
    assert_eq!(code("--help"), Some(0));
    let message = fail(folder.path(), "fit --vectors missing.parquet --output m.safetensors");
    assert!(message.contains("vectors file missing.parquet: No such file"), "{message}");
}

#[test]
fn a_malformed_csv_leaves_existing_files_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    write_movies(path, MOVIES);
    succeed(path, "prepare --input movies.csv --output movies.parquet");
    let before = std::fs::read(path.join("movies.parquet")).unwrap();
    for (content, expected) in [
        ("id,title,overview,genres\n1,A,\"open", "expected a closing quote for line 2"),
        ("a,b\n1,2\n", "expected a header with the column \"id\""),
        ("\0\u{1}PAR1\0", "bytes that are not text"),
        ("", "found an empty file"),
    ] {
        std::fs::write(path.join("broken.csv"), content).unwrap();
        let message = fail(path, "prepare --input broken.csv --output movies.parquet --report report.json");
        assert!(message.contains("movies file broken.csv: ") && message.contains(expected), "{message}");
    }
    assert_eq!(std::fs::read(path.join("movies.parquet")).unwrap(), before);
    assert_eq!(std::fs::read_dir(path).unwrap().count(), 3, "two inputs and the old output");
}

#[tokio::test(flavor = "multi_thread")]
async fn reference_with_restart_replaces_the_vectors_of_another_table() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    let (url, _) = start(Behaviour::default()).await;
    tokio::task::spawn_blocking(move || {
        let reference =
            format!("reference --input movies.csv --work work --trials 1 --epochs 1 --encoder {url}");
        write_movies(&path, MOVIES);
        succeed(&path, &reference);
        write_movies(&path, MOVIES + 100);
        let message = fail(&path, &reference);
        assert!(message.contains("overviews.parquet") && message.contains("--restart"), "{message}");
        assert!(succeed(&path, &format!("{reference} --restart")).contains("the reference system: 0.6086"));
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn turns_a_csv_into_metrics() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    write_movies(&path, MOVIES);
    let (url, encoder) = start(Behaviour::default()).await;
    let (other_url, _) = start(Behaviour { fingerprint: Some("ef"), ..Behaviour::default() }).await;
    tokio::task::spawn_blocking(move || {
        succeed(&path, "prepare --input movies.csv --output movies.parquet --report report.json");
        let report: serde_json::Value =
            serde_json::from_slice(&std::fs::read(path.join("report.json")).unwrap()).unwrap();
        assert_eq!((&report["rows"], &report["kept"]), (&MOVIES.into(), &MOVIES.into()));

        let encode = format!("encode --movies movies.parquet --output v.parquet --encoder {url}");
        assert!(succeed(&path, &encode).contains(&format!("{MOVIES} movies")));
        assert!(succeed(&path, &encode).starts_with("nothing to do"));

        let lines = succeed(
            &path,
            "fit --vectors v.parquet --output models/default.safetensors --preset reference --epochs 2 --report-test",
        );
        let names: Vec<&str> = lines.lines().filter_map(|line| line.split(':').next()).take(4).collect();
        assert_eq!(
            names,
            ["Val data f1 score", "Val data f1 score tuned", "Test data f1 score", "Test data f1 score tuned"]
        );

        let from_file = succeed(&path, "evaluate --vectors v.parquet --split test --json");
        let before = encoder.encoded();
        let from_encoder =
            succeed(&path, &format!("evaluate --input movies.csv --split test --json --encoder {url}"));
        let test_movies = (1..=MOVIES).filter(|id| Split::of(*id) == Split::Test).count();
        assert_eq!(encoder.encoded() - before, test_movies, "only the movies of the split are encoded");
        assert_eq!(from_file, from_encoder);
        let json: serde_json::Value = serde_json::from_str(&from_file).unwrap();
        assert_eq!((&json["rows"], &json["split"]), (&test_movies.into(), &"test".into()));
        assert_eq!(json["per_genre"].as_array().unwrap().len(), 20);
        assert_ne!(
            succeed(&path, &format!("evaluate --input movies.csv --split test --json --no-title --encoder {url}")),
            from_file
        );
        let both = succeed(&path, "evaluate --input movies.csv --vectors v.parquet --split all --json");
        assert!(both.contains(&format!("\"rows\":{MOVIES}")));

        std::fs::write(path.join("groups.csv"), "id,parity\n".to_owned() + &parities()).unwrap();
        std::fs::write(path.join("use.md"), "For films.\n").unwrap();
        let more = "--groups groups.csv --introduction use.md";
        let report = "report --vectors v.parquet --model models/default.safetensors --output REPORT.md";
        succeed(&path, &format!("{report} {more}"));
        let text = std::fs::read_to_string(path.join("REPORT.md")).unwrap();
        assert!(text.starts_with("# Genre model\n\nFor films.\n"), "{text}");
        assert!(text.contains("| Drama |") && text.contains("| even |") && text.contains("| odd |"), "{text}");

        // A model of another encoder.
        let message = fail(&path, &format!("evaluate --input movies.csv --split test --encoder {other_url}"));
        assert!(message.contains("models/default.safetensors: expected vectors of the model's encoder"), "{message}");
        // A vectors file of other movies.
        std::fs::write(path.join("few.csv"), "id,title,overview,genres\n1,A,B,\"[{'id': 18}]\"\n").unwrap();
        let message = fail(&path, "evaluate --input few.csv --vectors v.parquet --split all");
        assert!(message.contains("v.parquet: expected the movies of few.csv"), "{message}");
        // A truncated vectors file; the existing model stays.
        let model = std::fs::read(path.join("models/default.safetensors")).unwrap();
        let bytes = std::fs::read(path.join("v.parquet")).unwrap();
        std::fs::write(path.join("v.parquet"), &bytes[..bytes.len() / 2]).unwrap();
        let message = fail(&path, "fit --vectors v.parquet --output models/default.safetensors");
        assert!(message.contains("vectors file v.parquet: expected a whole Parquet file"), "{message}");
        assert_eq!(std::fs::read(path.join("models/default.safetensors")).unwrap(), model);
        let message = fail(&path, &encode);
        assert!(message.contains("v.parquet already exists and belongs to another job"), "{message}");
    })
    .await
    .unwrap();
}
