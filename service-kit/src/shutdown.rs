//! When to stop.

use tokio_util::sync::CancellationToken;

/// A shutdown that is asked for once and seen by everyone who holds a clone.
pub type Shutdown = CancellationToken;

/// Cancelled by the first SIGTERM or Ctrl-C; a second one ends the process at once.
///
/// # Errors
/// Where the system does not allow signal handlers.
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
                tracing::warn!("second signal: ending without waiting for calls in flight");
                std::process::exit(130);
            }
            tracing::info!("shutting down: calls in flight are finished first");
            token.cancel();
        }
    });
    Ok(shutdown)
}
