//! How far off expected times are, learned from the requests that were admitted.
//!
//! An estimator tracks a high quantile of actual over expected time with a multiplicative update
//! (Yazidi and Hammer 2019): a request that took longer raises it by a step, and one that did not
//! lowers it by a fraction of that step, so that both balance at the quantile. It rises within a few
//! requests and falls within tens of thousands. Admission allows one step more than the quantile, so
//! that the estimate rises before requests are late. Crates for concurrency limits (`tower-acc`,
//! `congestion-limiter`) adjust a number of requests, not the error of an estimate.

use parking_lot::Mutex;

/// The part of requests that should take no longer than the estimate.
const QUANTILE: f64 = 0.9999;
/// The step by which a longer request raises the estimate.
const STEP: f64 = 0.25;
/// The bounds of the estimate. Above 1, because a request is never expected to take less than on
/// average; bounded, so that a bad minute does not stop admission.
const BOUNDS: (f64, f64) = (1.0, 6.0);

/// The factor between the expected time of a request and the time that admission allows for it.
#[derive(Debug)]
pub(crate) struct Margin {
    /// The quantile of actual over expected time.
    quantile: Mutex<f64>,
}

impl Default for Margin {
    fn default() -> Self {
        Self { quantile: Mutex::new(BOUNDS.0) }
    }
}

impl Margin {
    /// The largest factor.
    pub(crate) const MOST: f64 = BOUNDS.1 * (1.0 + STEP);

    /// The factor, at least 1.25.
    pub(crate) fn get(&self) -> f64 {
        *self.quantile.lock() * (1.0 + STEP)
    }

    /// Learns that a request took `times` as long as expected. `weight`, up to 1, is the part of its
    /// allowed time that the request was expected to need: the error of a few milliseconds says
    /// little about that of a second.
    pub(crate) fn took(&self, times: f64, weight: f64) {
        let mut quantile = self.quantile.lock();
        let step = STEP * weight.clamp(0.0, 1.0);
        let next = if times > *quantile {
            times.min(*quantile * (1.0 + step * QUANTILE))
        } else {
            *quantile * (1.0 - step * (1.0 - QUANTILE))
        };
        *quantile = next.clamp(BOUNDS.0, BOUNDS.1);
    }

    /// Learns that a request would have taken at least `times` as long as expected.
    pub(crate) fn took_at_least(&self, times: f64, weight: f64) {
        if times > *self.quantile.lock() {
            self.took(times, weight);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is(margin: &Margin, factor: f64) -> bool {
        (margin.get() - factor).abs() < 1e-9
    }

    #[test]
    fn converges_to_a_high_quantile_of_the_error() {
        let margin = Margin::default();
        // Numbers that are spread evenly from 0.5 to 3.
        let times = |n: u32| 0.5 + 2.5 * (f64::from(n) * 0.618_033_988_75).fract();
        for n in 0..50_000 {
            margin.took(times(n), 1.0);
        }
        let quantile = margin.get() / (1.0 + STEP);
        assert!((2.9..=3.0).contains(&quantile), "{margin:?}");
    }

    #[test]
    fn rises_within_a_few_requests_and_falls_within_tens_of_thousands() {
        let margin = Margin::default();
        assert!(is(&margin, 1.25), "{margin:?}");
        for _ in 0..5 {
            margin.took(3.0, 1.0);
        }
        assert!(is(&margin, 3.75), "{margin:?}");
        for _ in 0..1_000 {
            margin.took(1.0, 1.0);
        }
        assert!(margin.get() > 3.6, "{margin:?}");
        for _ in 0..50_000 {
            margin.took(1.0, 1.0);
        }
        assert!(is(&margin, 1.25), "{margin:?}");
    }

    #[test]
    fn a_hiccup_of_a_short_request_hardly_counts() {
        let margin = Margin::default();
        margin.took(50.0, 0.01);
        assert!(margin.get() < 1.26, "{margin:?}");
    }

    #[test]
    fn a_caller_that_leaves_early_says_nothing() {
        let margin = Margin::default();
        margin.took(2.0, 1.0);
        let before = margin.get();
        for _ in 0..10_000 {
            margin.took_at_least(0.5, 1.0);
        }
        assert!(is(&margin, before), "{margin:?}");
        margin.took_at_least(2.0, 1.0);
        assert!(margin.get() > before, "{margin:?}");
    }

    #[test]
    fn stays_within_its_bounds() {
        let margin = Margin::default();
        for _ in 0..100 {
            margin.took(f64::INFINITY, 2.0);
        }
        assert!(is(&margin, Margin::MOST), "{margin:?}");
        for _ in 0..200_000 {
            margin.took(0.0, 1.0);
        }
        assert!(is(&margin, 1.25), "{margin:?}");
    }
}
