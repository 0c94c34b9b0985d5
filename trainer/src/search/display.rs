//! Progress of a search: a bar and a live table on a terminal, a log line per trial elsewhere.
//!
//! Bars are indicatif's and tables comfy-table's; indicatif prints nothing without a terminal,
//! hence the log.

use std::io::IsTerminal as _;
use std::sync::{Mutex, PoisonError};

use comfy_table::{CellAlignment, Table, presets};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::fit::mlp::estimator::EpochLosses;
use crate::fit::preset::Preset;
use crate::search::trial::{Trial, settings};

/// Settings that have their own column.
const COLUMNS: [&str; 8] = [
    "units",
    "activation",
    "dropout",
    "input_dropout",
    "learning_rate",
    "batch_size",
    "weight_decay",
    "label_smoothing",
];
/// Trials in the live table.
const SHOWN: usize = 8;

/// The display that the threads of a search report to.
pub(super) struct Display {
    bars: MultiProgress,
    all: ProgressBar,
    table: ProgressBar,
    is_terminal: bool,
    state: Mutex<State>,
}

struct State {
    finished: Vec<Trial>,
    running: Vec<(usize, ProgressBar)>,
}

impl Display {
    pub(super) fn new(trials: usize, finished: &[Option<Trial>]) -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        let target = if is_terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bars = MultiProgress::with_draw_target(target);
        let style = |template: &str| ProgressStyle::with_template(template).ok();
        let bar = |bar: ProgressBar, template: &str| {
            let bar = bars.add(bar);
            if let Some(style) = style(template) {
                bar.set_style(style);
            }
            bar
        };
        let table = bar(ProgressBar::new_spinner(), "{msg}");
        let all = bar(ProgressBar::new(trials as u64), "{bar:40} {pos}/{len} trials ({elapsed}, {eta} left)");
        let finished: Vec<Trial> = finished.iter().flatten().cloned().collect();
        all.inc(finished.len() as u64);
        all.reset_eta();
        let state = Mutex::new(State { finished, running: Vec::new() });
        Self { bars, all, table, is_terminal, state }
    }

    pub(super) fn begin(&self, trial: usize, preset: &Preset) {
        let bar = self.bars.add(ProgressBar::new_spinner());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix} {msg}") {
            bar.set_style(style);
        }
        bar.set_prefix(format!("trial {trial}: {}", short(&settings(preset))));
        self.lock().running.push((trial, bar));
    }

    pub(super) fn epoch(&self, trial: usize, losses: EpochLosses) {
        if let Some((_, bar)) = self.lock().running.iter().find(|(running, _)| *running == trial) {
            let validation = losses.validation.unwrap_or(f64::NAN);
            bar.set_message(format!("epoch {}, validation loss {validation:.4}", losses.epoch));
        }
    }

    pub(super) fn end(&self, trial: &Trial) {
        let mut state = self.lock();
        if let Some(place) = state.running.iter().position(|(running, _)| *running == trial.trial) {
            state.running.swap_remove(place).1.finish_and_clear();
        }
        state.finished.push(trial.clone());
        self.all.inc(1);
        if self.is_terminal {
            self.table.set_message(text(&state.finished, SHOWN));
        } else {
            let loss = trial.validation_loss.map_or("none".to_owned(), |loss| format!("{loss:.4}"));
            let (done, all) = (self.all.position(), self.all.length().unwrap_or_default());
            tracing::info!(
                "trial {}, {done} of {all} done: validation loss {loss} after {} epochs; {}",
                trial.trial,
                trial.epochs,
                short(&trial.settings)
            );
        }
    }

    pub(super) fn finish(&self) {
        self.table.finish_and_clear();
        self.all.finish_and_clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn short(settings: &std::collections::BTreeMap<String, String>) -> String {
    let words = COLUMNS.iter().filter_map(|name| Some(format!("{name} {}", settings.get(*name)?)));
    words.collect::<Vec<_>>().join(", ")
}

/// Returns a table of at most `rows` trials, best first.
#[must_use]
pub fn text(trials: &[Trial], rows: usize) -> String {
    let mut order: Vec<&Trial> = trials.iter().collect();
    let loss = |trial: &Trial| trial.validation_loss.unwrap_or(f64::INFINITY);
    order.sort_by(|a, b| loss(a).total_cmp(&loss(b)).then(a.trial.cmp(&b.trial)));
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let headers = ["trial", "validation loss", "micro-F1", "at 0.5", "epochs"];
    table.set_header(headers.into_iter().chain(COLUMNS));
    for trial in order.into_iter().take(rows) {
        let figures = [
            trial.trial.to_string(),
            trial.validation_loss.map_or("none".to_owned(), |loss| format!("{loss:.4}")),
            format!("{:.4}", trial.micro_f1),
            format!("{:.4}", trial.micro_f1_at_0_5),
            trial.epochs.to_string(),
        ];
        let settings = COLUMNS.map(|name| trial.settings.get(name).cloned().unwrap_or_default());
        table.add_row(figures.into_iter().chain(settings));
    }
    for column in 0..headers.len() {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.to_string()
}
