//! The search job: runs trials, fits the winner, writes the results.
//!
//! Trials run on scoped threads and not on rayon, since each finished trial must reach the journal
//! at once and in the order of finishing.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use genre_model::{GenreModel, ModelFileError, write_atomically};

use crate::FileError;
use crate::data::table_file::TableError;
use crate::data::training_data::FittingData;
use crate::fit::error::FitJobError;
use crate::fit::job as fit_job;
use crate::fit::mlp::estimator::FittedMlp;
use crate::fit::preset::Preset;
use crate::search::display::Display;
use crate::search::journal::{Header, Journal, JournalError};
use crate::search::space::Space;
use crate::search::trial::{Trial, TrialResult};
use crate::search::{plot, results, trial};

/// What to search, and where to write the results.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchJob {
    /// The settings to draw from.
    pub space: Space,
    /// The number of trials.
    pub trials: usize,
    /// Trial `i` draws its settings, first weights and row order from `seed + i`.
    pub seed: u64,
    /// Passes over the training movies, at most; overrides the limit of the space.
    pub max_epochs: Option<usize>,
    /// Trials in parallel.
    pub threads: usize,
    /// The folder of `journal.jsonl`, `trials.parquet`, `trials.svg` and `model.safetensors`.
    pub folder: PathBuf,
    /// Discards the trials that another search left in the folder.
    pub restart: bool,
}

/// The outcome of a search.
#[derive(Debug)]
pub struct SearchOutcome {
    /// All trials in order.
    pub trials: Vec<Trial>,
    /// The trial with the lowest validation loss; ties go to the first.
    pub winner: usize,
    /// Trials that an earlier, interrupted run finished.
    pub resumed: usize,
    /// The settings of the winner.
    pub preset: Preset,
    /// The model of the winner.
    pub model: GenreModel,
}

