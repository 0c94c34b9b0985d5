//! The checkpoint of an interrupted `encode`: a folder beside the output with the finished chunks.
//!
//! A chunk is a vectors file with a fixed number of movies, and is complete or absent.
//! `manifest.json` records the identity of the job. A file lock keeps a second job off the same
//! output; the system releases it however the process ends.
//!
//! The format is our own because no library resumes a job in the middle of a Parquet file.

use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use genre_model::write_atomically;
use serde::{Deserialize, Serialize};

use crate::FileError;
use crate::checkpoint::Checkpoint;
use crate::data::movie_source::Inventory;
use crate::data::vectors_file::{VectorRows, VectorsHeader, VectorsReader, VectorsWriter};
use crate::encode::error::EncodeError;
use crate::encode::vectors_job::VectorsJob;

const FORMAT: &str = "movieclassifier.parts/1";

/// The identity of the job that chunks belong to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Manifest {
    format: String,
    #[serde(flatten)]
    vectors: VectorsJob,
    movies: usize,
    chunk: usize,
}

/// The chunks of one job, locked.
pub(crate) struct Chunks<'a> {
    folder: PathBuf,
    header: &'a VectorsHeader,
    inventory: &'a Inventory,
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

/// Returns what the checkpoint folder of `output` holds, for a job that divides `inventory` into
/// chunks of `chunk` movies.
pub(crate) fn checkpoint(
    output: &Path,
    header: &VectorsHeader,
    inventory: &Inventory,
    chunk: usize,
) -> Result<Checkpoint, EncodeError> {
    let path = manifest_of(&folder_of(output));
    match std::fs::read(&path) {
        Ok(saved) => Ok(Checkpoint::of_json(&Manifest::new(header, inventory, chunk), &saved)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Checkpoint::Absent),
        Err(error) => Err(FileError::at(&path)(error).into()),
    }
}

impl Manifest {
    fn new(header: &VectorsHeader, inventory: &Inventory, chunk: usize) -> Self {
        Self { format: FORMAT.to_owned(), vectors: header.into(), movies: inventory.ids.len(), chunk }
    }
}

impl<'a> Chunks<'a> {
    /// Locks the checkpoint folder and creates it if it is missing. The checkpoint of another job
    /// is an error, unless `restart` discards it.
    pub(crate) fn open(
        output: &Path,
        header: &'a VectorsHeader,
        inventory: &'a Inventory,
        chunk: usize,
        restart: bool,
    ) -> Result<Self, EncodeError> {
        let folder = folder_of(output);
        let io = |source| FileError::at(&folder)(source);
        std::fs::create_dir_all(&folder).map_err(io)?;
        let lock = lock(&folder)?;
        let chunks = Self { folder: folder.clone(), header, inventory, chunk, _lock: lock };
        let manifest = manifest_of(&folder);
        if restart {
            for index in 0..chunks.count() {
                remove(&chunks.path(index)).map_err(io)?;
            }
            remove(&manifest).map_err(io)?;
        }
        match checkpoint(output, header, inventory, chunk)? {
            Checkpoint::Absent => {
                let json = serde_json::to_vec_pretty(&Manifest::new(header, inventory, chunk))
                    .expect("texts and numbers are JSON");
                write_atomically(&manifest, &json).map_err(io)?;
            }
            Checkpoint::SameJob => {}
            Checkpoint::OtherJob(differences) => {
                return Err(EncodeError::OtherCheckpoint { path: folder, differences });
            }
        }
        Ok(chunks)
    }

    pub(crate) fn count(&self) -> usize {
        self.inventory.ids.len().div_ceil(self.chunk)
    }

    fn path(&self, index: usize) -> PathBuf {
        self.folder.join(format!("part-{index:05}.parquet"))
    }

    fn ids(&self, index: usize) -> &[u64] {
        let end = self.inventory.ids.len().min((index + 1) * self.chunk);
        &self.inventory.ids[index * self.chunk..end]
    }

    /// Returns for each chunk whether it is present and undamaged.
    pub(crate) fn finished(&self) -> Vec<bool> {
        (0..self.count()).map(|index| self.is_finished(index)).collect()
    }

    fn is_finished(&self, index: usize) -> bool {
        let path = self.path(index);
        if !path.exists() {
            return false;
        }
        match self.read(index) {
            Ok(_) => true,
            Err(error) => {
                tracing::warn!("{error}; encoding the chunk again");
                false
            }
        }
    }

    fn read(&self, index: usize) -> Result<VectorRows, EncodeError> {
        let path = self.path(index);
        let mut reader = VectorsReader::open(&path)?;
        let mut all = VectorRows::default();
        while let Some(mut rows) = reader.next_rows()? {
            all.append(&mut rows);
        }
        if reader.header() != self.header || all.ids != self.ids(index) {
            return Err(EncodeError::WrongChunk { path });
        }
        Ok(all)
    }

    /// Writes a finished chunk.
    pub(crate) fn write(&self, index: usize, rows: VectorRows) -> Result<(), EncodeError> {
        let mut writer = VectorsWriter::create_in(&self.folder, &self.path(index), self.header.clone())?;
        writer.write(rows)?;
        Ok(writer.finish()?)
    }

    /// Copies all chunks, in order, into `output` and removes the folder.
    pub(crate) fn merge(self, output: &Path) -> Result<(), EncodeError> {
        let mut writer = VectorsWriter::create_in(&self.folder, output, self.header.clone())?;
        for index in 0..self.count() {
            writer.write(self.read(index)?)?;
        }
        writer.finish()?;
        std::fs::remove_dir_all(&self.folder).map_err(FileError::at(&self.folder))?;
        Ok(())
    }
}

/// Removes the folder of a job that was killed after it renamed its output.
pub(crate) fn remove_leftovers(output: &Path) -> Result<(), EncodeError> {
    let folder = folder_of(output);
    if !folder.exists() {
        return Ok(());
    }
    let _lock = lock(&folder)?;
    std::fs::remove_dir_all(&folder).map_err(FileError::at(&folder))?;
    Ok(())
}

pub(crate) fn lock(folder: &Path) -> Result<File, EncodeError> {
    let path = folder.join("lock");
    let io = |source| FileError::at(&path)(source);
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(io)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(EncodeError::Locked { path: folder.to_owned() }),
        Err(TryLockError::Error(source)) => Err(io(source).into()),
    }
}

pub(crate) fn remove(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
