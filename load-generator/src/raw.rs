//! What ONNX Runtime does with the same bundle on the same cores when nothing stands before it.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use encoder_svc::bundle::{Bundle, Inputs};
use encoder_svc::session::EncoderSession;
use encoder_svc::tokenizer::TextTokenizer;
use ort::environment::Environment;
use ort::session::Session;
use ort::value::TensorRef;

/// A bundle's graph and tokenizer.
pub struct Raw {
    environment: Environment,
    bundle: Bundle,
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
        let tokenizer = TextTokenizer::load(&bundle).unwrap_or_else(|error| panic!("{error}"));
        Self { environment, bundle, tokenizer, cores }
    }

    fn session(&self, threads: usize) -> EncoderSession {
        EncoderSession::load(&self.environment, &self.bundle, threads)
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
        let sessions = (0..self.cores).map(|_| self.batch_session()).collect();
        let per_second = Self::over_cores(batches.len(), sessions, |session: &mut Session, index| {
            self.run_batch(session, batches[index]).map_err(|error| error.to_string())
        });
        per_second * texts.len() as f64 / batches.len() as f64
    }

    fn batch_session(&self) -> Session {
        let build = || -> Result<_, ort::Error> {
            Session::builder(&self.environment)?
                .with_intra_threads(1)?
                .commit_from_file(self.bundle.model_path())
        };
        build().unwrap_or_else(|error| panic!("{error}"))
    }

    fn run_batch(&self, session: &mut Session, texts: &[&str]) -> Result<(), Box<dyn std::error::Error>> {
        let tokens = texts.iter().map(|text| self.tokenizer.tokenize(text)).collect::<Result<Vec<_>, _>>()?;
        let outputs = match &self.bundle.manifest.inputs {
            Inputs::Padded(names) => {
                let longest = tokens.iter().map(|tokens| tokens.ids.len()).max().unwrap_or(0);
                let mut ids = vec![0_i64; texts.len() * longest];
                let mut mask = vec![0_i64; texts.len() * longest];
                for (row, tokens) in tokens.iter().enumerate() {
                    let at = row * longest;
                    ids[at..at + tokens.ids.len()].copy_from_slice(&tokens.ids);
                    mask[at..at + tokens.ids.len()].fill(1);
                }
                let shape = [texts.len(), longest];
                session.run(ort::inputs![
                    names.ids.as_str() => TensorRef::from_array_view((shape, ids.as_slice()))?,
                    names.mask.as_str() => TensorRef::from_array_view((shape, mask.as_slice()))?,
                ])?
            }
            Inputs::Ragged(names) => {
                let ids: Vec<_> = tokens.iter().flat_map(|tokens| &tokens.ids).copied().collect();
                let buckets: Vec<_> =
                    tokens.iter().flat_map(|tokens| &tokens.hash_buckets).copied().collect();
                let mut splits = vec![0_i64];
                splits.extend(tokens.iter().scan(0, |end, tokens| {
                    *end += tokens.ids.len().cast_signed() as i64;
                    Some(*end)
                }));
                session.run(ort::inputs![
                    names.ids.as_str() => TensorRef::from_array_view(([ids.len()], ids.as_slice()))?,
                    names.hash_buckets.as_str() => TensorRef::from_array_view(([ids.len()], buckets.as_slice()))?,
                    names.row_splits.as_str() => TensorRef::from_array_view(([splits.len()], splits.as_slice()))?,
                ])?
            }
        };
        let (_, values) = outputs[self.bundle.manifest.output.as_str()].try_extract_tensor::<f32>()?;
        std::hint::black_box(values.to_vec());
        Ok(())
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

    /// The median run of one text at a time, on one thread and on all cores.
    #[must_use]
    pub fn lone(&self, texts: &[String]) -> (Duration, Duration) {
        let [mut narrow, mut wide] = [1, self.cores].map(|threads| (self.session(threads), Vec::new()));
        for text in texts {
            for (session, times) in [&mut narrow, &mut wide] {
                let begin = Instant::now();
                let tokens = self.tokenizer.tokenize(text).unwrap_or_else(|error| panic!("{error}"));
                std::hint::black_box(session.run(&tokens).unwrap_or_else(|error| panic!("{error}")));
                times.push(begin.elapsed());
            }
        }
        let median = |mut times: Vec<Duration>| {
            times.sort_unstable();
            times[times.len() / 2]
        };
        (median(narrow.1), median(wide.1))
    }
}
