//! What ONNX Runtime does with the same bundle on the same cores when nothing stands before it.

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

/// A bundle's graph and tokenizer.
pub struct Raw {
    environment: Environment,
    bundle: Bundle,
    device: Device,
    /// Of sessions on the CPU.
    weights: SharedWeights,
    tokenizer: TextTokenizer,
}

impl Raw {
    /// Opens the bundle.
    ///
    /// # Panics
    /// If the bundle or the runtime cannot be used.
    #[must_use]
    pub fn open(folder: &Path, device: Device) -> Self {
        let environment =
            encoder_svc::inference::onnx_runtime::load(None).unwrap_or_else(|error| panic!("{error}"));
        let bundle = Bundle::open(folder).unwrap_or_else(|error| panic!("{error}"));
        let weights = SharedWeights::read(&bundle.model_path()).unwrap_or_else(|error| panic!("{error}"));
        let tokenizer = TextTokenizer::load(&bundle).unwrap_or_else(|error| panic!("{error}"));
        Self { environment, bundle, device, weights, tokenizer }
    }

    fn session(&self, threads: usize) -> EncoderSession {
        let session = match self.device {
            Device::Cpu => EncoderSession::load(&self.environment, &self.bundle, &self.weights, threads),
            Device::Cuda => EncoderSession::load_on_cuda(&self.environment, &self.bundle, 0),
        };
        session.unwrap_or_else(|error| panic!("{error}"))
    }

    fn sessions(&self, count: usize) -> Vec<EncoderSession> {
        (0..count).map(|_| self.session(1)).collect()
    }

    /// Texts a second, each alone, on so many sessions of one thread. Tokenization included.
    #[must_use]
    pub fn each_alone(&self, texts: &[String], sessions: usize) -> f64 {
        Self::shared_out(texts.len(), self.sessions(sessions), |session: &mut EncoderSession, index| {
            let tokens = self.tokenizer.tokenize(&texts[index])?;
            session.run(&tokens).map(std::hint::black_box).map_err(|error| error.to_string())?;
            Ok(())
        })
    }

    /// Texts a second in batches of so many, sorted by length so that little is padded. Tokenization included.
    ///
    /// # Panics
    /// If a text cannot be run.
    #[must_use]
    pub fn batched(&self, texts: &[String], size: usize, sessions: usize) -> f64 {
        let mut sorted: Vec<_> = texts.iter().map(String::as_str).collect();
        sorted.sort_by_key(|text| text.len());
        let batches: Vec<_> = sorted.chunks(size).collect();
        let run = |session: &mut EncoderSession, index: usize| -> Result<(), String> {
            let tokens = batches[index].iter().map(|text| self.tokenizer.tokenize(text));
            let tokens = tokens.collect::<Result<Vec<_>, _>>()?;
            session.run_all(&tokens).map(std::hint::black_box).map_err(|error| error.to_string())?;
            Ok(())
        };
        let mut sessions = self.sessions(sessions);
        if self.device != Device::Cpu {
            // Kernels are chosen and memory is taken by the first runs, of the longest above all.
            for session in &mut sessions {
                for index in (0..batches.len()).step_by(batches.len().div_ceil(8)).chain([batches.len() - 1])
                {
                    run(session, index).unwrap_or_else(|error| panic!("{error}"));
                }
            }
        }
        let per_second = Self::shared_out(batches.len(), sessions, run);
        per_second * texts.len() as f64 / batches.len() as f64
    }

    /// Items a second, shared out one by one.
    fn shared_out<S: Send>(
        items: usize,
        sessions: Vec<S>,
        run: impl Fn(&mut S, usize) -> Result<(), String> + Sync,
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
                        run(&mut session, index).unwrap_or_else(|error| panic!("{error}"));
                    }
                });
            }
        });
        items as f64 / begin.elapsed().as_secs_f64()
    }

    /// The vector of each text, run alone.
    ///
    /// # Panics
    /// If a text cannot be run.
    #[must_use]
    pub fn vectors(&self, texts: &[String]) -> Vec<Vec<f32>> {
        let mut session = self.session(1);
        let vector = |text: &String| {
            let tokens = self.tokenizer.tokenize(text).unwrap_or_else(|error| panic!("{error}"));
            session.run(&tokens).unwrap_or_else(|error| panic!("{error}"))
        };
        texts.iter().map(vector).collect()
    }

    /// A session of so many threads, for one text at a time.
    ///
    /// # Panics
    /// If the graph cannot be loaded.
    #[must_use]
    pub fn one_caller(&self, threads: usize) -> RawCaller<'_> {
        RawCaller { tokenizer: &self.tokenizer, session: self.session(threads) }
    }
}

/// What a lone caller's texts take at best: nothing between them and the graph.
pub struct RawCaller<'a> {
    tokenizer: &'a TextTokenizer,
    session: EncoderSession,
}

impl RawCaller<'_> {
    /// Runs texts one at a time, and adds how long each took.
    ///
    /// # Panics
    /// If a text cannot be run.
    pub fn run(&mut self, texts: &[String], latencies: &mut Histogram<u64>) {
        for text in texts {
            let begin = Instant::now();
            let tokens = self.tokenizer.tokenize(text).unwrap_or_else(|error| panic!("{error}"));
            std::hint::black_box(self.session.run(&tokens).unwrap_or_else(|error| panic!("{error}")));
            record(latencies, begin.elapsed());
        }
    }
}
