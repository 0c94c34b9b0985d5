//! Progress of a long job: a bar on a terminal, a log line every few seconds elsewhere.
//!
//! The bar is indicatif's. indicatif prints nothing without a terminal, hence the log lines.

use std::io::IsTerminal as _;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The interval between log lines.
const LOG_EVERY: Duration = Duration::from_secs(5);

/// The progress of a job of known length. It can be shared between threads.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    what: &'static str,
    log: Option<Mutex<Instant>>,
}

impl Progress {
    /// Starts at 0 of `total` units named `what`, such as "texts". Shown on standard error.
    #[must_use]
    pub fn new(total: usize, what: &'static str) -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        let target = if is_terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(total as u64), target);
        let template = format!("{{bar:40}} {{pos}}/{{len}} {what} ({{per_sec}}, {{eta}} left) {{msg}}");
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style);
        }
        Self { bar, what, log: (!is_terminal).then(|| Mutex::new(Instant::now())) }
    }

    /// Records that `count` more units are done.
    pub fn advance(&self, count: usize) {
        self.bar.inc(count as u64);
        let Some(last) = self.log.as_ref().and_then(|last| last.try_lock().ok()) else { return };
        let mut last = last;
        if last.elapsed() >= LOG_EVERY {
            *last = Instant::now();
            let (done, total) = (self.bar.position(), self.bar.length().unwrap_or_default());
            let (rate, left) = (self.bar.per_sec(), HumanDuration(self.bar.eta()));
            tracing::info!(
                "{done} of {total} {} ({rate:.1}/s, {left} left) {}",
                self.what,
                self.bar.message()
            );
        }
    }

    /// Records units that an earlier run did, which do not count towards the rate.
    pub fn skip(&self, count: usize) {
        self.bar.inc(count as u64);
        self.bar.reset_eta();
        self.bar.reset_elapsed();
    }

    /// Sets the message beside the bar.
    pub fn say(&self, message: String) {
        self.bar.set_message(message);
    }

    /// Removes the bar.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
