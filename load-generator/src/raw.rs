//! What ONNX Runtime does with the same bundle on the same cores when nothing stands before it.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use encoder_svc::bundle::Bundle;
use encoder_svc::session::EncoderSession;
use encoder_svc::shared_weights::SharedWeights;
use encoder_svc::tokenizer::TextTokenizer;
use hdrhistogram::Histogram;
use ort::environment::Environment;

use crate::load::record;

/// A bundle's graph and tokenizer.
pub struct Raw {
    environment: Environment,
    bundle: Bundle,
    weights: SharedWeights,
    tokenizer: TextTokenizer,
    cores: usize,
}

impl Raw {
    /// Opens the bundle.
    ///
    /// # Panics
    /// If the bundle or the runtime cannot be used.
    #[must_use]
    pub fn open(folder: &Path, cores: usize) -> Self {
        let environment = encoder_svc::runtime::load(None).unwrap_or_else(|error| panic!("{error}"));
        let bundle = Bundle::open(folder).unwrap_or_else(|error| panic!("{error}"));
        let weights = SharedWeights::read(&bundle.model_path()).unwrap_or_else(|error| panic!("{error}"));
        let tokenizer = TextTokenizer::load(&bundle).unwrap_or_else(|error| panic!("{error}"));
        Self { environment, bundle, weights, tokenizer, cores }
    }

    fn session(&self, threads: usize) -> EncoderSession {
        EncoderSession::load(&self.environment, &self.bundle, &self.weights, threads)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// Texts a second, each alone, one session of one thread a core. Tokenization included.
    #[must_use]
    pub fn each_alone(&self, texts: &[String]) -> f64 {
        let sessions = (0..self.cores).map(|_| self.session(1)).collect();
        Self::over_cores(texts.len(), sessions, |session: &mut EncoderSession, index| {
            let tokens = self.tokenizer.tokenize(&texts[index])?;
            session.run(&tokens).map(std::hint::black_box).map_err(|error| error.to_string())?;
            Ok(())
        })
    }

    /// Texts a second in batches of so many, sorted by length so that little is padded. Tokenization included.
    pub fn batched(&self, texts: &[String], size: usize) -> f64 {
        let mut sorted: Vec<_> = texts.iter().map(String::as_str).collect();
        sorted.sort_by_key(|text| text.len());
        let batches: Vec<_> = sorted.chunks(size).collect();
        let sessions = (0..self.cores).map(|_| self.session(1)).collect();
        let per_second = Self::over_cores(batches.len(), sessions, |session: &mut EncoderSession, index| {
            let tokens = batches[index].iter().map(|text| self.tokenizer.tokenize(text));
            let tokens = tokens.collect::<Result<Vec<_>, _>>()?;
            session.run_all(&tokens).map(std::hint::black_box).map_err(|error| error.to_string())?;
            Ok(())
        });
        per_second * texts.len() as f64 / batches.len() as f64
    }

    /// Items a second, shared out one by one.
    fn over_cores<S: Send>(
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
