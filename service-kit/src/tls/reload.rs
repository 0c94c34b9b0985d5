//! Certificates that are replaced while they are in use.

use std::path::PathBuf;
use std::time::Duration;

use super::material::TlsError;
use crate::{FileWatch, Shutdown};

/// How often certificates are looked at where no event tells of a change.
const POLL: Duration = Duration::from_secs(5);

/// Calls `reload` whenever one of `files` changes; what cannot be used is logged, and the old stays in use.
pub(super) fn watch(
    files: Vec<PathBuf>,
    shutdown: Shutdown,
    reload: impl Fn() -> Result<(), TlsError> + Send + 'static,
) {
    if files.is_empty() {
        return;
    }
    let mut watch = FileWatch::new(files, POLL);
    tokio::spawn(async move {
        while shutdown.run_until_cancelled(watch.changed()).await.is_some() {
            match reload() {
                Ok(()) => tracing::info!("certificates reloaded"),
                Err(error) => tracing::error!(%error, "new certificates refused, the old ones stay in use"),
            }
        }
    });
}
