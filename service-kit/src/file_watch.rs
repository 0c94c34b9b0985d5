//! Detects changes to files, whether they are written in place, renamed or reached through a link.
//!
//! File events (the `notify` crate) arrive quickly, but some mounted volumes send none. A watch on
//! a file also ends when the file is replaced by a rename or, as in Kubernetes, by changing a
//! symbolic link. So this module watches the folders for events and also polls the files.
//! `notify`'s own `PollWatcher` does not follow links to another folder.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;

/// The wait after an event, so that a burst of events counts as one change.
const SETTLE: Duration = Duration::from_millis(50);

/// Watches a few files for changes.
pub struct FileWatch {
    paths: Vec<PathBuf>,
    seen: Vec<Option<Stamp>>,
    poll: Duration,
    events: std::sync::Arc<Notify>,
    /// Dropping the watcher stops the events. `None` if the system has no file events.
    _watcher: Option<RecommendedWatcher>,
}

/// Metadata that differs between two versions of a file, so that neither has to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
    inode: u64,
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = std::fs::metadata(path).ok()?;
    #[cfg(unix)]
    let inode = std::os::unix::fs::MetadataExt::ino(&metadata);
    #[cfg(not(unix))]
    let inode = 0;
    Some(Stamp { modified: metadata.modified().ok(), length: metadata.len(), inode })
}

impl FileWatch {
    /// Starts to watch `paths`, whose current state counts as seen, and polls them every `poll`.
    #[must_use]
    pub fn new(paths: Vec<PathBuf>, poll: Duration) -> Self {
        let events = std::sync::Arc::new(Notify::new());
        let wake = events.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading a file sends an event too.
            if event.is_ok_and(|event| !event.kind.is_access()) {
                wake.notify_one();
            }
        });
        let mut watcher = watcher.ok();
        for path in &paths {
            let folder =
                path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
            if let Some(watcher) = &mut watcher
                && let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive)
            {
                tracing::debug!(folder = %folder.display(), %error, "no file events in this folder, polling only");
            }
        }
        let seen = paths.iter().map(|path| stamp(path)).collect();
        Self { paths, seen, poll, events, _watcher: watcher }
    }

    /// Waits until a file differs from its state at the end of the last call, or at the start of
    /// the watch.
    pub async fn changed(&mut self) {
        loop {
            tokio::select! {
                () = self.events.notified() => tokio::time::sleep(SETTLE).await,
                () = tokio::time::sleep(self.poll) => {}
            }
            let now: Vec<_> = self.paths.iter().map(|path| stamp(path)).collect();
            if now != self.seen {
                self.seen = now;
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn notices(poll: Duration, change: impl FnOnce(&Path)) -> bool {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "one").unwrap();
        let mut watch = FileWatch::new(vec![path.clone()], poll);
        change(&path);
        tokio::time::timeout(Duration::from_secs(5), watch.changed()).await.is_ok()
    }

    #[tokio::test]
    async fn reports_a_file_replaced_by_a_rename() {
        let replaced = notices(Duration::from_secs(3600), |path| {
            let new = path.with_extension("new");
            std::fs::write(&new, "two").unwrap();
            std::fs::rename(new, path).unwrap();
        });
        assert!(replaced.await);
    }

    #[tokio::test]
    async fn polling_detects_a_link_to_another_folder() {
        let folder = tempfile::tempdir().unwrap();
        let (data, elsewhere) = (folder.path().join("data"), tempfile::tempdir().unwrap());
        let (old, new) = (elsewhere.path().join("old"), elsewhere.path().join("new"));
        for (version, text) in [(&old, "one"), (&new, "two")] {
            std::fs::create_dir(version).unwrap();
            std::fs::write(version.join("file"), text).unwrap();
        }
        std::os::unix::fs::symlink(&old, &data).unwrap();
        let mut watch = FileWatch::new(vec![data.join("file")], Duration::from_millis(20));
        std::fs::remove_file(&data).unwrap();
        std::os::unix::fs::symlink(&new, &data).unwrap();
        assert!(tokio::time::timeout(Duration::from_secs(5), watch.changed()).await.is_ok());
    }

    #[tokio::test]
    async fn ignores_reads() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "one").unwrap();
        let mut watch = FileWatch::new(vec![path.clone()], Duration::from_millis(10));
        std::fs::read(&path).unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(200), watch.changed()).await.is_err());
    }
}
