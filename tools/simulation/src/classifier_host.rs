//! The classifier's process: the real service, with its pool of encoders and its model file.

use std::sync::Arc;
use std::time::Duration;

use classifier_svc::encoder_pool::PoolConfig;
use classifier_svc::{
    ClassifierSvcConfig, ClassifierSvcSettings, EncoderPool, ModelStore, Service, StartError,
};
use service_kit::{FileWatch, Metrics};

use crate::encoder_host;
use crate::network::incoming;
use crate::world::{Life, World};

/// Where the classifier is met.
pub const PORT: u16 = 50052;
/// The name that all encoders have.
pub const ENCODERS: &str = "encoders";
/// What a call to the encoders may take where the caller gave no deadline.
pub const TIMEOUT: Duration = Duration::from_secs(5);

/// The process, from its start to its end, and again where it refused to start.
pub async fn run(world: Arc<World>) -> anyhow::Result<()> {
    loop {
        match start(&world).await {
            // An orchestrator starts it again.
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
    config.encoder = PoolConfig { targets, ..config.encoder };
    let models = ModelStore::load(config.model.clone(), &metrics).map_err(StartError::from)?;
    let changes = FileWatch::polling(vec![config.model.clone()], config.model_poll);
    let encoders = EncoderPool::discover(config.encoder.clone(), &metrics, shutdown.clone()).await;
    let Service { server, .. } =
        classifier_svc::start(&config, models, encoders, changes, metrics, shutdown.clone()).await?;
    world.event("the classifier serves");
    server.serve_incoming(incoming(PORT).await?, shutdown).await?;
    world.event("the classifier has ended");
    Ok(())
}
