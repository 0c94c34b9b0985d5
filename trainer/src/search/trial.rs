//! A trial: settings, a fit, its metrics.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::data::training_data::FittingData;
use crate::fit::mlp::estimator::{EpochLosses, FitError, FittedMlp};
use crate::fit::preset::Preset;
use crate::fit::thresholds;
use crate::metrics::{count, micro_f1};

/// A finished trial as the journal records it. Nothing in it depends on the speed of the machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// The number of the trial, from 0.
    pub trial: usize,
    /// Names and values of the hyper-parameters.
    pub settings: BTreeMap<String, String>,
    /// Epochs that ran.
    pub epochs: usize,
    /// The epoch whose weights were kept.
    pub best_epoch: usize,
    /// The lowest validation loss, or `None` if the fit diverged.
    #[serde(with = "exact_option")]
    pub validation_loss: Option<f64>,
    /// Micro-F1 on validation movies at a threshold of 0.5.
    #[serde(with = "exact")]
    pub micro_f1_at_0_5: f64,
    /// Micro-F1 on validation movies at the thresholds that the preset chooses on them.
    #[serde(with = "exact")]
    pub micro_f1: f64,
}

/// A finished trial, with its network if it converged.
pub(super) type TrialResult = Result<(Trial, Option<FittedMlp>), FitError>;

/// Numbers as text. `serde_json` may round a number to a neighbour when it reads it, which would
/// change a resumed search.
mod exact {
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    pub(super) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

mod exact_option {
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    #[allow(clippy::ref_option, reason = "serde passes a reference")]
    pub(super) fn serialize<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
        value.map(|value| value.to_string()).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| text.parse().map_err(D::Error::custom)).transpose()
    }
}

pub(super) fn settings(preset: &Preset) -> BTreeMap<String, String> {
    preset.network.describe().into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Fits one network, regardless of the ensemble of the preset.
pub(super) fn run(
    trial: usize,
    preset: &Preset,
    data: &FittingData,
    observe: impl FnMut(EpochLosses),
) -> TrialResult {
    let mut trial = Trial {
        trial,
        settings: settings(preset),
        epochs: 0,
        best_epoch: 0,
        validation_loss: None,
        micro_f1_at_0_5: 0.0,
        micro_f1: 0.0,
    };
    let fitted = match preset.network.fit_validated(data.train(), data.validation(), observe) {
        Ok(fitted) => fitted,
        Err(FitError::Diverged { epochs }) => {
            trial.epochs = epochs;
            return Ok((trial, None));
        }
        Err(error) => return Err(error),
    };
    let (vectors, targets) = (data.validation().records(), data.validation().targets());
    let probabilities = fitted.mlp.probabilities(&vectors.view());
    let thresholds = thresholds::choose(preset.model.threshold_rule, &probabilities, targets);
    trial.epochs = fitted.history.len();
    trial.best_epoch = fitted.best_epoch;
    trial.validation_loss = fitted.history.get(fitted.best_epoch - 1).and_then(|epoch| epoch.validation);
    trial.micro_f1 = micro_f1(&count(&probabilities, targets, thresholds.per_genre()));
    trial.micro_f1_at_0_5 = micro_f1(&count(&probabilities, targets, &vec![0.5; targets.ncols()]));
    Ok((trial, Some(fitted)))
}

/// Estimates the relative duration of a trial: weights are updated once per batch, and low learning
/// rates need more epochs.
pub(super) fn expected_cost(preset: &Preset) -> f64 {
    let params = &preset.network;
    let a_row = params.units as f64 * (1.0 + 30.0 / params.batch_size as f64);
    a_row / f64::from(params.learning_rate).sqrt()
}
