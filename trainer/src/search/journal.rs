//! The journal of finished trials: one JSON object per line, synced before a trial counts as
//! finished.
//!
//! The first line holds the identity of the search. A last line cut off by a crash is removed, and
//! its trial runs again.
//!
//! An embedded database such as redb or `SQLite` would do, but a user could not read its file, and
//! a finished search would not be the same bytes on every machine.

use std::fs::{File, TryLockError};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use genre_model::write_atomically;
use same_file::Handle;
use serde::{Deserialize, Serialize};

use crate::FileError;
use crate::checkpoint::{Checkpoint, Differences};
use crate::data::training_data::FittingData;
use crate::search::space::Space;
use crate::search::trial::Trial;

const FORMAT: &str = "movieclassifier.search/1";

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The journal cannot be read or written.
    #[error("search journal {0}")]
    Io(#[from] FileError),
    /// The journal belongs to another search.
    #[error("search journal {path} belongs to another search: {differences}; --restart discards it")]
    Other {
        /// Which file.
        path: PathBuf,
        /// Each value that differs.
        differences: Differences,
    },
    /// A line before the last is not a trial.
    #[error("search journal {path}: line {line}: expected a trial: {reason}")]
    Line {
        /// Which file.
        path: PathBuf,
        /// The number of the line, from 1.
        line: usize,
        /// The cause.
        reason: String,
    },
    /// Another process runs the same search.
    #[error("search journal {path} is in use by another run")]
    Locked {
        /// Which file.
        path: PathBuf,
    },
    /// The seed of a trial now gives other settings.
    #[error(
        "search journal: trial {trial}: expected the settings that this version draws, found others; --restart discards them"
    )]
    OtherSettings {
        /// The trial.
        trial: usize,
    },
}

/// The identity of a search. It excludes the number of trials, so a search can be extended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) format: String,
    pub(super) space: String,
    pub(super) seed: u64,
    pub(super) max_epochs: Option<usize>,
    pub(super) encoder_fingerprint: String,
    pub(super) vectors_sha256: String,
}

impl Header {
    pub(super) fn new(space: Space, seed: u64, max_epochs: Option<usize>, data: &FittingData) -> Self {
        Self {
            format: FORMAT.to_owned(),
            space: space.to_string(),
            seed,
            max_epochs,
            encoder_fingerprint: data.encoder().fingerprint.to_string(),
            vectors_sha256: data.content_sha256(),
        }
    }
}

/// An open, locked journal.
pub(super) struct Journal {
    path: PathBuf,
    file: File,
}

impl Journal {
    /// Opens the journal, or creates it, and returns the trials in it. The journal is locked before
    /// anything in it changes.
    pub(super) fn open(
        path: &Path,
        header: &Header,
        restart: bool,
    ) -> Result<(Self, Vec<Trial>), JournalError> {
        let io = |source| FileError::at(path)(source);
        let mut file = locked(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(io)?;
        let mut whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let start = line(header);
        if restart || start.as_bytes().starts_with(&bytes) {
            bytes = start.into_bytes();
            whole = bytes.len();
            // In place, since a lock belongs to the file and not to its name. A crash here leaves a
            // journal without a whole line, which counts as a new one.
            let begun = file.set_len(0).and_then(|()| file.rewind());
            begun.and_then(|()| file.write_all(&bytes)).and_then(|()| file.sync_all()).map_err(io)?;
        }
        let mut lines = bytes[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let found = lines.next().unwrap_or_default();
        if let Checkpoint::OtherJob(differences) = Checkpoint::of_json(header, found) {
            return Err(JournalError::Other { path: path.to_owned(), differences });
        }
        let trial = |(index, line): (usize, &[u8])| {
            serde_json::from_slice(line).map_err(|error| JournalError::Line {
                path: path.to_owned(),
                line: index + 2,
                reason: error.to_string(),
            })
        };
        let trials = lines.enumerate().map(trial).collect::<Result<_, _>>()?;
        file.set_len(whole as u64).and_then(|()| file.seek(SeekFrom::End(0))).map_err(io)?;
        Ok((Self { path: path.to_owned(), file }, trials))
    }

    /// Appends a trial and syncs it to disk.
    pub(super) fn append(&mut self, trial: &Trial) -> Result<(), JournalError> {
        let written = self.file.write_all(line(trial).as_bytes()).and_then(|()| self.file.sync_data());
        Ok(written.map_err(FileError::at(&self.path))?)
    }

    /// Rewrites the journal with trials in order.
    pub(super) fn rewrite<'a>(
        &self,
        header: &Header,
        trials: impl Iterator<Item = &'a Trial>,
    ) -> Result<(), JournalError> {
        let text: String = std::iter::once(line(header)).chain(trials.map(line)).collect();
        Ok(write_atomically(&self.path, text.as_bytes()).map_err(FileError::at(&self.path))?)
    }
}

/// Opens and locks the file at `path`, and creates it if it is missing.
fn locked(path: &Path) -> Result<File, JournalError> {
    let io = |source| FileError::at(path)(source);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(io)?;
    }
    loop {
        let file =
            File::options().read(true).write(true).create(true).truncate(false).open(path).map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(JournalError::Locked { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(io(source).into()),
        }
        // A search that ended in the meantime has renamed a new journal to this path.
        let opened = file.try_clone().and_then(Handle::from_file).map_err(io)?;
        if Handle::from_path(path).map_err(io)? == opened {
            return Ok(file);
        }
    }
}

fn line(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("texts and numbers are JSON") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::vectors;

    fn header(seed: u64) -> Header {
        Header::new(Space::Reference, seed, None, &FittingData::of(&vectors(100)).unwrap())
    }

    #[test]
    fn a_restart_leaves_the_journal_of_a_running_search_unchanged() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/journal.jsonl");
        let (running, _) = Journal::open(&path, &header(1), false).unwrap();
        let before = std::fs::read(&path).unwrap();
        for restart in [true, false] {
            let error = Journal::open(&path, &header(2), restart).err().unwrap();
            assert!(matches!(error, JournalError::Locked { .. }), "{error}");
        }
        assert_eq!(std::fs::read(&path).unwrap(), before);
        drop(running);
        let error = Journal::open(&path, &header(2), false).err().unwrap();
        assert!(matches!(error, JournalError::Other { .. }), "{error}");
        Journal::open(&path, &header(2), true).unwrap();
        Journal::open(&path, &header(2), false).unwrap();
    }

    #[test]
    fn a_journal_without_a_whole_line_is_a_new_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        std::fs::write(&path, "{\"format\":").unwrap();
        let (_, trials) = Journal::open(&path, &header(1), false).unwrap();
        assert!(trials.is_empty());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), line(&header(1)));
    }
}
