//! Graceful shutdown: the signals that request it, and its two phases.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// A shutdown that is requested once and observed by every clone.
pub type Shutdown = CancellationToken;

/// The two phases of a graceful shutdown.
#[derive(Debug, Clone, Copy, Default)]
pub struct Drain {
    /// How long calls are still accepted while health reports `NOT_SERVING`. It should cover the
    /// time until every load balancer has removed this replica.
    pub removal: Duration,
    /// How long calls in flight may take once no new calls are accepted.
    pub finish: Duration,
}

/// Returns a shutdown that the first SIGTERM or Ctrl-C requests. A second signal ends the process
/// at once.
///
/// # Errors
/// Fails if the system does not allow signal handlers.
pub fn shutdown_on_signals() -> std::io::Result<Shutdown> {
    let shutdown = Shutdown::new();
    let token = shutdown.clone();
    #[cfg(unix)]
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::spawn(async move {
        for last in [false, true] {
            #[cfg(unix)]
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
            #[cfg(not(unix))]
            let _ = tokio::signal::ctrl_c().await;
            if last {
                tracing::warn!("second signal: exiting without waiting for calls in flight");
                std::process::exit(130);
            }
            tracing::info!("shutting down: finishing calls in flight");
            token.cancel();
        }
    });
    Ok(shutdown)
}
