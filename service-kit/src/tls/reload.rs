//! Reloading certificates when their files change.
//!
//! rustls can swap a server's certificate through a resolver, but not the authorities for client
//! certificates; so the whole configuration is replaced.

use std::path::PathBuf;
use std::time::Duration;

use super::material::TlsError;
use crate::{FileWatch, Shutdown};

/// How often the files are checked if the system reports no event.
const POLL: Duration = Duration::from_secs(5);

/// Calls `reload` whenever one of `files` changes, until shutdown. If it fails, the error is logged
/// and the old certificates stay in use.
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
                Err(error) => {
                    tracing::error!(%error, "failed to reload certificates; the old ones stay in use");
                }
            }
        }
    });
}
