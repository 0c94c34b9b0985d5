//! No command replaces its inputs, another of its outputs, or a file of another kind.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod command;
mod fake_encoder;

use std::path::Path;

use command::{succeed, trainer, write_movies};
use fake_encoder::{Behaviour, start};

/// Runs a command that must fail and leave every file of the folder unchanged.
fn refuse(folder: &Path, line: &str) -> String {
    let files = || {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            files.push((path.clone(), std::fs::read(&path).unwrap_or_default()));
        }
        files.sort();
        files
    };
    let before = files();
    let output = trainer(folder, line).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    assert!(before == files(), "{line} changed a file");
    String::from_utf8(output.stderr).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn inputs_and_foreign_files_stay_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    write_movies(&path, 300);
    let (url, _) = start(Behaviour::default()).await;
    tokio::task::spawn_blocking(move || {
        let encode = format!("encode --movies m.parquet --encoder {url} --output");
        succeed(&path, "prepare --input movies.csv --output m.parquet --report r.json");
        succeed(&path, &format!("{encode} v.parquet"));
        succeed(&path, "fit --vectors v.parquet --preset reference --epochs 1 --output m.safetensors");
        std::fs::write(path.join("notes.md"), "# Genre model notes\n").unwrap();
        std::fs::hard_link(path.join("movies.csv"), path.join("hard.csv")).unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink("movies.csv", path.join("link.csv")).unwrap();
        let is_input = [
            "prepare --input movies.csv --output movies.csv",
            "prepare --input movies.csv --output ./movies.csv --force",
            "prepare --input movies.csv --output hard.csv --force",
            "prepare --input movies.csv --output link.csv --force",
            "prepare --input movies.csv --output new.parquet --report movies.csv",
            "fit --vectors v.parquet --output v.parquet",
            "merge --shards v.parquet --output v.parquet",
            "report --vectors v.parquet --model m.safetensors --output m.safetensors",
            "report --vectors v.parquet --model m.safetensors --output v.parquet --force",
            "report --vectors v.parquet --model m.safetensors --introduction notes.md --output notes.md",
            "report --vectors v.parquet --model m.safetensors --titles m.parquet --output m.parquet",
            &format!("{encode} m.parquet --restart"),
        ];
        for line in is_input {
            let message = refuse(&path, line);
            assert!(message.contains("expected another file than that of --"), "{line}: {message}");
        }
        let message = refuse(&path, "prepare --input movies.csv --output new --report ./new");
        assert!(message.contains("--output and --report: expected two files"), "{message}");
        for line in [
            "prepare --input movies.csv --output file:///tmp/m.parquet",
            "fit --vectors v.parquet --output file://m.safetensors",
        ] {
            let message = refuse(&path, line);
            assert!(message.contains("expected a file to write to, found a URL"), "{line}: {message}");
            assert!(!path.join("file:").exists());
        }
        for line in [
            "prepare --input movies.csv --output v.parquet",
            "prepare --input movies.csv --output m.safetensors",
            "prepare --input movies.csv --output m.parquet --report notes.md",
            "fit --vectors v.parquet --output movies.csv",
            "fit --vectors v.parquet --output m.parquet",
            "report --vectors v.parquet --model m.safetensors --output r.json",
            &format!("{encode} movies.csv --restart"),
        ] {
            let message = refuse(&path, line);
            assert!(message.contains("found another file; --force replaces it"), "{line}: {message}");
        }
        // Standard input that is the output.
        let input = std::fs::File::open(path.join("movies.csv")).unwrap();
        let mut command = trainer(&path, "prepare --input - --output movies.csv --force");
        let output = command.stdin(input).output().unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(message.contains("expected another file than that of --input"), "{message}");

        std::fs::write(path.join("old.txt"), "of another kind").unwrap();
        succeed(&path, "prepare --input movies.csv --output old.txt --force");
        succeed(&path, "prepare --input movies.csv --output m.parquet --report r.json");
    })
    .await
    .unwrap();
}

#[test]
fn a_merge_of_a_missing_folder_creates_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let message = refuse(folder.path(), "merge --shards missing --output v.parquet");
    assert!(message.contains("--shards missing: expected a folder of shards, found none"), "{message}");
}

#[test]
fn a_search_leaves_a_foreign_journal() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("journal.jsonl"), "{\"id\":1}\n").unwrap();
    let message = refuse(folder.path(), "search --vectors v.parquet --output . --restart");
    assert!(message.contains("journal.jsonl: expected no file, or the journal of a search"), "{message}");
}
