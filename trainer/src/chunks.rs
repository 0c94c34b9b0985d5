//! The checkpoint of an interrupted job: a folder beside its output with the finished chunks.
//!
//! A chunk is a file with a fixed number of rows, and is complete or absent. `manifest.json` records
//! the identity of the job. A file lock keeps a second job off the same output; the system releases
//! it however the process ends. [`ChunkFile`] is what the jobs do not share: the form of their files.
//!
//! The format is our own because no library resumes a job in the middle of a Parquet file.

use std::fmt::Display;
use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::ops::Range;
use std::path::{Path, PathBuf};

use genre_model::write_atomically;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::FileError;
use crate::checkpoint::{Checkpoint, Differences};

/// Why the chunks of a job cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum ChunksError {
    /// A file or folder cannot be read or written.
    #[error(transparent)]
    Io(#[from] FileError),
    /// Another job was interrupted and left a checkpoint.
    #[error("folder {path} is the checkpoint of another job: {differences}; --restart discards it")]
    OtherJob {
        /// The checkpoint folder.
        path: PathBuf,
        /// Each value that differs.
        differences: Differences,
    },
    /// A chunk holds other rows than its name implies.
    #[error("chunk {path}: expected the rows of this job in order, found others")]
    WrongRows {
        /// The file of the chunk.
        path: PathBuf,
    },
    /// Another process writes the same output.
    #[error("folder {path} is in use by another run")]
    Locked {
        /// The checkpoint folder.
        path: PathBuf,
    },
}

/// The files of a job: its chunks and its output, which have one form.
pub(crate) trait ChunkFile {
    /// The identity of the job, in the form of the manifest.
    type Job: Serialize + DeserializeOwned;
    /// The rows of a chunk in memory.
    type Rows;
    /// An unfinished file.
    type Writer;
    type Error: From<ChunksError> + Display;

    /// The identity of a job that divides its rows into chunks of this file.
    fn job(&self) -> Self::Job;

    /// Reads the chunk at `path` and verifies that it is whole and holds the rows `range` of the job.
    fn read(&self, path: &Path, range: Range<usize>) -> Result<Self::Rows, Self::Error>;

    /// Starts a file at `path`, with its temporary file in `folder`.
    fn create(&self, folder: &Path, path: &Path) -> Result<Self::Writer, Self::Error>;

    /// Adds the rows of one chunk.
    fn write(&self, writer: &mut Self::Writer, rows: Self::Rows) -> Result<(), Self::Error>;

    /// Completes the file and gives it its name.
    fn finish(&self, writer: Self::Writer) -> Result<(), Self::Error>;
}

/// The chunks of one job, locked.
pub(crate) struct Chunks<F> {
    folder: PathBuf,
    file: F,
    rows: usize,
    chunk: usize,
    _lock: File,
}

/// Returns the checkpoint folder of `output`. File names still say "part", so that this version can
/// resume the runs of earlier versions.
pub(crate) fn folder_of(output: &Path) -> PathBuf {
    let mut name = output.as_os_str().to_owned();
    name.push(".parts");
    name.into()
}

fn manifest_of(folder: &Path) -> PathBuf {
    folder.join("manifest.json")
}

/// Returns what the checkpoint folder of `output` holds, for this job.
pub(crate) fn checkpoint<F: ChunkFile>(output: &Path, file: &F) -> Result<Checkpoint, ChunksError> {
    let path = manifest_of(&folder_of(output));
    match std::fs::read(&path) {
        Ok(saved) => Ok(Checkpoint::of_json(&file.job(), &saved)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Checkpoint::Absent),
        Err(error) => Err(FileError::at(&path)(error).into()),
    }
}

impl<F: ChunkFile> Chunks<F> {
    /// Locks the checkpoint folder and creates it if it is missing, for a job of `rows` rows in chunks
    /// of `chunk`. The checkpoint of another job is an error, unless `restart` discards it.
    pub(crate) fn open(
        output: &Path,
        file: F,
        rows: usize,
        chunk: usize,
        restart: bool,
    ) -> Result<Self, ChunksError> {
        let folder = folder_of(output);
        let io = |source| FileError::at(&folder)(source);
        std::fs::create_dir_all(&folder).map_err(io)?;
        let lock = lock(&folder)?;
        let chunks = Self { folder: folder.clone(), file, rows, chunk, _lock: lock };
        let manifest = manifest_of(&folder);
        if restart {
            for index in 0..chunks.count() {
                remove(&chunks.path(index)).map_err(io)?;
            }
            remove(&manifest).map_err(io)?;
        }
        match checkpoint(output, &chunks.file)? {
            Checkpoint::Absent => {
                let job = serde_json::to_vec_pretty(&chunks.file.job()).expect("texts and numbers are JSON");
                write_atomically(&manifest, &job).map_err(io)?;
            }
            Checkpoint::SameJob => {}
            Checkpoint::OtherJob(differences) => {
                return Err(ChunksError::OtherJob { path: folder, differences });
            }
        }
        Ok(chunks)
    }

    fn count(&self) -> usize {
        self.rows.div_ceil(self.chunk)
    }

    fn path(&self, index: usize) -> PathBuf {
        self.folder.join(format!("part-{index:05}.parquet"))
    }

    /// Returns for each chunk whether it is present and undamaged.
    pub(crate) fn finished(&self) -> Vec<bool> {
        (0..self.count()).map(|index| self.is_finished(index)).collect()
    }

    fn is_finished(&self, index: usize) -> bool {
        if !self.path(index).exists() {
            return false;
        }
        match self.read(index) {
            Ok(_) => true,
            Err(error) => {
                tracing::warn!("{error}; doing the chunk again");
                false
            }
        }
    }

    fn read(&self, index: usize) -> Result<F::Rows, F::Error> {
        let range = index * self.chunk..self.rows.min((index + 1) * self.chunk);
        self.file.read(&self.path(index), range)
    }

    /// Writes a finished chunk.
    pub(crate) fn write(&self, index: usize, rows: F::Rows) -> Result<(), F::Error> {
        let mut writer = self.file.create(&self.folder, &self.path(index))?;
        self.file.write(&mut writer, rows)?;
        self.file.finish(writer)
    }

    /// Copies all chunks, in order, into `output` and removes the folder. `see` is shown each chunk.
    pub(crate) fn merge(self, output: &Path, mut see: impl FnMut(&F::Rows)) -> Result<(), F::Error> {
        let mut writer = self.file.create(&self.folder, output)?;
        for index in 0..self.count() {
            let rows = self.read(index)?;
            see(&rows);
            self.file.write(&mut writer, rows)?;
        }
        self.file.finish(writer)?;
        std::fs::remove_dir_all(&self.folder)
            .map_err(|error| ChunksError::from(FileError::at(&self.folder)(error)))?;
        Ok(())
    }
}

/// Removes the folder of a job that was killed after it renamed its output.
pub(crate) fn remove_leftovers(output: &Path) -> Result<(), ChunksError> {
    let folder = folder_of(output);
    if !folder.exists() {
        return Ok(());
    }
    let _lock = lock(&folder)?;
    std::fs::remove_dir_all(&folder).map_err(FileError::at(&folder))?;
    Ok(())
}

fn lock(folder: &Path) -> Result<File, ChunksError> {
    let path = folder.join("lock");
    let io = |source| FileError::at(&path)(source);
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(io)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(ChunksError::Locked { path: folder.to_owned() }),
        Err(TryLockError::Error(source)) => Err(io(source).into()),
    }
}

fn remove(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
