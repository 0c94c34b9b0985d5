//! Ready means: an encoder that the model was fitted on answers.

use std::path::Path;
use std::time::Duration;

use service_kit::{Health, Shutdown};

use crate::encoder_pool::{EncoderPool, PoolHealth};
use crate::error::StartError;
use crate::model_store::ModelStore;

/// Between looks at what is known of the encoders.
const INTERVAL: Duration = Duration::from_millis(200);

/// Whether the right encoder answers now; the wrong one is an error, since waiting seldom mends it.
pub(crate) async fn first_look(
    models: &ModelStore,
    encoders: &EncoderPool,
    path: &Path,
) -> Result<bool, StartError> {
    match encoders.probe(&models.current().provenance().encoder).await {
        PoolHealth::Ready => Ok(true),
        PoolHealth::Wrong(error) => {
            Err(StartError::WrongEncoder { path: path.to_owned(), reason: error.to_string() })
        }
        PoolHealth::Unreachable(error) => {
            tracing::warn!(%error, "not ready: waiting for the encoder");
            Ok(false)
        }
    }
}

/// Keeps the reported health true until shutdown.
pub(crate) async fn watch(
    models: ModelStore,
    encoders: EncoderPool,
    health: Health,
    mut ready: bool,
    shutdown: Shutdown,
) {
    while shutdown.run_until_cancelled(tokio::time::sleep(INTERVAL)).await.is_some() {
        let found = encoders.health(&models.current().provenance().encoder);
        let now_ready = found == PoolHealth::Ready;
        // After shutdown was asked for, nothing may report ready again.
        if now_ready == ready || shutdown.is_cancelled() {
            continue;
        }
        health.set_serving(now_ready).await;
        ready = now_ready;
        match found {
            PoolHealth::Ready => tracing::info!("ready: the encoder answers"),
            PoolHealth::Wrong(error) | PoolHealth::Unreachable(error) => {
                tracing::warn!(%error, "not ready");
            }
        }
    }
}
