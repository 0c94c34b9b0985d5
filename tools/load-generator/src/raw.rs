//! ONNX Runtime alone: the same bundle on the same machine, with no service in front of it.

use std::fmt::Display;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use encoder_svc::bundle::Bundle;
use encoder_svc::inference::device::Device;
use encoder_svc::inference::session::EncoderSession;
use encoder_svc::inference::shared_weights::SharedWeights;
use encoder_svc::tokenizer::TextTokenizer;
use hdrhistogram::Histogram;
use ort::environment::Environment;

use crate::load::record;

/// An encoder bundle, ready to open sessions. Rates and latencies include tokenization.
pub struct Raw {
    environment: Environment,
    /// The opened bundle.
    pub bundle: Bundle,
    device: Device,
    /// Shared by the sessions on the CPU.
    weights: SharedWeights,
    tokenizer: TextTokenizer,
}

/// Unwraps a result, or panics with its error as a message for the user.
fn must<T>(result: Result<T, impl Display>) -> T {
    result.unwrap_or_else(|error| panic!("{error}"))
}

impl Raw {
    /// Opens the bundle in `folder`.
    #[must_use]
    pub fn open(folder: &Path, device: Device) -> Self {
        let environment = must(encoder_svc::inference::onnx_runtime::load(None));
        let bundle = must(Bundle::open(folder));
        let weights = must(SharedWeights::read(&bundle.model_path()));
        let tokenizer = must(TextTokenizer::load(&bundle));
        Self { environment, bundle, device, weights, tokenizer }
    }

    fn session(&self, threads: usize) -> EncoderSession {
        must(match self.device {
            Device::Cpu => EncoderSession::load(&self.environment, &self.bundle, &self.weights, threads),
            Device::Cuda => EncoderSession::load_on_cuda(&self.environment, &self.bundle, 0),
        })
    }

    fn sessions(&self, count: usize) -> Vec<EncoderSession> {
        (0..count).map(|_| self.session(1)).collect()
    }

    fn run(&self, session: &mut EncoderSession, text: &str) -> Vec<f32> {
        must(session.run(&must(self.tokenizer.tokenize(text))))
    }

    /// Returns the tokens of a text that the encoder reads.
    #[must_use]
    pub fn tokens(&self, text: &str) -> usize {
        must(self.tokenizer.tokenize(text)).ids.len()
    }

    /// Runs each text alone, on `sessions` sessions of one thread, and returns texts per second.
    #[must_use]
    pub fn each_alone(&self, texts: &[String], sessions: usize) -> f64 {
        Self::share_out(texts.len(), self.sessions(sessions), |session, index| {
            std::hint::black_box(self.run(session, &texts[index]));
        })
    }

    /// Runs batches of `size` texts, sorted by length to save padding, and returns texts per
    /// second.
    #[must_use]
    pub fn batched(&self, texts: &[String], size: usize, sessions: usize) -> f64 {
        let mut sorted: Vec<_> = texts.iter().map(String::as_str).collect();
        sorted.sort_by_key(|text| text.len());
        let batches: Vec<_> = sorted.chunks(size).collect();
        let run = |session: &mut EncoderSession, index: usize| {
            let tokens: Vec<_> =
                batches[index].iter().map(|text| must(self.tokenizer.tokenize(text))).collect();
            std::hint::black_box(must(session.run_all(&tokens)));
        };
        let mut sessions = self.sessions(sessions);
        if self.device != Device::Cpu {
            // The first runs on a GPU choose kernels and allocate memory, most of all for the
            // longest batch.
            for session in &mut sessions {
                let sample = (0..batches.len()).step_by(batches.len().div_ceil(8));
                sample.chain([batches.len() - 1]).for_each(|index| run(session, index));
            }
        }
        Self::share_out(batches.len(), sessions, run) * texts.len() as f64 / batches.len() as f64
    }

    /// Runs items one by one on whichever session is free, and returns items per second.
    fn share_out(
        items: usize,
        sessions: Vec<EncoderSession>,
        run: impl Fn(&mut EncoderSession, usize) + Sync,
    ) -> f64 {
        let next = AtomicUsize::new(0);
        let begin = Instant::now();
        std::thread::scope(|scope| {
            for mut session in sessions {
                let (next, run) = (&next, &run);
                scope.spawn(move || {
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        if index >= items {
                            break;
                        }
                        run(&mut session, index);
                    }
                });
            }
        });
        items as f64 / begin.elapsed().as_secs_f64()
    }

    /// Returns the vector of each text, run alone.
    #[must_use]
    pub fn vectors(&self, texts: &[String]) -> Vec<Vec<f32>> {
        let mut session = self.session(1);
        texts.iter().map(|text| self.run(&mut session, text)).collect()
    }

    /// Opens a session of `threads` threads that runs one text at a time.
    #[must_use]
    pub fn single(&self, threads: usize) -> SingleSession<'_> {
        SingleSession { raw: self, session: self.session(threads) }
    }
}

/// A session that runs one text at a time: the lower bound for the latency of a call.
pub struct SingleSession<'a> {
    /// The bundle that it runs.
    pub raw: &'a Raw,
    session: EncoderSession,
}

impl SingleSession<'_> {
    /// Runs texts one at a time and records their latencies.
    pub fn run(&mut self, texts: &[String], latencies: &mut Histogram<u64>) {
        for text in texts {
            let begin = Instant::now();
            std::hint::black_box(self.raw.run(&mut self.session, text));
            record(latencies, begin.elapsed());
        }
    }
}