/// Why a search failed. Finished trials remain in the journal.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A fit failed.
    #[error(transparent)]
    Fit(#[from] FitJobError),
    /// No trial has a finite loss.
    #[error("expected a trial with a finite validation loss, found none in {trials} trials")]
    NoWinner {
        /// Trials that ran.
        trials: usize,
    },
    /// The table of trials cannot be written.
    #[error("trials file {0}")]
    Table(#[from] TableError),
    /// The plot cannot be drawn.
    #[error("plot of the trials: {0}")]
    Plot(String),
    /// A file cannot be written.
    #[error(transparent)]
    Io(#[from] FileError),
    /// The model cannot be written.
    #[error(transparent)]
    Model(#[from] ModelFileError),
}

/// Runs the trials that are not in the journal yet, then fits and writes the winner.
pub fn run(job: &SearchJob, data: &FittingData) -> Result<SearchOutcome, SearchError> {
    let header = Header::new(job.space, job.seed, job.max_epochs, data);
    let presets: Vec<Preset> = (0..job.trials).map(|trial| preset_of(job, trial)).collect();
    let (mut journal, found) = Journal::open(&job.folder.join("journal.jsonl"), &header, job.restart)?;
    remove_leftovers(&job.folder);
    let (mut finished, mut beyond): (Vec<Option<Trial>>, Vec<Trial>) = (vec![None; job.trials], Vec::new());
    for trial in found {
        let index = trial.trial;
        match finished.get_mut(index) {
            Some(place) if trial.settings == trial::settings(&presets[index]) => *place = Some(trial),
            Some(_) => return Err(JournalError::OtherSettings { trial: index }.into()),
            // From a longer search; this one asks for fewer trials.
            None => beyond.push(trial),
        }
    }
    let resumed = finished.iter().flatten().count();
    let best = run_trials(job, data, &presets, &mut journal, &mut finished)?;

    let trials: Vec<Trial> = finished.into_iter().flatten().collect();
    let winner = winner(&trials).ok_or(SearchError::NoWinner { trials: trials.len() })?;
    let mut preset = job.space.final_preset(presets[winner].clone());
    preset.name = format!("search {}, trial {winner}", job.space);
    // A fit is repeatable, so the network of the trial is the one that another fit would give.
    let model = match best {
        Some((trial, fitted)) if trial == winner && preset.model.ensemble == 1 => {
            fit_job::finish(data, &preset, &[fitted])?
        }
        _ => fit_job::fit(data, &preset, |_, _| {})?,
    };

    results::write(&job.folder.join("trials.parquet"), &trials, &header)?;
    let drawing = plot::draw(&trials, winner).map_err(|error| SearchError::Plot(error.to_string()))?;
    write(&job.folder.join("trials.svg"), drawing.as_bytes())?;
    model.save(&job.folder.join("model.safetensors"))?;
    // Last, because trials were appended in the order in which they finished.
    beyond.sort_by_key(|trial| trial.trial);
    journal.rewrite(&header, trials.iter().chain(&beyond))?;
    Ok(SearchOutcome { trials, winner, resumed, preset, model })
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), SearchError> {
    Ok(write_atomically(path, bytes).map_err(FileError::at(path))?)
}

/// Removes the temporary files of killed writes. The journal is locked, so no other run is writing.
fn remove_leftovers(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(".tmp") {
            // A file that remains is harmless.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

fn preset_of(job: &SearchJob, trial: usize) -> Preset {
    let mut preset = job.space.preset(job.seed.wrapping_add(trial as u64), trial);
    if let Some(epochs) = job.max_epochs {
        preset.network.max_epochs = epochs;
    }
    preset
}

/// Returns the trial with the lowest validation loss; ties go to the first.
fn winner(trials: &[Trial]) -> Option<usize> {
    let losses = trials.iter().filter_map(|trial| Some((trial.trial, trial.validation_loss?)));
    losses.min_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0))).map(|(trial, _)| trial)
}

/// Runs the missing trials and returns the best network of this run.
fn run_trials(
    job: &SearchJob,
    data: &FittingData,
    presets: &[Preset],
    journal: &mut Journal,
    finished: &mut [Option<Trial>],
) -> Result<Option<(usize, FittedMlp)>, SearchError> {
    let mut missing: Vec<usize> = (0..job.trials).filter(|trial| finished[*trial].is_none()).collect();
    // The longest first, so that the last trials to finish are short.
    missing.sort_by(|a, b| trial::expected_cost(&presets[*b]).total_cmp(&trial::expected_cost(&presets[*a])));
    let display = Display::new(job.trials, finished);
    let (next, stop) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let best = std::thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel();
        for _ in 0..job.threads.clamp(1, missing.len().max(1)) {
            let (sender, next, stop, missing, display) = (sender.clone(), &next, &stop, &missing, &display);
            scope.spawn(move || {
                while stop.load(Ordering::Relaxed) == 0 {
                    let Some(&trial) = missing.get(next.fetch_add(1, Ordering::Relaxed)) else { break };
                    display.begin(trial, &presets[trial]);
                    let result =
                        trial::run(trial, &presets[trial], data, |losses| display.epoch(trial, losses));
                    if sender.send(result).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        let outcome = gather(receiver, journal, &display, finished);
        stop.store(1, Ordering::Relaxed);
        outcome
    })?;
    display.finish();
    Ok(best.map(|(trial, _, fitted)| (trial, fitted)))
}

/// Appends each trial to the journal as it finishes. Returns the best one with its loss.
fn gather(
    results: mpsc::Receiver<TrialResult>,
    journal: &mut Journal,
    display: &Display,
    finished: &mut [Option<Trial>],
) -> Result<Option<(usize, f64, FittedMlp)>, SearchError> {
    let mut best: Option<(usize, f64, FittedMlp)> = None;
    for result in results {
        let (trial, fitted) = result.map_err(FitJobError::Fit)?;
        journal.append(&trial)?;
        display.end(&trial);
        let index = trial.trial;
        if let (Some(loss), Some(fitted)) = (trial.validation_loss, fitted) {
            let is_better = |(other, least, _): &(usize, f64, FittedMlp)| {
                loss.total_cmp(least).then(index.cmp(other)).is_lt()
            };
            if best.as_ref().is_none_or(is_better) {
                best = Some((index, loss, fitted));
            }
        }
        finished[index] = Some(trial);
    }
    Ok(best)
}
