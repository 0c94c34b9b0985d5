//! Starting an encoder: bundle → sessions → self-check → calibration → workers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use service_kit::Metrics;

use crate::bundle::{Bundle, ReferenceText};
use crate::calibration::{AllCoreWorker, Calibration, calibrate};
use crate::config::EncoderConfig;
use crate::encoder::Encoder;
use crate::error::StartError;
use crate::inference::core_choice::CoreChoice;
use crate::inference::device::Device;
use crate::inference::onnx_runtime::{self, Environment};
use crate::inference::self_check::{batch_check, self_check};
use crate::inference::session::EncoderSession;
use crate::inference::shared_weights::SharedWeights;
use crate::inference::worker_pool::{ReservedSessions, Sessions, WorkerPool};
use crate::metrics::{Cores, StageMetrics};
use crate::scheduler::admission::Admission;
use crate::scheduler::cost::CostModel;
use crate::scheduler::micro_batch::BatchRule;
use crate::tokenizer::TextTokenizer;
use crate::tokenizer::tokens::Tokens;

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
    let texts = bundle.reference_texts()?;
    let batches =
        config.batch_tokens.map(|tokens| BatchRule { tokens, max_tokens: bundle.manifest.max_tokens });
    let failed = |reason| StartError::SelfCheck { path: bundle.folder().to_owned(), reason };
    let loader = Loader::new(config, &environment, &bundle)?;
    let mut single_core = loader.single_core()?;
    let mut all_cores = loader.all_cores()?;
    let (calibration, tokens) = {
        let one_thread = single_core.first_mut().ok_or_else(|| failed("no session".to_owned()))?;
        check(&bundle, &texts, &tokenizer, one_thread, all_cores.as_mut(), batches).map_err(failed)?;
        let tokens = tokenizer.tokenize(ordinary(&texts)).map_err(failed)?;
        let mut on_one_thread = || time(one_thread, &tokens);
        let mut on_all_cores = all_cores.as_mut().map(|session| || time(session, &tokens));
        let on_all_cores = on_all_cores.as_mut().map(|run| run as _);
        let found = calibrate(&mut on_one_thread, on_all_cores, config.all_core_worker);
        (found.map_err(failed)?, tokens.ids.len())
    };
    let reserved = loader.reserved(all_cores, &calibration, tokens)?;
    drop(loader);
    let sessions = Sessions { niceness: config.worker_niceness, single_core, reserved, batches };
    let costs = CostModel::new(bundle.manifest.max_tokens, ordinary(&texts), calibration.one_thread);
    let admission = Arc::new(Admission::new(costs, config.sessions, config.queue_limits, metrics));
    let workers = WorkerPool::start(sessions, &tokenizer, &admission, &StageMetrics::new(metrics))?;
    let description = bundle.description();
    let milliseconds = |time: Duration| time.as_micros() as f64 / 1e3;
    tracing::info!(
        one_thread_ms = milliseconds(calibration.one_thread),
        all_cores_ms = calibration.all_cores.map(milliseconds),
        setting = ?config.all_core_worker,
        all_core_worker = calibration.uses_all_cores,
        "calibrated: a reference text of {} bytes",
        ordinary(&texts).len()
    );
    tracing::info!(
        encoder = description.id,
        version = description.version,
        fingerprint = description.fingerprint,
        device = %config.device,
        sessions = config.sessions,
        milliseconds = begin.elapsed().as_millis() as u64,
        "encoder ready"
    );
    Ok(Encoder::new(description, calibration, admission, workers, config, metrics))
}

/// Loads the graph into sessions.
struct Loader<'a> {
    config: &'a EncoderConfig,
    environment: &'a Environment,
    bundle: &'a Bundle,
    /// Shared by the sessions on a CPU; `None` on a GPU.
    weights: Option<SharedWeights>,
}

