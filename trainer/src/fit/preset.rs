//! Whole settings of a fit that are known to be good, and changes to them.

use std::collections::BTreeMap;

use genre_model::Activation;

use crate::fit::mlp::params::{InvalidParam, MlpParams, MlpValidParams};
use crate::fit::thresholds::{SHRINKAGE, ThresholdRule};
use linfa::ParamGuard as _;

/// Everything that decides what a fit gives, but for the data.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipe {
    /// `reference` or `default`, with `(changed)` behind it where a part was changed.
    pub name: String,
    /// The network and its optimiser.
    pub params: MlpParams,
    /// Networks that are averaged.
    pub ensemble: usize,
    /// What a movie's error costs the model of words, against its weights' squares; 0 for no words.
    pub word_cost: f64,
    /// Whether probabilities are calibrated on validation movies before thresholds are chosen.
    pub calibrate: bool,
    /// How thresholds are chosen.
    pub threshold_rule: ThresholdRule,
}

impl Recipe {
    /// The reference system's: `Dense(units, sigmoid) -> Dense(20, sigmoid)`, Adam, at most 200 epochs, early
    /// stopping with patience 10 and least improvement 1e-4, the best of eight thresholds. Units, learning rate and
    /// batch size are a good point of the space that it searched.
    #[must_use]
    pub fn reference() -> Self {
        let params = MlpParams::default().units(310).learning_rate(2e-3).batch_size(64);
        Self {
            name: "reference".to_owned(),
            params,
            ensemble: 1,
            word_cost: 0.0,
            calibrate: false,
            threshold_rule: ThresholdRule::ReferenceGrid,
        }
    }

    /// The best that is known, judged on validation movies.
    #[must_use]
    pub fn best() -> Self {
        let params = MlpParams::default()
            .units(512)
            .activation(Activation::Relu)
            .dropout(0.5)
            .input_dropout(0.2)
            .learning_rate(1e-3)
            .batch_size(128)
            .weight_decay(0.01)
            .max_epochs(100);
        Self {
            name: "default".to_owned(),
            params,
            ensemble: 4,
            word_cost: 16.0,
            calibrate: true,
            threshold_rule: ThresholdRule::ExpectedF1,
        }
    }

    /// Checks the network's parameters.
    pub fn check(&self) -> Result<MlpValidParams, InvalidParam> {
        if self.ensemble == 0 {
            return Err(InvalidParam { name: "ensemble", expected: "1 or more", found: "0".to_owned() });
        }
        if !(0.0..=1e6).contains(&self.word_cost) {
            let found = self.word_cost.to_string();
            return Err(InvalidParam { name: "word_cost", expected: "0 to 1000000", found });
        }
        self.params.clone().check()
    }

    /// Names and values, for the model file.
    #[must_use]
    pub fn describe(&self, params: &MlpValidParams) -> BTreeMap<String, String> {
        let own = [
            ("recipe", self.name.clone()),
            ("ensemble", self.ensemble.to_string()),
            ("word_cost", self.word_cost.to_string()),
            ("calibrate", self.calibrate.to_string()),
            ("threshold_rule", self.threshold_rule.to_string()),
            ("threshold_shrinkage", SHRINKAGE.to_string()),
        ];
        own.into_iter().chain(params.describe()).map(|(name, value)| (name.to_owned(), value)).collect()
    }
}
