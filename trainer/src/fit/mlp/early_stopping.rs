//! Early stopping, as in Keras's `EarlyStopping(patience, min_delta, restore_best_weights=True)`.
//!
//! argmin's executor stops by iterations, target cost or time, and would own the loop over epochs.

/// The verdict on an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The best epoch so far, whose weights are kept.
    Best,
    /// No improvement, but patience is left.
    Wait,
    /// No improvement for too long.
    Stop,
}

#[derive(Debug, Clone)]
pub(crate) struct EarlyStopping {
    patience: usize,
    min_delta: f64,
    best: f64,
    waited: usize,
}

impl EarlyStopping {
    pub(crate) fn new(patience: usize, min_delta: f64) -> Self {
        Self { patience, min_delta, best: f64::INFINITY, waited: 0 }
    }

    /// Judges the loss of the next epoch. An improvement of less than `min_delta` does not count.
    pub(crate) fn judge(&mut self, loss: f64) -> Verdict {
        if loss < self.best - self.min_delta {
            (self.best, self.waited) = (loss, 0);
            return Verdict::Best;
        }
        self.waited += 1;
        if self.waited >= self.patience { Verdict::Stop } else { Verdict::Wait }
    }

    /// Returns the lowest loss, which is infinite before the first finite one.
    pub(crate) fn best(&self) -> f64 {
        self.best
    }
}

#[cfg(test)]
mod tests {
    use super::Verdict::{Best, Stop, Wait};
    use super::*;

    #[test]
    fn stops_when_improvements_are_too_small_for_too_long() {
        let mut stopping = EarlyStopping::new(2, 0.1);
        let verdicts = [1.0, 0.95, 0.85, 0.9, f64::NAN].map(|loss| stopping.judge(loss));
        assert_eq!(verdicts, [Best, Wait, Best, Wait, Stop]);
        assert!((stopping.best() - 0.85).abs() < 1e-12);
    }
}
