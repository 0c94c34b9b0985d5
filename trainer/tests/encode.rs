//! `encode` against an encoder that is replaced, overloaded or broken, and with runs that are
//! killed.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod fake_encoder;

use std::path::{Path, PathBuf};
use std::time::Duration;

use encoder_client::bulk::channel;
use encoder_client::{BulkEncoder, BulkPolicy, EncoderError};
use fake_encoder::{Behaviour, Failure, FakeEncoder, Fault, start, vector};
use genre_model::InputTemplate;
use movie_table::Source;
use trainer::chunks::ChunksError;
use trainer::data::ingest::prepare;
use trainer::data::movie_source::MovieSource;
use trainer::encode::error::EncodeError;
use trainer::encode::job::{EncodeJob, EncodeOutcome, run, run_shard};
use trainer::encode::shard::Shard;
use trainer::encode::shard_store::ShardFolder;
use trainer::{IngestOptions, Load, Vectors};

const MOVIES: usize = 100;
/// Movies in a chunk.
const CHUNK: usize = 16;

struct Workspace {
    folder: tempfile::TempDir,
}

impl Workspace {
    fn new() -> Self {
        let workspace = Self { folder: tempfile::tempdir().unwrap() };
        let row = |id: usize| {
            format!("{id},Movie {id},\"What happens,\nin number {id}\",\"[{{'id': 18, 'name': 'Drama'}}]\"\n")
        };
        let rows: String = (1..=MOVIES).map(row).collect();
        std::fs::write(workspace.csv(), format!("id,title,overview,genres\n{rows}")).unwrap();
        workspace
    }

    fn csv(&self) -> PathBuf {
        self.folder.path().join("movies.csv")
    }

    fn source(&self) -> Source {
        Source::new(&self.csv())
    }

    fn job(&self, output: &str) -> EncodeJob {
        EncodeJob {
            source: MovieSource::Table(self.source(), IngestOptions::default()),
            output: self.folder.path().join(output),
            template: InputTemplate::parse(InputTemplate::TITLE_AND_OVERVIEW).unwrap(),
            chunk: CHUNK,
            load: Load { batch: 5, in_flight: 3 },
            restart: false,
            shard: None,
        }
    }
}

fn impatient() -> BulkPolicy {
    BulkPolicy {
        first_backoff: Duration::from_millis(1),
        longest_backoff: Duration::from_millis(5),
        connect_patience: Duration::from_millis(200),
        patience: Duration::from_millis(500),
        ..BulkPolicy::default()
    }
}

async fn client(url: &str) -> BulkEncoder {
    BulkEncoder::connect(vec![channel(url).unwrap()], None, impatient()).await.unwrap()
}

async fn encode(
    job: &EncodeJob,
    behaviour: Behaviour,
) -> (Result<EncodeOutcome, EncodeError>, std::sync::Arc<FakeEncoder>) {
    let (url, encoder) = start(behaviour).await;
    (run(job, &client(&url).await).await, encoder)
}

