//! Readiness: the service is ready while the encoder that the current model was fitted on answers.
//!
//! `tonic-health` serves the status but cannot derive it from another service, so a task here keeps
//! it current.

use std::path::Path;
use std::time::Duration;

use encoder_client::{EncoderClient, EncoderError};
use service_kit::{Health, Shutdown};

use crate::error::StartError;
use crate::model_store::ModelStore;

/// Time between updates from the encoder client, which probes the encoders itself.
const INTERVAL: Duration = Duration::from_millis(200);

/// Returns whether a matching encoder answers. A wrong encoder is an error, because waiting rarely
/// fixes it.
pub(crate) async fn check_at_start(
    models: &ModelStore,
    encoders: &EncoderClient,
    path: &Path,
) -> Result<bool, StartError> {
    let model = models.current();
    match encoders.probe(&model.provenance().encoder, model.mlp().dimension()).await {
        Ok(()) => Ok(true),
        Err(error @ (EncoderError::WrongEncoder { .. } | EncoderError::WrongDimension { .. })) => {
            Err(StartError::WrongEncoder { path: path.to_owned(), reason: error.to_string() })
        }
        Err(error) => {
            tracing::warn!(%error, "not ready: waiting for the encoder");
            Ok(false)
        }
    }
}

/// Keeps the reported health current until shutdown.
pub(crate) async fn watch(
    models: ModelStore,
    encoders: EncoderClient,
    health: Health,
    mut ready: bool,
    shutdown: Shutdown,
) {
    while shutdown.run_until_cancelled(tokio::time::sleep(INTERVAL)).await.is_some() {
        let model = models.current();
        let found = encoders.health(&model.provenance().encoder, model.mlp().dimension());
        let now_ready = found.is_ok();
        // Once shutdown has begun, the service must not report ready again.
        if now_ready == ready || shutdown.is_cancelled() {
            continue;
        }
        health.set_serving(now_ready).await;
        ready = now_ready;
        match found {
            Ok(()) => tracing::info!("ready: the encoder answers"),
            Err(error) => tracing::warn!(%error, "not ready"),
        }
    }
}
