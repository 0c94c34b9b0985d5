//! Starting an encoder: bundle → sessions → self-check → first cost estimate → workers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use service_kit::Metrics;

use crate::bundle::{Bundle, ReferenceText};
use crate::config::EncoderConfig;
use crate::encoder::Encoder;
use crate::error::StartError;
use crate::inference::device::Device;
use crate::inference::onnx_runtime::{self, Environment};
use crate::inference::self_check::{batch_check, self_check};
use crate::inference::session::EncoderSession;
use crate::inference::shared_weights::SharedWeights;
use crate::inference::worker_pool::{Sessions, WorkerPool};
use crate::metrics::StageMetrics;
use crate::scheduler::admission::Admission;
use crate::scheduler::cost::CostModel;
use crate::scheduler::micro_batch::BatchRule;
use crate::tokenizer::TextTokenizer;

/// Verifies the bundle, loads it into sessions, checks that they reproduce its reference vectors,
/// and starts the workers.
pub async fn start(config: EncoderConfig, metrics: Metrics) -> Result<Encoder, StartError> {
    let started = tokio::task::spawn_blocking(move || start_blocking(&config, &metrics)).await;
    started.map_err(|error| StartError::System(std::io::Error::other(error)))?
}

fn start_blocking(config: &EncoderConfig, metrics: &Metrics) -> Result<Encoder, StartError> {
    let begin = Instant::now();
    let environment = onnx_runtime::load(config.runtime_library.as_deref())?;
    let bundle = Bundle::open(&config.bundle)?;
    let tokenizer = TextTokenizer::load(&bundle)?;
    let mut sessions = load_sessions(config, &environment, &bundle)?;
    let texts = bundle.reference_texts()?;
    let took = check(&bundle, &texts, &tokenizer, &mut sessions)
        .map_err(|reason| StartError::SelfCheck { path: bundle.folder().to_owned(), reason })?;
    let costs = CostModel::new(bundle.manifest.max_tokens, longest(&texts), took);
    let admission = Arc::new(Admission::new(costs, config.sessions, config.queue_limits, metrics));
    let workers = WorkerPool::start(sessions, &tokenizer, &admission, &StageMetrics::new(metrics))?;
    let description = bundle.description();
    tracing::info!(
        encoder = description.id,
        version = description.version,
        fingerprint = description.fingerprint,
        device = %config.device,
        sessions = config.sessions,
        milliseconds = begin.elapsed().as_millis() as u64,
        "encoder ready"
    );
    Ok(Encoder::new(description, admission, workers, config, metrics))
}

fn load_sessions(
    config: &EncoderConfig,
    environment: &Environment,
    bundle: &Bundle,
) -> Result<Sessions, StartError> {
    let path = || bundle.model_path();
    let (single_core, all_core) = match config.device {
        Device::Cpu => {
            let weights = SharedWeights::read(&path())
                .map_err(|source| StartError::Weights { path: path(), source })?;
            let load = |threads| {
                EncoderSession::load(environment, bundle, &weights, threads)
                    .map_err(|source| StartError::Session { path: path(), source })
            };
            let single_core = (0..config.sessions).map(|_| load(1)).collect::<Result<_, _>>()?;
            (single_core, Some(load(config.all_core_threads)?))
        }
        Device::Cuda => {
            let load = || {
                EncoderSession::load_on_cuda(environment, bundle, config.device_id)
                    .map_err(|source| StartError::Device { device: config.device, source })
            };
            ((0..config.sessions).map(|_| load()).collect::<Result<_, _>>()?, None)
        }
    };
    let batches =
        config.batch_tokens.map(|tokens| BatchRule { tokens, max_tokens: bundle.manifest.max_tokens });
    Ok(Sessions { niceness: config.worker_niceness, single_core, all_core, batches })
}

/// Checks the vectors of one session of each kind. Returns the time that a warm session takes for
/// the longest reference text.
fn check(
    bundle: &Bundle,
    texts: &[ReferenceText],
    tokenizer: &TextTokenizer,
    sessions: &mut Sessions,
) -> Result<Duration, String> {
    let agreement = bundle.manifest.reference.agreement()?;
    for session in sessions.single_core.first_mut().into_iter().chain(&mut sessions.all_core) {
        self_check(texts, agreement, tokenizer, session)?;
    }
    let Some(session) = sessions.single_core.first_mut() else { return Ok(Duration::ZERO) };
    if sessions.batches.is_some() {
        batch_check(texts, tokenizer, session)?;
    }
    let begin = Instant::now();
    let tokens = tokenizer.tokenize(longest(texts))?;
    session.run(&tokens).map_err(|error| error.to_string())?;
    Ok(begin.elapsed())
}

fn longest(texts: &[ReferenceText]) -> &str {
    texts.iter().map(|text| text.text.as_str()).max_by_key(|text| text.len()).unwrap_or("a")
}
