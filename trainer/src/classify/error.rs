//! Why a table is not classified.

use std::path::PathBuf;

use crate::FileError;
use crate::checkpoint::Differences;
use crate::chunks::ChunksError;
use crate::classify::input::InputError;
use crate::data::table_file::TableError;
use crate::encode::error::EncodeError;
use crate::store::StoreError;

/// Why a table was not classified. Finished chunks remain, and the next run continues from them.
#[derive(Debug, thiserror::Error)]
pub enum ClassifyError {
    /// The input cannot be read.
    #[error(transparent)]
    Input(#[from] InputError),
    /// The encoder failed, or the rows changed while they were read.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// A table of results cannot be read or written.
    #[error("table of results {0}")]
    Table(#[from] TableError),
    /// A file or folder cannot be read or written.
    #[error(transparent)]
    Io(#[from] FileError),
    /// The chunks cannot be kept, or belong to another job.
    #[error(transparent)]
    Chunks(#[from] ChunksError),
    /// The object store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The output is one of the inputs, or would be one of the next run.
    #[error("--output {path}: expected another place than that of --input, found the same")]
    IsInput {
        /// The output.
        path: PathBuf,
    },
    /// The output belongs to another job.
    #[error("{path} belongs to another job: {differences}; --restart replaces it")]
    OtherJob {
        /// The output.
        path: PathBuf,
        /// Each value that differs.
        differences: Differences,
    },
    /// Shards do not make a whole.
    #[error("shards {path}: {reason}")]
    Shards {
        /// The folder.
        path: PathBuf,
        /// The expectation, and the value found.
        reason: String,
    },
}
