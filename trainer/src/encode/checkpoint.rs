//! What an interrupted `encode` has finished: a folder of parts beside the output.
//!
//! Each part holds a fixed number of movies and is whole or not there. `manifest.json` says what job they belong to,
//! and a lock keeps two jobs on one output apart; the system lets go of it however the process ends.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use genre_model::write_atomically;
use serde::{Deserialize, Serialize};

use crate::data::movie_source::Inventory;
use crate::data::vectors_file::{VectorRows, VectorsHeader, VectorsReader, VectorsWriter};
use crate::encode::error::EncodeError;

const FORMAT: &str = "movieclassifier.parts/1";

/// What must be the same for parts to be of one job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Manifest {
    format: String,
    encoder_fingerprint: String,
    encoder: String,
    dimension: usize,
    input_template: String,
    data_digest: String,
    movies: usize,
    chunk: usize,
}

/// The parts of one job, locked.
pub(crate) struct Parts<'a> {
    folder: PathBuf,
    header: &'a VectorsHeader,
    inventory: &'a Inventory,
    chunk: usize,
    _lock: File,
}

/// Where the parts of `output` lie.
pub(crate) fn folder_of(output: &Path) -> PathBuf {
    let mut name = output.as_os_str().to_owned();
    name.push(".parts");
    name.into()
}

impl<'a> Parts<'a> {
    /// Locks the folder, and makes it where there is none. Parts of another job are an error, unless `restart`,
    /// which throws all parts away.
    pub(crate) fn open(
        output: &Path,
        header: &'a VectorsHeader,
        inventory: &'a Inventory,
        chunk: usize,
        restart: bool,
    ) -> Result<Self, EncodeError> {
        let folder = folder_of(output);
        let io = |source| EncodeError::Io { path: folder.clone(), source };
        std::fs::create_dir_all(&folder).map_err(io)?;
        let lock = lock(&folder)?;
        let parts = Self { folder: folder.clone(), header, inventory, chunk, _lock: lock };
        let manifest = parts.folder.join("manifest.json");
        if restart {
            for index in 0..parts.count() {
                remove(&parts.path(index)).map_err(io)?;
            }
            remove(&manifest).map_err(io)?;
        }
        match parts.differences()? {
            None => {
                let json = serde_json::to_vec_pretty(&parts.manifest()).expect("texts and numbers are JSON");
                write_atomically(&manifest, &json).map_err(io)?;
            }
            Some(differences) if differences.is_empty() => {}
            Some(differences) => return Err(EncodeError::OtherParts { path: folder, differences }),
        }
        Ok(parts)
    }

    fn manifest(&self) -> Manifest {
        Manifest {
            format: FORMAT.to_owned(),
            encoder_fingerprint: self.header.encoder.fingerprint.to_string(),
            encoder: self.header.encoder.to_string(),
            dimension: self.header.dimension,
            input_template: self.header.template.to_string(),
            data_digest: self.header.data_digest.clone(),
            movies: self.inventory.ids.len(),
            chunk: self.chunk,
        }
    }

    /// How the manifest in the folder differs from this job's; `None` if there is none.
    fn differences(&self) -> Result<Option<String>, EncodeError> {
        let path = self.folder.join("manifest.json");
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(EncodeError::Io { path, source }),
        };
        let Ok(found) = serde_json::from_slice::<Manifest>(&bytes) else {
            return Ok(Some("manifest.json is no manifest".to_owned()));
        };
        Ok(Some(differences(&self.manifest(), &found)))
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

    /// Which parts are there and sound.
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
                tracing::warn!("{error}; encoding this part again");
                false
            }
        }
    }

    /// Movies of the parts that are finished.
    pub(crate) fn movies(&self, is_finished: &[bool]) -> usize {
        (0..self.count()).filter(|index| is_finished[*index]).map(|index| self.ids(index).len()).sum()
    }

    fn read(&self, index: usize) -> Result<VectorRows, EncodeError> {
        let path = self.path(index);
        let mut reader = VectorsReader::open(&path)?;
        let mut all = VectorRows::default();
        while let Some(mut rows) = reader.next_rows()? {
            all.append(&mut rows);
        }
        if reader.header() != self.header || all.ids != self.ids(index) {
            return Err(EncodeError::WrongPart { path });
        }
        Ok(all)
    }

    /// Writes a finished part.
    pub(crate) fn write(&self, index: usize, rows: VectorRows) -> Result<(), EncodeError> {
        let mut writer = VectorsWriter::create_in(&self.folder, &self.path(index), self.header.clone())?;
        writer.write(rows)?;
        Ok(writer.finish()?)
    }

    /// Puts all parts, in order, into `output`, and removes them.
    pub(crate) fn merge(self, output: &Path) -> Result<(), EncodeError> {
        let mut writer = VectorsWriter::create_in(&self.folder, output, self.header.clone())?;
        for index in 0..self.count() {
            writer.write(self.read(index)?)?;
        }
        writer.finish()?;
        std::fs::remove_dir_all(&self.folder)
            .map_err(|source| EncodeError::Io { path: self.folder.clone(), source })
    }
}

/// Removes what a job left that ended between naming its output and removing its parts.
pub(crate) fn remove_leftovers(output: &Path) -> Result<(), EncodeError> {
    let folder = folder_of(output);
    if !folder.exists() {
        return Ok(());
    }
    let _lock = lock(&folder)?;
    std::fs::remove_dir_all(&folder).map_err(|source| EncodeError::Io { path: folder, source })
}

/// Whether the folder beside `output` holds parts of this very job.
pub(crate) fn are_of_this_job(
    output: &Path,
    header: &VectorsHeader,
    inventory: &Inventory,
    chunk: usize,
) -> bool {
    folder_of(output).join("manifest.json").exists()
        && Parts::open(output, header, inventory, chunk, false).is_ok()
}

fn lock(folder: &Path) -> Result<File, EncodeError> {
    let path = folder.join("lock");
    let io = |source| EncodeError::Io { path: path.clone(), source };
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(io)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(EncodeError::Locked { path: folder.to_owned() }),
        Err(TryLockError::Error(source)) => Err(io(source)),
    }
}

fn remove(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn differences(expected: &Manifest, found: &Manifest) -> String {
    let (Ok(serde_json::Value::Object(expected)), Ok(serde_json::Value::Object(found))) =
        (serde_json::to_value(expected), serde_json::to_value(found))
    else {
        return String::new();
    };
    let differs = expected.iter().filter(|(key, value)| found.get(*key) != Some(*value));
    let lines = differs.map(|(key, value)| {
        let found = found.get(key).map(ToString::to_string).unwrap_or_default();
        format!("{key}: expected {value}, found {found}")
    });
    lines.collect::<Vec<_>>().join("; ")
}
