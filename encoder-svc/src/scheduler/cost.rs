//! An estimate of what a text costs, made from its length in bytes before it is tokenized.
//!
//! One learned rate (an exponential moving average) is enough, and no crate estimates cost from
//! text length.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// The average number of bytes in a token. A text is cut after `max_tokens` tokens.
const BYTES_PER_TOKEN: usize = 5;
/// The fixed cost of a text, in bytes.
const FIXED: usize = 40;
/// Tokenizing this many bytes costs as much as running one.
const TOKENIZE: usize = 32;
/// The weight of one sample in the moving average.
const WEIGHT: f32 = 1.0 / 32.0;

/// Estimates the number of tokens in a text of `bytes` bytes, cut to `max_tokens`.
pub(crate) fn estimated_tokens(bytes: usize, max_tokens: usize) -> usize {
    // Two for the start and end tokens.
    (bytes / BYTES_PER_TOKEN + 2).min(max_tokens)
}

/// The session time that a text takes, learned from the texts that ran.
#[derive(Debug)]
pub struct CostModel {
    max_bytes: usize,
    /// Microseconds per unit, as the bits of an `f32`.
    per_unit: AtomicU32,
}

impl CostModel {
    /// Creates the model of an encoder that reads `max_tokens` tokens and ran `text` in `took`.
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

    /// The cost of `text` in units that do not depend on the machine's speed; at least 1.
    #[must_use]
    pub fn units_of(&self, text: &str) -> u64 {
        self.units(text.len()) as u64
    }

    /// The cost in units of the longest text that is not cut.
    #[must_use]
    pub fn max_units(&self) -> u64 {
        self.units(self.max_bytes) as u64
    }

    /// The microseconds that `units` take at the current speed.
    #[must_use]
    pub fn micros(&self, units: f64) -> f64 {
        units * f64::from(self.per_unit())
    }

    /// Learns that one session took `took` to run texts of these lengths in bytes together.
    pub fn learn(&self, texts: &[usize], took: Duration) {
        let units: f32 = texts.iter().map(|bytes| self.units(*bytes)).sum();
        if units == 0.0 {
            return;
        }
        let before = self.per_unit();
        // Limit outliers caused by machine stalls.
        let seen = (took.as_secs_f32() * 1e6 / units).clamp(before / 8.0, before * 8.0);
        // If two workers store at once, one sample is lost, which is harmless.
        self.per_unit.store((before + (seen - before) * WEIGHT).max(1e-3).to_bits(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl CostModel {
        /// The estimate for `text` in microseconds.
        fn of(&self, text: &str) -> u64 {
            self.micros(self.units_of(text) as f64) as u64
        }
    }

    #[test]
    fn learns_the_time_of_texts_and_resists_outliers() {
        let model = CostModel::new(256, &"a".repeat(360), Duration::from_millis(4));
        assert_eq!(model.of(&"a".repeat(360)) / 100, 40);
        for _ in 0..200 {
            model.learn(&[360], Duration::from_millis(8));
        }
        assert!((7900..8100).contains(&model.of(&"a".repeat(360))), "{}", model.of(&"a".repeat(360)));
        // One stall moves the estimate by at most a quarter.
        model.learn(&[1], Duration::from_secs(1000));
        assert!(model.of(&"a".repeat(360)) < 10_000);
    }

    #[test]
    fn texts_of_a_batch_share_the_time_of_the_run() {
        let model = CostModel::new(256, &"a".repeat(360), Duration::from_millis(4));
        for _ in 0..200 {
            model.learn(&[360; 16], Duration::from_millis(8));
        }
        assert!((490..510).contains(&model.of(&"a".repeat(360))), "{}", model.of(&"a".repeat(360)));
        model.learn(&[], Duration::from_secs(1));
        assert!(model.of("a") >= 1);
    }

    #[test]
    fn a_truncated_text_costs_only_the_part_that_runs() {
        let model = CostModel::new(256, "storm", Duration::from_millis(1));
        let (whole, cut) = (model.of(&"a".repeat(1280)), model.of(&"a".repeat(12_800)));
        assert!(cut > whole && cut < 2 * whole, "{whole} {cut}");
    }
}
