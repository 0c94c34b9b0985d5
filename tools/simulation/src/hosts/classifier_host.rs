//! The process of the classifier: the real service with its encoder client and its model file.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use classifier_svc::{
    ClassifierSvcConfig, ClassifierSvcSettings, ModelSource, ModelStore, Service, StartError,
};
use encoder_client::{ClientConfig, EncoderClient};
use genre_model::{GenreModel, ModelFileError};
use service_kit::Metrics;

use crate::hosts::encoder_host;
use crate::network::incoming;
use crate::world::{Life, World};

/// The port of the classifier.
pub const PORT: u16 = 50052;
/// The name of all encoders together.
pub const ENCODERS: &str = "encoders";
/// The classifier's `encoder.timeout_seconds`.
pub const TIMEOUT: Duration = Duration::from_secs(5);

/// Runs the process, and restarts it if it fails to start.
pub async fn run(world: Arc<World>) -> anyhow::Result<()> {
    loop {
        match start(&world).await {
            // Restart it as an orchestrator does.
            Err(error) if is_expected(&error) => {
                world.event(&format!("the classifier refuses to start: {error}"));
                world.ledger.count("classifier:refused-to-start");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            outcome => return outcome,
        }
    }
}

fn is_expected(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(StartError::WrongEncoder { .. } | StartError::Model(_)))
}

async fn start(world: &Arc<World>) -> anyhow::Result<()> {
    let metrics = Metrics::default();
    let shutdown = Life::begin(world, |world| &world.classifier, &metrics);
    let mut settings = ClassifierSvcSettings {
        model: world.model_file(),
        model_poll_seconds: 0.2,
        drain_seconds: 1.0,
        ..ClassifierSvcSettings::default()
    };
    settings.rest.listen = String::new();
    settings.encoder.url = format!("http://{ENCODERS}:{}", encoder_host::PORT);
    settings.encoder.resolve_seconds = 1.0;
    settings.encoder.timeout_seconds = TIMEOUT.as_secs_f64();
    settings.encoder.hedge_seconds = world.plan.hedge_seconds;
    let mut config = ClassifierSvcConfig::try_from(settings)?;
    let network = Arc::new(world.network.clone());
    let targets = config.encoder.targets.drain(..).map(|target| target.over(network.clone())).collect();
    config.encoder = ClientConfig { targets, ..config.encoder };
    let models = ModelStore::load(config.model.clone(), &metrics).map_err(StartError::from)?;
    let source = PolledModel::new(config.model.clone(), config.model_poll);
    let encoders = EncoderClient::discover(config.encoder.clone(), &metrics, shutdown.clone()).await;
    let Service { server, .. } =
        classifier_svc::start(&config, models, encoders, source, metrics, shutdown.clone()).await?;
    world.event("the classifier serves");
    server.serve_incoming(incoming(PORT).await?, shutdown).await;
    world.event("the classifier has ended");
    Ok(())
}

/// A model file that is polled in simulated time and read on the same thread, because file events
/// and other threads run in real time.
struct PolledModel {
    path: PathBuf,
    poll: Duration,
    seen: Option<Vec<u8>>,
}

impl PolledModel {
    fn new(path: PathBuf, poll: Duration) -> Self {
        Self { seen: std::fs::read(&path).ok(), path, poll }
    }
}

impl ModelSource for PolledModel {
    async fn changed(&mut self) {
        loop {
            tokio::time::sleep(self.poll).await;
            let found = std::fs::read(&self.path).ok();
            if found != self.seen {
                self.seen = found;
                return;
            }
        }
    }

    async fn load(&mut self) -> Result<GenreModel, ModelFileError> {
        GenreModel::load(&self.path)
    }
}
