//! Why movies are not encoded.

use std::path::PathBuf;

use crate::checkpoint::Differences;
use crate::data::movie_source::MovieSourceError;
use crate::data::table_file::TableError;
use crate::encode::encoder_client::EncoderError;
use crate::encode::shard_store::ShardError;

/// Why movies were not encoded. What was finished stays, and the next run goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The movies cannot be read.
    #[error(transparent)]
    Source(#[from] MovieSourceError),
    /// The encoder does not do its part.
    #[error(transparent)]
    Encoder(#[from] EncoderError),
    /// A file of vectors cannot be read or written.
    #[error("vectors file {0}")]
    Table(#[from] TableError),
    /// A file or folder cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The source gave other movies when it was read again.
    #[error("expected the same movies each time the input is read, found others: it was changed meanwhile")]
    SourceChanged,
    /// The output holds something else.
    #[error(
        "vectors file {path} is there already and is not of this job: {differences}; --restart replaces it"
    )]
    OtherOutput {
        /// The output.
        path: PathBuf,
        /// What was expected and what was found.
        differences: Differences,
    },
    /// An interrupted job of another kind left parts.
    #[error("folder {path} is the checkpoint of another job: {differences}; --restart discards it")]
    OtherCheckpoint {
        /// The folder of parts.
        path: PathBuf,
        /// What was expected and what was found.
        differences: Differences,
    },
    /// A part that holds other movies or vectors than its name says.
    #[error("part {path}: expected this job's movies in order, found others")]
    WrongChunk {
        /// The part.
        path: PathBuf,
    },
    /// The folder of shards does not do its part.
    #[error(transparent)]
    Shard(#[from] ShardError),
    /// Another process works on the same output.
    #[error("folder {path} is in use by another run")]
    Locked {
        /// The folder of parts.
        path: PathBuf,
    },
}
