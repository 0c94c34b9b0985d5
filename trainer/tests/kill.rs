//! `encode`, `classify` and `search`, killed with SIGKILL at random moments: their results do not change.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod command;
mod fake_encoder;

use std::path::Path;
use std::time::{Duration, Instant};

use command::{spawn, succeed, write_movies};
use fake_encoder::{Behaviour, start};
use rand::{Rng as _, SeedableRng as _};
use rand_xoshiro::Xoshiro256PlusPlus;

const KILLS: usize = 10;
/// Runs at most; a run that finishes before its kill starts over.
const RUNS: usize = 200;

/// Returns the files of a folder by name.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().is_file())
        .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap()))
        .collect();
    files.sort();
    files
}

/// Runs `line` repeatedly, kills each run at a random moment of its `length`, and returns the
/// moments. A run that finishes first must pass `check` and starts over after `clear`.
async fn kill_again_and_again(
    folder: &Path,
    line: &str,
    length: Duration,
    check: impl Fn(),
    clear: impl Fn(),
) -> Vec<Duration> {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(u64::from(std::process::id()));
    let mut moments = Vec::new();
    for _ in 0..RUNS {
        let moment = length.mul_f64(rng.gen_range(0.02..0.9));
        let begin = Instant::now();
        let mut run = spawn(folder, line);
        while run.try_wait().unwrap().is_none() && begin.elapsed() < moment {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        if let Some(status) = run.try_wait().unwrap() {
            assert!(status.success(), "{line}");
            check();
            clear();
            continue;
        }
        run.kill().unwrap();
        run.wait().unwrap();
        moments.push(moment);
        if moments.len() == KILLS {
            return moments;
        }
    }
    panic!("{} of {RUNS} runs of {line} were killed, expected {KILLS}", moments.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn encode_killed_ten_times_writes_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    write_movies(path, 400);
    let (url, encoder) = start(Behaviour { delay: Duration::from_millis(20), ..Behaviour::default() }).await;
    let options = format!("--input movies.csv --encoder {url} --resume-chunk 16 --batch 4 --in-flight 2");
    let begin = Instant::now();
    succeed(path, &format!("encode {options} --output undisturbed.parquet"));
    let length = begin.elapsed();
    let bytes = |name: &str| std::fs::read(path.join(name)).unwrap();
    let expected = bytes("undisturbed.parquet");
    let line = format!("encode {options} --output v.parquet");
    let check = || assert!(bytes("v.parquet") == expected);
    let clear = || std::fs::remove_file(path.join("v.parquet")).unwrap();
    let moments = kill_again_and_again(path, &line, length, check, clear).await;
    succeed(path, &line);
    check();
    assert!(!path.join("v.parquet.parts").exists(), "after kills at {moments:?}");
    assert!(encoder.encoded() > 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn classify_killed_ten_times_writes_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    write_movies(path, 400);
    let (quick, _) = start(Behaviour::default()).await;
    succeed(path, &format!("encode --input movies.csv --encoder {quick} --output v.parquet"));
    succeed(path, "fit --vectors v.parquet --output m.safetensors --preset reference --epochs 1");
    let (url, _) = start(Behaviour { delay: Duration::from_millis(20), ..Behaviour::default() }).await;
    let options = format!(
        "--input movies.csv --model m.safetensors --encoder {url} --resume-chunk 16 --batch 4 --in-flight 2"
    );
    let begin = Instant::now();
    succeed(path, &format!("classify {options} --output undisturbed.parquet"));
    let length = begin.elapsed();
    let bytes = |name: &str| std::fs::read(path.join(name)).unwrap();
    let expected = bytes("undisturbed.parquet");
    let line = format!("classify {options} --output r.parquet");
    let check = || assert!(bytes("r.parquet") == expected);
    let clear = || std::fs::remove_file(path.join("r.parquet")).unwrap();
    let moments = kill_again_and_again(path, &line, length, check, clear).await;
    succeed(path, &line);
    check();
    assert!(!path.join("r.parquet.parts").exists(), "after kills at {moments:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn search_killed_ten_times_writes_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    write_movies(path, 1200);
    let (url, _) = start(Behaviour::default()).await;
    succeed(path, &format!("encode --input movies.csv --encoder {url} --output v.parquet"));
    let options = "search --vectors v.parquet --trials 24 --epochs 12 --space ours --threads 2";
    let begin = Instant::now();
    succeed(path, &format!("{options} --output undisturbed"));
    let length = begin.elapsed();
    let expected = files(&path.join("undisturbed"));
    assert_eq!(
        expected.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        ["journal.jsonl", "model.safetensors", "trials.parquet", "trials.svg"]
    );
    let line = format!("{options} --output s");
    let check = || {
        let found = files(&path.join("s"));
        let names = |files: &[(String, Vec<u8>)]| files.iter().map(|file| file.0.clone()).collect::<Vec<_>>();
        assert_eq!(names(&found), names(&expected));
        assert!(found == expected);
    };
    let clear = || std::fs::remove_dir_all(path.join("s")).unwrap();
    kill_again_and_again(path, &line, length, check, clear).await;
    succeed(path, &line);
    check();
}
