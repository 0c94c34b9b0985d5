//! The process of the bulk job: the real `encode`, restarted whenever it fails, as an orchestrator
//! does.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use encoder_client::{BulkEncoder, BulkPolicy, EncoderError};
use movie_table::Source;
use service_kit::{Metrics, Target};
use trainer::chunks::ChunksError;
use trainer::data::movie_source::MovieSource;
use trainer::encode::error::EncodeError;
use trainer::encode::job::{EncodeJob, EncodeOutcome, run as encode};
use trainer::{IngestOptions, Load, Vectors};

use crate::hosts::encoder_host;
use crate::plan;
use crate::truth;
use crate::world::{Life, World};

/// The policy of the job, with shorter times than the default.
const POLICY: BulkPolicy = BulkPolicy {
    first_backoff: Duration::from_millis(50),
    longest_backoff: Duration::from_secs(1),
    call_timeout: Duration::from_secs(20),
    connect_patience: Duration::from_secs(3),
    patience: Duration::from_secs(40),
};
/// Time until a restart.
const RESTART: Duration = Duration::from_secs(1);
/// The number of the first movie of the job, above those of the clients.
const FIRST_MOVIE: u64 = 1_000_000;

/// The movie with an id of the input.
fn movie(id: u64) -> proto::classifier::v1::Movie {
    truth::movie(FIRST_MOVIE + id)
}

/// Writes the input of the job.
pub fn write_input(world: &World) -> std::io::Result<()> {
    let rows = (1..=world.plan.bulk_movies).map(|id| {
        let movie = movie(id);
        format!("{id},{},{},\"[{{'id': 18, 'name': 'Drama'}}]\"\n", movie.title, movie.overview)
    });
    let header = "id,title,overview,genres\n".to_owned();
    std::fs::write(input(world), std::iter::once(header).chain(rows).collect::<String>())
}

fn input(world: &World) -> PathBuf {
    world.folder.join("movies.csv")
}

/// Runs the process until the output is complete, then checks the output.
pub async fn run(world: Arc<World>) -> anyhow::Result<()> {
    Life::begin(&world, |world| &world.trainer, &Metrics::default());
    let mut job = EncodeJob {
        source: MovieSource::Table(Source::new(&input(&world)), IngestOptions::default()),
        output: world.folder.join("vectors.parquet"),
        template: truth::template(),
        chunk: 50,
        load: Load { batch: 2, in_flight: 1 },
        restart: false,
        shard: None,
    };
    loop {
        match attempt(&world, &job).await {
            Ok(outcome) => {
                let (EncodeOutcome::NothingToDo { movies } | EncodeOutcome::Encoded { movies, .. }) = outcome;
                world.event(&format!("the bulk job is done: {movies} movies, {outcome:?}"));
                world.ledger.count(match outcome {
                    EncodeOutcome::Encoded { resumed: 1.., .. } => "bulk:resumed",
                    EncodeOutcome::Encoded { .. } => "bulk:encoded",
                    EncodeOutcome::NothingToDo { .. } => "bulk:nothing-to-do",
                });
                check(&world, &job);
                world.bulk_is_done.store(true, Ordering::Relaxed);
                return Ok(());
            }
            Err(error) => {
                // The job rejects vectors of two encoders, so its operator restarts it with the new
                // encoder.
                job.restart = matches!(
                    error,
                    EncodeError::Chunks(ChunksError::OtherJob { .. }) | EncodeError::OtherOutput { .. }
                );
                if !(job.restart || matches!(error, EncodeError::Encoder(_))) {
                    world.violation(&format!(
                        "the bulk job fails for another reason than its encoder: {error}"
                    ));
                }
                // The name of the folder does not depend on the seed.
                let folder = world.folder.display().to_string();
                world.event(&format!("the bulk job failed: {error}").replace(&folder, ""));
                world.ledger.count("bulk:failed");
                tokio::time::sleep(RESTART).await;
            }
        }
    }
}

async fn attempt(world: &Arc<World>, job: &EncodeJob) -> Result<EncodeOutcome, EncodeError> {
    let network = Arc::new(world.network.clone());
    let channels = (0..world.plan.encoders).map(|index| {
        let url = format!("http://{}:{}", plan::encoder(index), encoder_host::PORT);
        Ok(Target::parse(&url)?.over(network.clone()).channel(None, None))
    });
    let channels = channels.collect::<Result<_, _>>().map_err(EncoderError::Url)?;
    let client = BulkEncoder::connect(channels, None, POLICY).await?;
    encode(job, &client).await
}

/// Checks that the output has each movie once, in order, with the vector of its text by the encoder
/// that it names.
fn check(world: &World, job: &EncodeJob) {
    let vectors = match Vectors::read(&job.output) {
        Ok(vectors) => vectors,
        Err(error) => return world.violation(&format!("cannot read the output of the bulk job: {error}")),
    };
    if !vectors.ids.iter().copied().eq(1..=world.plan.bulk_movies) {
        world.violation("the output of the bulk job has other movies than its input");
    }
    let fingerprint = vectors.encoder.fingerprint.as_str();
    for (id, row) in vectors.ids.iter().zip(vectors.vectors.rows()) {
        let movie = movie(*id);
        let text = truth::template().compose(&movie.title, &movie.overview);
        if !row.iter().copied().eq(truth::vector(fingerprint, &text)) {
            world.violation(&format!("movie {id} of the bulk job has the vector of another text or encoder"));
        }
    }
    world.ledger.add("bulk:movies", vectors.len() as u64);
}
