//! Notices that files changed, whoever wrote them and however.
//!
//! The system's own events are quick, but do not arrive on every mounted volume, and a file that is replaced by
//! renaming or through a symbolic link (as orchestrators mount theirs) is another file than the one watched. So the
//! folders are watched for events, and the files are looked at every so often whatever the events say.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;

/// Several events of one change are one change.
const SETTLE: Duration = Duration::from_millis(50);

/// Watches a few files.
pub struct FileWatch {
    paths: Vec<PathBuf>,
    seen: Vec<Option<Stamp>>,
    poll: Duration,
    events: std::sync::Arc<Notify>,
    /// Kept, since dropping it ends the events; `None` where the system has none to offer.
    _watcher: Option<RecommendedWatcher>,
}

/// What differs between two contents of one path, without reading them.
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
    /// Begins to watch `paths` as they are now, looking at them at least every `poll`.
    #[must_use]
    pub fn new(paths: Vec<PathBuf>, poll: Duration) -> Self {
        let events = std::sync::Arc::new(Notify::new());
        let wake = events.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading a file is an event too, and no change.
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
                tracing::debug!(folder = %folder.display(), %error, "no file events here: polling only");
            }
        }
        Self { events, _watcher: watcher, ..Self::polling(paths, poll) }
    }

    /// The same without the system's events: a change is noticed at the next look.
    #[must_use]
    pub fn polling(paths: Vec<PathBuf>, poll: Duration) -> Self {
        let seen = paths.iter().map(|path| stamp(path)).collect();
        Self { paths, seen, poll, events: std::sync::Arc::default(), _watcher: None }
    }

    /// Returns when a file is another than when this was last called (or than at the beginning).
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
    async fn a_renamed_replacement_is_noticed_by_its_event() {
        let replaced = notices(Duration::from_secs(3600), |path| {
            let new = path.with_extension("new");
            std::fs::write(&new, "two").unwrap();
            std::fs::rename(new, path).unwrap();
        });
        assert!(replaced.await);
    }

    #[tokio::test]
    async fn a_link_that_points_elsewhere_is_noticed_by_the_poll() {
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
    async fn reading_is_no_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "one").unwrap();
        let mut watch = FileWatch::new(vec![path.clone()], Duration::from_millis(10));
        std::fs::read(&path).unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(200), watch.changed()).await.is_err());
    }
}
