//! Why movies are not encoded.

use std::path::PathBuf;

use encoder_client::EncoderError;

use crate::FileError;
use crate::checkpoint::Differences;
use crate::chunks::ChunksError;
use crate::data::movie_source::MovieSourceError;
use crate::data::table_file::TableError;
use crate::encode::shard_store::ShardError;

/// Why movies were not encoded. Finished chunks remain, and the next run continues from them.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The movies cannot be read.
    #[error(transparent)]
    Source(#[from] MovieSourceError),
    /// The encoder failed.
    #[error(transparent)]
    Encoder(#[from] EncoderError),
    /// A file of vectors cannot be read or written.
    #[error("vectors file {0}")]
    Table(#[from] TableError),
    /// A file or folder cannot be read or written.
    #[error(transparent)]
    Io(#[from] FileError),
    /// The source returned other movies when it was read again.
    #[error("expected the same movies each time the input is read, found others: it changed in the meantime")]
    SourceChanged,
    /// The output belongs to another job.
    #[error(
        "vectors file {path} already exists and belongs to another job: {differences}; --restart replaces it"
    )]
    OtherOutput {
        /// The output.
        path: PathBuf,
        /// Each value that differs.
        differences: Differences,
    },
    /// The chunks cannot be kept, or belong to another job.
    #[error(transparent)]
    Chunks(#[from] ChunksError),
    /// The folder of shards cannot be read or written.
    #[error(transparent)]
    Shard(#[from] ShardError),
}
