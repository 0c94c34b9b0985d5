//! The loop of every job that encodes: rows in batches, with enough calls in flight that the encoder
//! is never idle.
//!
//! Concurrency and order come from `buffered` of futures-util; only the cut into chunks is our own.

use std::pin::pin;

use encoder_client::BulkEncoder;
use futures_util::stream::{self, Stream, StreamExt as _, TryStreamExt as _};

use crate::Progress;
use crate::encode::error::EncodeError;

/// How rows are divided into calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Texts in one call. The encoder's own limit applies as well.
    pub batch: usize,
    /// Calls in flight for each replica of the encoder.
    pub in_flight: usize,
}

impl Default for Load {
    /// 256 texts in flight: seconds of work for a CPU, so the encoder never waits for this process.
    fn default() -> Self {
        Self { batch: 16, in_flight: 16 }
    }
}

/// How the rows of a job are divided into chunks.
#[derive(Debug, Clone)]
pub(crate) struct Division {
    /// Rows of the job.
    pub(crate) rows: usize,
    /// Rows in a chunk.
    pub(crate) chunk: usize,
    /// Whether each chunk is done already.
    pub(crate) is_done: Vec<bool>,
}

impl Division {
    /// Returns the number of rows in the chunks that are done.
    pub(crate) fn done(&self) -> usize {
        let len = |index: usize| self.chunk.min(self.rows - index * self.chunk);
        (0..self.is_done.len()).filter(|index| self.is_done[*index]).map(len).sum()
    }
}

/// The place of a batch, which never spans two chunks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) chunk: usize,
    /// Whether this is the last batch of its chunk.
    pub(crate) is_last: bool,
}

/// Divides rows into chunks of fixed size, and chunks into batches. Skips the chunks that are done.
struct Batches<S> {
    rows: S,
    division: Division,
    batch: usize,
    position: usize,
}

impl<S> Batches<S> {
    async fn row<R, E: From<EncodeError>>(&mut self) -> Result<R, E>
    where
        S: Stream<Item = Result<R, E>> + Unpin,
    {
        let row = self.rows.next().await.unwrap_or_else(|| Err(EncodeError::SourceChanged.into()))?;
        self.position += 1;
        Ok(row)
    }

    async fn next<R, E: From<EncodeError>>(&mut self) -> Result<Option<(Place, Vec<R>)>, E>
    where
        S: Stream<Item = Result<R, E>> + Unpin,
    {
        while self.position < self.division.rows {
            let chunk = self.position / self.division.chunk;
            let end = self.division.rows.min((chunk + 1) * self.division.chunk);
            if self.division.is_done[chunk] {
                while self.position < end {
                    self.row().await?;
                }
                continue;
            }
            let size = self.batch.min(end - self.position);
            let mut rows = Vec::with_capacity(size);
            while rows.len() < size {
                rows.push(self.row().await?);
            }
            return Ok(Some((Place { chunk, is_last: self.position == end }, rows)));
        }
        Ok(None)
    }
}

/// Passes the rows of a job, batch by batch, to `work`, which calls `client`, and the results to
/// `take` in the order of the rows. `what` names the rows in the display of progress.
pub(crate) async fn in_order<R, T, E: From<EncodeError>>(
    client: &BulkEncoder,
    load: Load,
    division: Division,
    what: &'static str,
    rows: impl Stream<Item = Result<R, E>>,
    work: impl AsyncFn(Vec<R>) -> Result<T, E>,
    mut take: impl FnMut(Place, T) -> Result<(), E>,
) -> Result<(), E> {
    let batch = load.batch.clamp(1, client.description().max_batch_size);
    let progress = Progress::new(division.rows, what);
    progress.skip(division.done());
    let batches = Batches { rows: pin!(rows), division, batch, position: 0 };
    let batches = stream::try_unfold(batches, |mut batches| async move {
        Ok::<_, E>(batches.next().await?.map(|batch| (batch, batches)))
    });
    let work = &work;
    let work_on = |batch: Result<(Place, Vec<R>), E>| async move {
        let (place, rows) = batch?;
        let count = rows.len();
        Ok::<_, E>((place, count, work(rows).await?))
    };
    let calls = load.in_flight.max(1) * client.replicas();
    let mut results = pin!(batches.map(work_on).buffered(calls));
    while let Some((place, count, result)) = results.try_next().await? {
        progress.advance(count);
        take(place, result)?;
    }
    progress.finish();
    let shortened = client.shortened();
    if shortened > 0 {
        let limit = client.description().max_text_bytes;
        tracing::warn!("cut {shortened} texts to the {limit} bytes that the encoder accepts");
    }
    Ok(())
}
