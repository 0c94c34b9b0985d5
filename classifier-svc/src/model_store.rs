//! The current model, and its replacement while calls are in flight.
//!
//! A call uses one model from start to end. A changed file replaces the model only after every
//! check: its hash and self-check (`genre_model`), its labels, and that an encoder with its
//! fingerprint and dimension answers.
//!
//! `arc-swap` swaps the model, and `notify` (through [`model_file`](crate::model_file)) reports
//! changes. This module only decides whether to accept a model, because that depends on which
//! encoder answers.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use encoder_client::{EncoderClient, EncoderError};
use genre_model::{GenreModel, ModelFileError};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use service_kit::{Metrics, Shutdown};

use crate::model_file::ModelSource;

/// Time between checks of a model file whose encoder does not answer yet.
const WAIT_FOR_ENCODER: Duration = Duration::from_secs(2);

/// The current model. Clones share it.
#[derive(Clone)]
pub struct ModelStore {
    current: Arc<ArcSwap<GenreModel>>,
    path: PathBuf,
    reloads: Family<Outcome, Counter>,
    info: Family<ModelLabels, Gauge>,
}

/// Labels of the metric that names the current model.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ModelLabels {
    version: String,
    encoder_fingerprint: String,
}

impl ModelLabels {
    fn of(model: &GenreModel) -> Self {
        let encoder_fingerprint = model.provenance().encoder.fingerprint.to_string();
        Self { version: model.version().to_owned(), encoder_fingerprint }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

/// Why a model file was rejected.
#[derive(Debug, thiserror::Error)]
pub enum Rejection {
    /// The file is missing or invalid.
    #[error(transparent)]
    File(#[from] ModelFileError),
    /// Its labels differ from those of the current model.
    #[error("model file {path}: expected the labels of the model in use, found {found:?}")]
    Labels {
        /// The model file.
        path: PathBuf,
        /// Its labels.
        found: Vec<String>,
    },
    /// No encoder with its fingerprint and dimension answers. This may change while the file stays
    /// the same.
    #[error("model file {path}: {error}")]
    Encoder {
        /// The model file.
        path: PathBuf,
        /// Its version.
        version: String,
        /// The expected encoder and the ones found.
        error: EncoderError,
    },
}

impl ModelStore {
    /// Loads the first model and registers the metrics.
    ///
    /// # Errors
    ///
    /// Fails if the file is missing or invalid.
    pub fn load(path: PathBuf, metrics: &Metrics) -> Result<Self, ModelFileError> {
        let model = GenreModel::load(&path)?;
        let reloads: Family<Outcome, Counter> = metrics.register(
            "model_reloads",
            "Changes of the model file, by outcome: accepted or rejected",
            Family::default(),
        );
        // Start at zero, so that the first change shows as an increase.
        for outcome in ["accepted", "rejected"] {
            reloads.get_or_create(&Outcome { outcome }).inc_by(0);
        }
        tracing::info!(
            model = model.version(),
            file = %path.display(),
            encoder = %model.provenance().encoder,
            thresholds = model.thresholds().rule(),
            "model loaded"
        );
        let info: Family<ModelLabels, Gauge> =
            metrics.register("model_info", "The current model; always 1", Family::default());
        info.get_or_create_owned(&ModelLabels::of(&model)).set(1);
        Ok(Self { current: Arc::new(ArcSwap::from_pointee(model)), path, reloads, info })
    }

    /// The current model. A call keeps the one it starts with.
    #[must_use]
    pub fn current(&self) -> Arc<GenreModel> {
        self.current.load_full()
    }

    /// Loads the model of `source` and replaces the current one if it is valid and another version.
    /// Returns whether it did.
    async fn reload(
        &self,
        encoders: &EncoderClient,
        source: &mut impl ModelSource,
    ) -> Result<bool, Rejection> {
        let model = source.load().await?;
        let current = self.current();
        if model.version() == current.version() {
            return Ok(false);
        }
        if model.labels() != current.labels() {
            return Err(Rejection::Labels { path: self.path.clone(), found: model.labels().to_vec() });
        }
        let needs =
            |model: &GenreModel| (model.provenance().encoder.fingerprint.clone(), model.mlp().dimension());
        // The same needs are not probed, so thresholds can change while no encoder answers.
        if needs(&model) != needs(&current)
            && let Err(error) = encoders.probe(&model.provenance().encoder, model.mlp().dimension()).await
        {
            let version = model.version().to_owned();
            return Err(Rejection::Encoder { path: self.path.clone(), version, error });
        }
        tracing::info!(model = model.version(), replaces = current.version(), "model replaced");
        self.info.clear();
        self.info.get_or_create_owned(&ModelLabels::of(&model)).set(1);
        self.current.store(Arc::new(model));
        Ok(true)
    }

    /// Reloads the model on every change of `source` until shutdown. A rejected model is counted
    /// and logged, and the current one stays.
    pub async fn follow(self, encoders: EncoderClient, mut source: impl ModelSource, shutdown: Shutdown) {
        let follow = async {
            // The version that waits for its encoder.
            let mut waiting: Option<String> = None;
            // Reload at once: the file may have changed between the first load and the start of the
            // watch.
            loop {
                let waited = waiting.take();
                match self.reload(&encoders, &mut source).await {
                    Ok(replaced) => {
                        if replaced {
                            self.count("accepted");
                        }
                    }
                    Err(rejection) => {
                        if let Rejection::Encoder { version, .. } = &rejection {
                            waiting = Some(version.clone());
                        }
                        // Count a change once, however often it is checked.
                        if waiting.is_none() || waiting != waited {
                            self.count("rejected");
                            tracing::error!(error = %rejection, "new model rejected, keeping the current one");
                        }
                    }
                }
                tokio::select! {
                    () = source.changed() => {}
                    () = tokio::time::sleep(WAIT_FOR_ENCODER), if waiting.is_some() => {}
                }
            }
        };
        shutdown.run_until_cancelled(follow).await;
    }

    fn count(&self, outcome: &'static str) {
        self.reloads.get_or_create(&Outcome { outcome }).inc();
    }
}
