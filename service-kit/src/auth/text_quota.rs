//! A limit on the texts of an API key, whatever calls bring them.
//!
//! The governor crate counts; its own waiting does not fit, because it wakes every waiter for each
//! text and does not use Tokio's timer.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, NotUntil, Quota, RateLimiter};
use tokio::sync::Mutex;

use crate::ApiError;

/// The reason of a call with more texts than its key may send at once.
const TOO_MANY: &str = "EXCEEDS_TEXT_BURST";

/// How many texts an API key may send.
pub(super) struct TextQuota {
    limiter: DefaultDirectRateLimiter,
    burst: NonZeroU32,
    /// Held by the text that waits next.
    turn: Mutex<()>,
}

impl std::fmt::Debug for TextQuota {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TextQuota").field("burst", &self.burst).finish_non_exhaustive()
    }
}

impl TextQuota {
    pub(super) fn new(quota: Quota) -> Self {
        Self { limiter: RateLimiter::direct(quota), burst: quota.burst_size(), turn: Mutex::new(()) }
    }

    pub(super) fn charge(&self, field: &str, texts: usize) -> Result<(), ApiError> {
        let Ok(count) = NonZeroU32::try_from(u32::try_from(texts).unwrap_or(u32::MAX)) else { return Ok(()) };
        match self.limiter.check_n(count) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(too_soon)) => Err(ApiError::RateLimited { retry_after: wait(&too_soon) }),
            Err(_) => {
                let description = format!(
                    "expected at most {} texts, as many as this API key may send at once; found {texts}",
                    self.burst
                );
                Err(ApiError::invalid(field, TOO_MANY, description))
            }
        }
    }

    pub(super) async fn charge_waiting(&self) {
        let _turn = self.turn.lock().await;
        while let Err(too_soon) = self.limiter.check() {
            tokio::time::sleep(wait(&too_soon)).await;
        }
    }
}

/// Returns how long to wait; clients treat a retry delay of zero as missing.
pub(super) fn wait(too_soon: &NotUntil<<DefaultClock as governor::clock::Clock>::Instant>) -> Duration {
    too_soon.wait_time_from(DefaultClock::default().now()).max(Duration::from_millis(1))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn quota(rate: u32, burst: u32) -> TextQuota {
        let number = |value| NonZeroU32::new(value).unwrap();
        TextQuota::new(Quota::per_second(number(rate)).allow_burst(number(burst)))
    }

    #[test]
    fn charges_a_batch_by_its_texts() {
        let quota = quota(1, 10);
        assert_eq!(quota.charge("texts", 0), Ok(()));
        assert_eq!(quota.charge("texts", 8), Ok(()));
        let Err(ApiError::RateLimited { retry_after }) = quota.charge("texts", 4) else { panic!("admitted") };
        assert!(retry_after > Duration::from_secs(1) && retry_after <= Duration::from_secs(2));
        assert_eq!(quota.charge("texts", 2), Ok(()), "a rejected batch costs nothing");
    }

    #[test]
    fn says_that_a_batch_above_the_burst_never_fits() {
        let error = quota(1, 10).charge("texts", 11).unwrap_err();
        assert_eq!((error.reason(), error.retry_after()), (TOO_MANY, None));
        assert!(error.to_string().contains("at most 10 texts"), "{error}");
    }

    #[tokio::test]
    async fn texts_of_streams_wait_for_the_quota() {
        let quota = quota(100, 1);
        let begin = Instant::now();
        futures_util::future::join_all((0..11).map(|_| quota.charge_waiting())).await;
        assert!(begin.elapsed() >= Duration::from_millis(95), "{:?}", begin.elapsed());
    }
}