impl<'a> Loader<'a> {
    fn new(
        config: &'a EncoderConfig,
        environment: &'a Environment,
        bundle: &'a Bundle,
    ) -> Result<Self, StartError> {
        let path = bundle.model_path();
        let weights = match config.device {
            Device::Cpu => {
                Some(SharedWeights::read(&path).map_err(|source| StartError::Weights { path, source })?)
            }
            Device::Cuda => None,
        };
        Ok(Self { config, environment, bundle, weights })
    }

    fn load(&self, threads: usize) -> Result<EncoderSession, StartError> {
        let Self { config, environment, bundle, weights } = self;
        match weights {
            Some(weights) => EncoderSession::load(environment, bundle, weights, threads)
                .map_err(|source| StartError::Session { path: bundle.model_path(), source }),
            None => EncoderSession::load_on_cuda(environment, bundle, config.device_id)
                .map_err(|source| StartError::Device { device: config.device, source }),
        }
    }

    fn single_core(&self) -> Result<Vec<EncoderSession>, StartError> {
        (0..self.config.sessions).map(|_| self.load(1)).collect()
    }

    /// Loads the session that could run a lone text on all cores.
    fn all_cores(&self) -> Result<Option<EncoderSession>, StartError> {
        let threads = self.config.all_core_threads;
        let is_possible = self.weights.is_some() && threads > 1;
        (is_possible && self.config.all_core_worker != AllCoreWorker::Off)
            .then(|| self.load(threads))
            .transpose()
    }

    /// Loads the session that runs a lone text on one core, unless all cores always run it. A GPU runs
    /// it with the others. `tokens` is the length of the text of the calibration.
    fn reserved(
        &self,
        all_cores: Option<EncoderSession>,
        calibration: &Calibration,
        tokens: usize,
    ) -> Result<Option<ReservedSessions>, StartError> {
        if self.weights.is_none() {
            return Ok(None);
        }
        let fixed = |session, cores| Ok(Some(ReservedSessions { session, cores, other: None }));
        let choice = CoreChoice::new(calibration, tokens);
        let (Some(all_cores), Some(choice)) = (all_cores, choice) else {
            return fixed(self.load(1)?, Cores::One);
        };
        if self.config.all_core_worker == AllCoreWorker::On {
            return fixed(all_cores, Cores::All);
        }
        let one_core = self.load(1)?;
        Ok(Some(if calibration.uses_all_cores {
            ReservedSessions { session: all_cores, cores: Cores::All, other: Some((one_core, choice)) }
        } else {
            ReservedSessions { session: one_core, cores: Cores::One, other: Some((all_cores, choice)) }
        }))
    }
}

/// Checks the vectors of one session of each kind.
fn check(
    bundle: &Bundle,
    texts: &[ReferenceText],
    tokenizer: &TextTokenizer,
    one_thread: &mut EncoderSession,
    all_cores: Option<&mut EncoderSession>,
    batches: Option<BatchRule>,
) -> Result<(), String> {
    let agreement = bundle.manifest.reference.agreement()?;
    if let Some(session) = all_cores {
        self_check(texts, agreement, tokenizer, session)?;
    }
    self_check(texts, agreement, tokenizer, one_thread)?;
    if batches.is_some() {
        batch_check(texts, tokenizer, one_thread)?;
    }
    Ok(())
}

/// Runs a text and returns the time that it took.
fn time(session: &mut EncoderSession, text: &Tokens) -> Result<Duration, String> {
    let begin = Instant::now();
    session.run(text).map_err(|error| error.to_string())?;
    Ok(begin.elapsed())
}

/// The reference text whose speed is measured: the longest that is not cut, which is about as long
/// as a movie's overview.
fn ordinary(texts: &[ReferenceText]) -> &str {
    let whole = texts.iter().filter(|text| !text.truncated);
    let longest = whole.max_by_key(|text| text.text.len()).or_else(|| texts.first());
    longest.map_or("a", |text| text.text.as_str())
}
