//! The model that answers now, and its replacement by another while calls are in flight.
//!
//! A call takes the model it begins with and keeps it to its end. A file becomes the model only after everything that
//! can be wrong with it has been looked at: its hash and self-check (`genre_model`), its labels, and that an encoder
//! of its fingerprint is there.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use genre_model::{GenreModel, ModelFileError};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use service_kit::{ApiError, FileWatch, Metrics, Shutdown, blocking};

use crate::encoder_pool::{EncoderPool, PoolHealth};

/// A model whose encoder is not there yet is looked at again after this.
const WAIT_FOR_ENCODER: Duration = Duration::from_secs(2);

/// The current model. Clones share it.
#[derive(Clone)]
pub struct ModelStore {
    current: Arc<ArcSwap<GenreModel>>,
    path: PathBuf,
    reloads: Family<Outcome, Counter>,
    info: Family<ModelLabels, Gauge>,
}

/// Which model answers.
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

/// Why a file did not become the model.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// It is missing or not a sound model.
    #[error(transparent)]
    File(#[from] ModelFileError),
    /// It tells other genres than the model before.
    #[error("model file {path}: expected the labels of the model in use, found {found:?}")]
    Labels {
        /// Which file.
        path: PathBuf,
        /// Its labels.
        found: Vec<String>,
    },
    /// No encoder of its fingerprint answers, which may change without the file.
    #[error("model file {path}: {error}")]
    Encoder {
        /// Which file.
        path: PathBuf,
        /// Which encoder was expected, and which ones answer.
        error: ApiError,
    },
}

impl ModelStore {
    /// Reads the first model; there is none to fall back to.
    pub fn load(path: PathBuf, metrics: &Metrics) -> Result<Self, ModelFileError> {
        let model = GenreModel::load(&path)?;
        let reloads: Family<Outcome, Counter> = metrics.register(
            "model_reloads",
            "Changes of the model file, by whether they were taken",
            Family::default(),
        );
        // From zero, so that the first one is an increase.
        for outcome in ["taken", "refused"] {
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
            metrics.register("model_info", "The model that answers; always 1", Family::default());
        info.get_or_create_owned(&ModelLabels::of(&model)).set(1);
        Ok(Self { current: Arc::new(ArcSwap::from_pointee(model)), path, reloads, info })
    }

    /// The model to begin a call with.
    #[must_use]
    pub fn current(&self) -> Arc<GenreModel> {
        self.current.load_full()
    }

    /// Reads the file again, and replaces the model by it if it is sound, and another.
    async fn reload(&self, encoders: &EncoderPool) -> Result<bool, Refusal> {
        let path = self.path.clone();
        // Some megabytes are read and hashed: not on a thread that answers calls.
        let read = blocking(move || GenreModel::load(&path)).await;
        let model = read.map_err(|error| ModelFileError::Invalid {
            path: self.path.clone(),
            reason: format!("reading it failed: {error}"),
        })??;
        let current = self.current();
        if model.version() == current.version() {
            return Ok(false);
        }
        if model.labels() != current.labels() {
            return Err(Refusal::Labels { path: self.path.clone(), found: model.labels().to_vec() });
        }
        let identity = &model.provenance().encoder;
        // The fingerprint of the model in use needs no asking: it may be changed while no encoder answers.
        if identity.fingerprint != current.provenance().encoder.fingerprint
            && let PoolHealth::Wrong(error) | PoolHealth::Unreachable(error) = encoders.probe(identity).await
        {
            return Err(Refusal::Encoder { path: self.path.clone(), error });
        }
        tracing::info!(model = model.version(), replaces = current.version(), "model replaced");
        self.info.clear();
        self.info.get_or_create_owned(&ModelLabels::of(&model)).set(1);
        self.current.store(Arc::new(model));
        Ok(true)
    }

    /// Follows the file by its `changes` until shutdown; what is refused is counted and logged, and the old model goes on.
    pub async fn follow(self, encoders: EncoderPool, mut changes: FileWatch, shutdown: Shutdown) {
        let follow = async {
            let mut waiting = false;
            // The first look is at once: the file may have changed between its first reading and the watch.
            loop {
                let was_waiting = std::mem::take(&mut waiting);
                match self.reload(&encoders).await {
                    Ok(replaced) => {
                        if replaced {
                            self.count("taken");
                        }
                    }
                    Err(refusal) => {
                        waiting = matches!(refusal, Refusal::Encoder { .. });
                        // Once a change, however often it is looked at.
                        if !(was_waiting && waiting) {
                            self.count("refused");
                            tracing::error!(error = %refusal, "new model refused, the old one goes on");
                        }
                    }
                }
                tokio::select! {
                    () = changes.changed() => {}
                    () = tokio::time::sleep(WAIT_FOR_ENCODER), if waiting => {}
                }
            }
        };
        shutdown.run_until_cancelled(follow).await;
    }

    fn count(&self, outcome: &'static str) {
        self.reloads.get_or_create(&Outcome { outcome }).inc();
    }
}
