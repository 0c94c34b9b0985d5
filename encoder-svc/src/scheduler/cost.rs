//! What a text is going to cost, before it has been tokenized.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Bytes of text that make a token, about; beyond `max_tokens` of them a text is cut.
const BYTES_PER_TOKEN: usize = 5;
/// What every text costs, however short, in bytes.
const FIXED: usize = 40;
/// Tokenizing a byte costs this part of running it.
const TOKENIZE: usize = 32;
/// How much a single text moves the estimate.
const WEIGHT: f32 = 1.0 / 32.0;

/// Tokens of a text of so many bytes, about, where longer ones are cut to `max_tokens`.
pub(crate) fn estimated_tokens(bytes: usize, max_tokens: usize) -> usize {
    // A start and an end.
    (bytes / BYTES_PER_TOKEN + 2).min(max_tokens)
}

/// Microseconds of one session that a text takes, learned from those that ran.
#[derive(Debug)]
pub struct CostModel {
    max_bytes: usize,
    /// Microseconds a unit, the bits of an f32.
    per_unit: AtomicU32,
}

impl CostModel {
    /// For an encoder of so many tokens on which `text` took `took`.
    #[must_use]
    pub fn new(max_tokens: usize, text: &str, took: Duration) -> Self {
        let model = Self { max_bytes: max_tokens * BYTES_PER_TOKEN, per_unit: AtomicU32::new(0) };
        let per_unit = took.as_secs_f32() * 1e6 / model.units(text.len());
        model.per_unit.store(per_unit.max(1e-3).to_bits(), Ordering::Relaxed);
        model
    }

    fn units(&self, bytes: usize) -> f32 {
        (FIXED + bytes.min(self.max_bytes) + bytes / TOKENIZE) as f32
    }

    fn per_unit(&self) -> f32 {
        f32::from_bits(self.per_unit.load(Ordering::Relaxed))
    }

    /// What there is to do for `text`, in units that do not change with the machine's speed; at least 1.
    #[must_use]
    pub fn units_of(&self, text: &str) -> u64 {
        self.units(text.len()) as u64
    }

    /// The same for the longest text that is not cut.
    #[must_use]
    pub fn dearest_units(&self) -> u64 {
        self.units(self.max_bytes) as u64
    }

    /// Microseconds that so many units are thought to take, as fast as texts are run now.
    #[must_use]
    pub fn micros(&self, units: f64) -> f64 {
        units * f64::from(self.per_unit())
    }

    /// Texts of so many bytes each, run together, took one session so long.
    pub fn learn(&self, texts: &[usize], took: Duration) {
        let units: f32 = texts.iter().map(|bytes| self.units(*bytes)).sum();
        if units == 0.0 {
            return;
        }
        let before = self.per_unit();
        // A pause of the machine is no property of the texts.
        let seen = (took.as_secs_f32() * 1e6 / units).clamp(before / 8.0, before * 8.0);
        // Two workers at once may lose one of two samples, which is no loss.
        self.per_unit.store((before + (seen - before) * WEIGHT).max(1e-3).to_bits(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl CostModel {
        /// Microseconds that `text` is thought to take.
        fn of(&self, text: &str) -> u64 {
            self.micros(self.units_of(text) as f64) as u64
        }
    }

    #[test]
    fn a_model_learns_what_texts_take() {
        let model = CostModel::new(256, &"a".repeat(360), Duration::from_millis(4));
        assert_eq!(model.of(&"a".repeat(360)) / 100, 40);
        for _ in 0..200 {
            model.learn(&[360], Duration::from_millis(8));
        }
        assert!((7900..8100).contains(&model.of(&"a".repeat(360))), "{}", model.of(&"a".repeat(360)));
        // One pause moves it by a quarter at most.
        model.learn(&[1], Duration::from_secs(1000));
        assert!(model.of(&"a".repeat(360)) < 10_000);
    }

    #[test]
    fn texts_that_ran_together_share_what_the_run_took() {
        let model = CostModel::new(256, &"a".repeat(360), Duration::from_millis(4));
        for _ in 0..200 {
            model.learn(&[360; 16], Duration::from_millis(8));
        }
        assert!((490..510).contains(&model.of(&"a".repeat(360))), "{}", model.of(&"a".repeat(360)));
        model.learn(&[], Duration::from_secs(1));
        assert!(model.of("a") >= 1);
    }

    #[test]
    fn a_text_that_is_cut_costs_what_is_left_of_it() {
        let model = CostModel::new(256, "storm", Duration::from_millis(1));
        let (whole, cut) = (model.of(&"a".repeat(1280)), model.of(&"a".repeat(12_800)));
        assert!(cut > whole && cut < 2 * whole, "{whole} {cut}");
    }
}
