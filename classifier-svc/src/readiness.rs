//! Ready means: the encoder that the model was fitted on answers.

use std::path::Path;
use std::time::Duration;

use service_kit::{ApiError, Health, Shutdown};

use crate::encoder_client::EncoderClient;
use crate::error::StartError;

/// How long one look may take.
const LOOK_TIMEOUT: Duration = Duration::from_secs(2);
/// Between looks at an encoder that answers.
const WHEN_READY: Duration = Duration::from_secs(5);
/// Between looks at one that does not: its return should be noticed soon.
const WHEN_NOT: Duration = Duration::from_millis(500);

/// Whether the right encoder answers now; the wrong one is an error, since waiting cannot mend it.
pub(crate) async fn first_look(client: &EncoderClient, model: &Path) -> Result<bool, StartError> {
    match client.check(LOOK_TIMEOUT).await {
        Ok(encoder) => {
            tracing::info!(encoder = encoder.id, version = encoder.version, "encoder answers");
            Ok(true)
        }
        Err(ApiError::WrongEncoder { message }) => {
            Err(StartError::WrongEncoder { path: model.to_owned(), reason: message })
        }
        Err(error) => {
            tracing::warn!(%error, "not ready: waiting for the encoder");
            Ok(false)
        }
    }
}

/// Keeps the reported health true until shutdown.
pub(crate) async fn watch(client: EncoderClient, health: Health, mut ready: bool, shutdown: Shutdown) {
    loop {
        let pause = if ready { WHEN_READY } else { WHEN_NOT };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shutdown.cancelled() => return,
        }
        let now_ready = match client.check(LOOK_TIMEOUT).await {
            Ok(_) => true,
            Err(error) => {
                if ready {
                    tracing::warn!(%error, "not ready");
                }
                false
            }
        };
        // After shutdown was asked for, nothing may report ready again.
        if now_ready != ready && !shutdown.is_cancelled() {
            health.set_serving(now_ready).await;
            if now_ready {
                tracing::info!("ready: the encoder answers");
            }
            ready = now_ready;
        }
    }
}
