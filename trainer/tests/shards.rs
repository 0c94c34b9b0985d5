//! Several workers on one data set, and the encoders that they share.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod command;
mod fake_encoder;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use command::{finished, succeed, trainer, write_movies};
use encoder_svc::{EncoderSvcConfig, EncoderSvcSettings};
use fake_encoder::{Behaviour, start};
use service_kit::{Listeners, Shutdown};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

const MOVIES: u64 = 3000;

/// An encoder service on the tiny test bundle, with a queue so short that it rejects calls.
struct Replica {
    address: SocketAddr,
    shutdown: Shutdown,
    task: JoinHandle<()>,
}

impl Replica {
    async fn start(address: &str) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let library = root.join(".runtime/lib/libonnxruntime.so");
        assert!(library.is_file(), "{} is missing: run `make models` first", library.display());
        let mut settings = EncoderSvcSettings { listen: address.to_owned(), ..EncoderSvcSettings::default() };
        settings.encoder.bundle = root.join("encoder-svc/tests/fixtures/tiny-512");
        settings.encoder.runtime_library = Some(library);
        settings.encoder.sessions = 1;
        settings.encoder.max_bulk_queue_ms = 1;
        settings.limits.max_batch_size = 8;
        let config = EncoderSvcConfig::try_from(settings).unwrap();
        let listener = TcpListener::bind(config.listen).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = Shutdown::new();
        let task = tokio::spawn({
            let (shutdown, listeners) = (shutdown.clone(), Listeners { grpc: listener, http: None });
            async move { encoder_svc::run(config, listeners, shutdown).await.unwrap() }
        });
        Self { address, shutdown, task }
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap();
    }
}

fn exists_any(folder: &Path, part: &str) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else { return false };
    entries.filter_map(Result::ok).any(|entry| {
        let path = entry.path();
        path.to_string_lossy().contains(part) || path.is_dir() && exists_any(&path, part)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn four_workers_write_what_one_worker_writes_despite_a_restarted_replica() {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().to_owned();
    write_movies(&path, MOVIES);
    let (first, second) = (Replica::start("127.0.0.1:0").await, Replica::start("127.0.0.1:0").await);
    let address = second.address.to_string();
    let encoders = format!("http://{},http://{address}", first.address);
    let options =
        format!("--input movies.csv --encoder {encoders} --resume-chunk 32 --batch 8 --in-flight 4");

    let mut workers = Vec::new();
    for index in 0..4 {
        let mut command = match index {
            // As a pod of an Indexed Job.
            3 => trainer(&path, &format!("encode {options} --output shards")),
            _ => trainer(&path, &format!("encode {options} --output shards --shard {index}/4")),
        };
        if index == 3 {
            command.env("JOB_COMPLETION_INDEX", "3").env("JOB_COMPLETIONS", "4");
        }
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        workers.push(command.spawn().unwrap());
    }
    // Midway: there are chunks, but no shard yet.
    let middle = async {
        while !exists_any(&path.join("shards"), "part-0000") {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), middle).await.unwrap();
    second.stop().await;
    assert!(!exists_any(&path.join("shards"), "-of-00004.json"), "too few movies for a restart midway");
    tokio::time::sleep(Duration::from_millis(300)).await;
    let second = Replica::start(&address).await;

    let outputs = tokio::task::spawn_blocking(move || {
        workers.into_iter().map(|worker| worker.wait_with_output().unwrap()).collect::<Vec<_>>()
    });
    for output in outputs.await.unwrap() {
        finished(output, "a worker");
    }
    tokio::task::spawn_blocking({
        let path = path.clone();
        move || {
            assert!(succeed(&path, "merge --shards shards --output merged.parquet").contains("3000 movies"));
            succeed(&path, &format!("encode {options} --output single.parquet"));
            let bytes = |name: &str| std::fs::read(path.join(name)).unwrap();
            assert!(bytes("merged.parquet") == bytes("single.parquet"));
            // A worker that starts again has nothing to do.
            let line = format!("encode {options} --output shards --shard 2/4");
            assert!(succeed(&path, &line).starts_with("nothing to do"));
        }
    })
    .await
    .unwrap();
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rejects_missing_changed_and_mixed_shards() {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().to_owned();
    write_movies(&path, 90);
    let (url, _) = start(Behaviour::default()).await;
    let (other, _) = start(Behaviour { fingerprint: Some("ef"), ..Behaviour::default() }).await;
    tokio::task::spawn_blocking(move || {
        let encode = |url: &str, shard: &str| {
            format!("encode --input movies.csv --output shards --encoder {url} --shard {shard}")
        };
        let fail = |line: &str| {
            let output = trainer(&path, line).output().unwrap();
            assert_eq!(output.status.code(), Some(1), "{line}");
            String::from_utf8(output.stderr).unwrap()
        };
        succeed(&path, &encode(&url, "0/3"));
        succeed(&path, &encode(&url, "2/3"));
        let merge = "merge --shards shards --output merged.parquet";
        let message = fail(merge);
        assert!(message.contains("expected shard 1 of 3, found none"), "{message}");
        succeed(&path, &encode(&other, "1/3"));
        let message = fail(merge);
        assert!(
            message.contains("shard-00001-of-00003.parquet: encoder: expected \"fake-16 1 (abab"),
            "{message}"
        );
        assert!(!path.join("merged.parquet").exists());
        let message = fail(&encode(&url, "1/3"));
        assert!(
            message.contains("encoder: expected \"fake-16 1 (abab") && message.contains("--restart"),
            "{message}"
        );
        succeed(&path, &(encode(&url, "1/3") + " --restart"));
        succeed(&path, merge);
        // Commands that read vectors also read a folder of shards.
        let fitted =
            succeed(&path, "fit --vectors shards --output m.safetensors --preset reference --epochs 1");
        assert!(fitted.contains("wrote m.safetensors"));
        // A manifest that names a file outside the folder, which `merge` would write before.
        let manifest = path.join("shards/shard-00001-of-00003.json");
        let own = std::fs::read_to_string(&manifest).unwrap();
        let outside = path.join("outside.parquet");
        let attack = own.replace("shard-00001-of-00003.parquet", &outside.display().to_string());
        std::fs::write(&manifest, attack).unwrap();
        for command in [
            merge,
            "fit --vectors shards --output other.safetensors",
            "search --vectors shards --output search",
            "report --vectors shards --model m.safetensors --output R.md",
        ] {
            let message = fail(command);
            assert!(message.contains("expected file \"shard-00001-of-00003.parquet\", found"), "{message}");
            assert!(!outside.exists(), "{command}");
        }
        std::fs::write(&manifest, own).unwrap();
        // A shard that changed after it was written.
        let shard = path.join("shards/shard-00000-of-00003.parquet");
        let mut bytes = std::fs::read(&shard).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&shard, bytes).unwrap();
        assert!(fail(merge).contains("shard-00000-of-00003.parquet: expected SHA-256"));
        // Replicas of different encoders.
        let message = fail(&format!("encode --input movies.csv --output v.parquet --encoder {url},{other}"));
        assert!(message.contains("expected replicas of one encoder"), "{message}");
    })
    .await
    .unwrap();
}