fn bytes(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

#[tokio::test]
async fn every_movie_gets_the_vector_of_its_text_in_order() {
    let workspace = Workspace::new();
    let job = workspace.job("v.parquet");
    let (outcome, encoder) = encode(&job, Behaviour::default()).await;
    assert_eq!(outcome.unwrap(), EncodeOutcome::Encoded { movies: MOVIES, resumed: 0 });
    assert_eq!((encoder.encoded(), encoder.distinct()), (MOVIES, MOVIES));
    let vectors = Vectors::read(&job.output).unwrap();
    assert_eq!(vectors.ids, (1..=MOVIES as u64).collect::<Vec<_>>());
    for (row, id) in vectors.ids.iter().enumerate() {
        let text = format!("Movie {id}. What happens,\nin number {id}");
        assert_eq!(vectors.vectors.row(row).to_vec(), vector(&text));
    }
    assert!(!workspace.folder.path().join("v.parquet.parts").exists());
}

#[tokio::test]
async fn resumes_an_interrupted_run_with_the_same_bytes() {
    let workspace = Workspace::new();
    let undisturbed = workspace.job("undisturbed.parquet");
    encode(&undisturbed, Behaviour::default()).await.0.unwrap();
    let job = workspace.job("v.parquet");
    let failure: Fault = (|call| call >= 10, Failure::Internal);
    let (outcome, first) = encode(&job, Behaviour { failure: Some(failure), ..Behaviour::default() }).await;
    assert!(matches!(outcome, Err(EncodeError::Encoder(EncoderError::Failed(_)))), "{outcome:?}");
    assert!(!job.output.exists());
    assert!((1..MOVIES).contains(&first.encoded()));

    let (outcome, second) = encode(&job, Behaviour::default()).await;
    let Ok(EncodeOutcome::Encoded { movies: MOVIES, resumed }) = outcome else { panic!("{outcome:?}") };
    assert!(resumed >= CHUNK && resumed % CHUNK == 0, "{resumed}");
    assert_eq!(second.encoded(), MOVIES - resumed);
    assert_eq!(bytes(&job.output), bytes(&undisturbed.output));
}

#[tokio::test]
async fn an_interrupted_run_that_replaces_a_shard_of_another_encoder_continues() {
    let workspace = Workspace::new();
    let folder = ShardFolder::open(&workspace.folder.path().join("shards")).unwrap();
    let encode = async |job: EncodeJob, behaviour: Behaviour| {
        let (url, encoder) = start(behaviour).await;
        let shard = Shard::parse("0/2").unwrap();
        (run_shard(&job, shard, &folder, &client(&url).await).await, encoder)
    };
    encode(workspace.job("work"), Behaviour::default()).await.0.unwrap();
    let other = || Behaviour { fingerprint: Some("cd"), ..Behaviour::default() };
    let failure: Fault = (|call| call >= 6, Failure::Internal);
    let replace = EncodeJob { restart: true, ..workspace.job("work") };
    encode(replace, Behaviour { failure: Some(failure), ..other() }).await.0.unwrap_err();
    let (outcome, encoder) = encode(workspace.job("work"), other()).await;
    let Ok(EncodeOutcome::Encoded { movies, resumed }) = outcome else { panic!("{outcome:?}") };
    assert_eq!((movies, encoder.encoded()), (MOVIES / 2, MOVIES / 2 - resumed));
    assert!(resumed >= CHUNK, "{resumed}");
}

#[tokio::test]
async fn does_not_encode_a_finished_shard_without_movies_again() {
    let workspace = Workspace::new();
    let shards = workspace.folder.path().join("shards");
    let folder = ShardFolder::open(&shards).unwrap();
    let (url, _) = start(Behaviour::default()).await;
    let (job, client) = (workspace.job("work"), client(&url).await);
    // There are more shards than movies, so the first has none.
    let shard = Shard::new(0, MOVIES + 1).unwrap();
    let outcome = run_shard(&job, shard, &folder, &client).await.unwrap();
    assert_eq!(outcome, EncodeOutcome::Encoded { movies: 0, resumed: 0 });
    // A worker that is killed before it writes the manifest leaves only the file.
    let manifest = shards.join(shard.file_name()).with_extension("json");
    std::fs::remove_file(&manifest).unwrap();
    let outcome = run_shard(&job, shard, &folder, &client).await.unwrap();
    assert_eq!(outcome, EncodeOutcome::NothingToDo { movies: 0 });
    assert!(manifest.exists());
}

#[tokio::test]
async fn repeated_kills_do_not_change_the_bytes() {
    let workspace = Workspace::new();
    let undisturbed = workspace.job("undisturbed.parquet");
    encode(&undisturbed, Behaviour::default()).await.0.unwrap();
    let job = workspace.job("v.parquet");
    let (url, encoder) = start(Behaviour { delay: Duration::from_millis(5), ..Behaviour::default() }).await;
    let client = client(&url).await;
    let mut kills = 0;
    loop {
        // Late enough for a chunk or two to be finished on a busy machine.
        let deadline = encoder.encoded() + 3 * CHUNK;
        let death = async {
            while encoder.encoded() < deadline {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            outcome = run(&job, &client) => {
                outcome.unwrap();
                break;
            }
            () = death => kills += 1,
        }
        assert!(kills < 10, "runs make no progress");
    }
    assert!(kills > 1, "{kills}");
    assert_eq!(encoder.distinct(), MOVIES);
    assert_eq!(bytes(&job.output), bytes(&undisturbed.output));
}

#[tokio::test]
async fn waits_for_a_full_queue() {
    let workspace = Workspace::new();
    let job = workspace.job("v.parquet");
    let failure: Fault = (|call| call % 3 != 2, Failure::Busy);
    let (outcome, encoder) = encode(&job, Behaviour { failure: Some(failure), ..Behaviour::default() }).await;
    assert_eq!(outcome.unwrap(), EncodeOutcome::Encoded { movies: MOVIES, resumed: 0 });
    assert_eq!(encoder.encoded(), MOVIES);
}

#[tokio::test]
async fn gives_up_on_a_queue_that_stays_full() {
    let workspace = Workspace::new();
    let failure: Fault = (|_| true, Failure::Busy);
    let behaviour = Behaviour { failure: Some(failure), ..Behaviour::default() };
    let (outcome, _) = encode(&workspace.job("v.parquet"), behaviour).await;
    let error = outcome.unwrap_err();
    assert!(matches!(error, EncodeError::Encoder(EncoderError::Unavailable { .. })), "{error}");
    assert!(error.to_string().contains("the queue is full"), "{error}");
}

#[tokio::test]
async fn rejects_an_encoder_that_is_replaced_midway() {
    let workspace = Workspace::new();
    let failure: Fault = (|call| call == 12, Failure::OtherFingerprint);
    let behaviour = Behaviour { failure: Some(failure), ..Behaviour::default() };
    let (outcome, _) = encode(&workspace.job("v.parquet"), behaviour).await;
    let message = outcome.unwrap_err().to_string();
    assert!(
        message.contains("expected vectors of fake-16 1 (abababababab), found vectors of \"cdcd"),
        "{message}"
    );
}

#[tokio::test]
async fn does_not_encode_a_finished_output_again() {
    let workspace = Workspace::new();
    let job = workspace.job("v.parquet");
    encode(&job, Behaviour::default()).await.0.unwrap();
    let before = bytes(&job.output);
    // The same holds for a run that was killed after it renamed its output.
    std::fs::create_dir(workspace.folder.path().join("v.parquet.parts")).unwrap();
    let (outcome, encoder) = encode(&job, Behaviour::default()).await;
    assert_eq!(outcome.unwrap(), EncodeOutcome::NothingToDo { movies: MOVIES });
    assert_eq!((encoder.encoded(), bytes(&job.output)), (0, before));
    assert!(!workspace.folder.path().join("v.parquet.parts").exists());
}

#[tokio::test]
async fn keeps_the_output_of_another_job_unless_restarted() {
    let workspace = Workspace::new();
    let mut job = workspace.job("v.parquet");
    encode(&job, Behaviour::default()).await.0.unwrap();
    let before = bytes(&job.output);

    let other = || Behaviour { fingerprint: Some("ef"), ..Behaviour::default() };
    let message = encode(&job, other()).await.0.unwrap_err().to_string();
    assert!(
        message.contains("v.parquet") && message.contains("encoder: expected \"fake-16 1 (efef"),
        "{message}"
    );
    job.template = InputTemplate::parse("{overview}").unwrap();
    let message = encode(&job, Behaviour::default()).await.0.unwrap_err().to_string();
    assert!(message.contains("template: expected \"{overview}\""), "{message}");
    std::fs::write(&job.output, "cut off").unwrap();
    let message = encode(&job, Behaviour::default()).await.0.unwrap_err().to_string();
    assert!(message.contains("expected a whole Parquet file"), "{message}");
    std::fs::write(&job.output, &before).unwrap();

    job.restart = true;
    assert_eq!(encode(&job, other()).await.0.unwrap(), EncodeOutcome::Encoded { movies: MOVIES, resumed: 0 });
    assert_ne!(bytes(&job.output), before);
}

#[tokio::test]
async fn rejects_the_checkpoint_of_another_job_and_names_the_difference() {
    let workspace = Workspace::new();
    let mut job = workspace.job("v.parquet");
    let broken = || {
        let failure: Fault = (|call| call >= 10, Failure::Internal);
        Behaviour { failure: Some(failure), ..Behaviour::default() }
    };
    encode(&job, broken()).await.0.unwrap_err();
    job.chunk = 8;
    let message = encode(&job, Behaviour::default()).await.0.unwrap_err().to_string();
    assert!(message.contains("chunk: expected 8, found 16") && message.contains("--restart"), "{message}");
    job.restart = true;
    let outcome = encode(&job, Behaviour::default()).await.0.unwrap();
    assert_eq!(outcome, EncodeOutcome::Encoded { movies: MOVIES, resumed: 0 });
}

#[tokio::test]
async fn encodes_a_damaged_chunk_again() {
    let workspace = Workspace::new();
    let undisturbed = workspace.job("undisturbed.parquet");
    encode(&undisturbed, Behaviour::default()).await.0.unwrap();
    let job = workspace.job("v.parquet");
    let failure: Fault = (|call| call >= 16, Failure::Internal);
    encode(&job, Behaviour { failure: Some(failure), ..Behaviour::default() }).await.0.unwrap_err();
    let chunk = workspace.folder.path().join("v.parquet.parts/part-00000.parquet");
    let mut damaged = bytes(&chunk);
    let middle = damaged.len() / 3;
    damaged[middle] ^= 0x10;
    std::fs::write(&chunk, damaged).unwrap();
    let (outcome, encoder) = encode(&job, Behaviour::default()).await;
    let Ok(EncodeOutcome::Encoded { resumed, .. }) = outcome else { panic!("{outcome:?}") };
    assert_eq!(encoder.encoded(), MOVIES - resumed);
    assert!(encoder.encoded.lock().unwrap().iter().any(|text| text.starts_with("Movie 1.")));
    assert_eq!(bytes(&job.output), bytes(&undisturbed.output));
}

#[tokio::test]
async fn rejects_a_second_run_on_the_same_output() {
    let workspace = Workspace::new();
    let job = workspace.job("v.parquet");
    let (url, _) = start(Behaviour { delay: Duration::from_millis(50), ..Behaviour::default() }).await;
    let client = client(&url).await;
    let (first, second) = tokio::join!(run(&job, &client), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        run(&job, &client).await
    });
    first.unwrap();
    assert!(matches!(second, Err(EncodeError::Chunks(ChunksError::Locked { .. }))), "{second:?}");
}

#[tokio::test]
async fn the_prepared_table_gives_the_same_vectors_as_the_csv() {
    let workspace = Workspace::new();
    let job = workspace.job("csv.parquet");
    encode(&job, Behaviour::default()).await.0.unwrap();
    let movies = workspace.folder.path().join("movies.parquet");
    prepare::run(&workspace.source(), &IngestOptions::default(), &movies, None).unwrap();
    let from_table = EncodeJob { source: MovieSource::MoviesFile(movies), ..workspace.job("table.parquet") };
    encode(&from_table, Behaviour::default()).await.0.unwrap();
    assert_eq!(bytes(&job.output), bytes(&from_table.output));
}

#[tokio::test]
async fn cuts_long_texts_at_a_character_boundary() {
    let workspace = Workspace::new();
    let long = "é".repeat(2000);
    std::fs::write(workspace.csv(), format!("id,title,overview,genres\n1,T,{long},\"[{{'id': 18}}]\"\n"))
        .unwrap();
    let (outcome, encoder) = encode(&workspace.job("v.parquet"), Behaviour::default()).await;
    assert_eq!(outcome.unwrap(), EncodeOutcome::Encoded { movies: 1, resumed: 0 });
    assert_eq!(encoder.encoded.lock().unwrap()[0].len(), 999);
}

#[tokio::test]
async fn fails_soon_if_no_encoder_answers() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = BulkEncoder::connect(vec![channel(&url).unwrap()], None, impatient()).await.unwrap_err();
    assert!(matches!(error, EncoderError::Unavailable { .. }), "{error}");
    assert!(matches!(channel("not a url"), Err(EncoderError::Url(_))));
}
