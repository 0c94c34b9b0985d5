//! Named settings of a whole fit, and changes to them.

use std::collections::BTreeMap;

use genre_model::Activation;

use crate::fit::hyper_parameters::{InvalidParam, hyper_parameters};
use crate::fit::mlp::params::{MlpChanges, MlpParams};
use crate::fit::thresholds::{SHRINKAGE, ThresholdRule};

hyper_parameters! {
    /// How fitted networks become a model. The defaults are the reference system's.
    ModelParams, changed by ModelChanges

    /// Networks with different seeds, averaged into one
    #[arg(long, value_name = "NETWORKS")]
    ensemble: usize = 1, "1 or more" => |params| params.ensemble >= 1;

    /// Cost of errors in the word model, relative to its L2 penalty; 0 for no word model
    #[arg(long, value_name = "X")]
    word_cost: f64 = 0.0, "0 to 1000000" => |params| (0.0..=1e6).contains(&params.word_cost);

    /// Calibrate probabilities on validation movies, by one temperature
    #[arg(long, value_name = "true|false", num_args = 0..=1, default_missing_value = "true")]
    calibrate: bool = false;

    /// How thresholds are chosen on validation movies
    #[arg(long, value_name = "RULE", value_enum)]
    threshold_rule: ThresholdRule = ThresholdRule::ReferenceGrid;
}

/// The name of a preset on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum PresetName {
    /// The best settings known
    Default,
    /// The reference system: one sigmoid layer, Adam, early stopping, the best of eight thresholds
    Reference,
}

/// Everything that decides the outcome of a fit, except the data.
#[derive(Debug, Clone, PartialEq)]
pub struct Preset {
    /// `reference` or `default`; `(changed)` is appended once a value is changed.
    pub name: String,
    /// How each network is fitted.
    pub network: MlpParams,
    /// How networks become a model.
    pub model: ModelParams,
}

// clap would show a doc comment of this struct as the description of the whole command.
#[allow(missing_docs, reason = "command-line arguments that change a preset")]
#[derive(Debug, Clone, Default, clap::Args)]
pub struct PresetChanges {
    #[command(flatten)]
    pub network: MlpChanges,
    #[command(flatten)]
    pub model: ModelChanges,
}

impl Preset {
    /// The preset with this name.
    #[must_use]
    pub fn named(name: PresetName) -> Self {
        match name {
            PresetName::Default => Self::best(),
            PresetName::Reference => Self::reference(),
        }
    }

    /// The reference system's settings: `Dense(units, sigmoid) -> Dense(20, sigmoid)`, Adam, at
    /// most 200 epochs, early stopping with patience 10 and least improvement 1e-4, the best of
    /// eight thresholds. Units, learning rate and batch size are a good point in the space that the
    /// reference system searched.
    #[must_use]
    pub fn reference() -> Self {
        let network = MlpParams { units: 310, learning_rate: 2e-3, batch_size: 64, ..MlpParams::default() };
        Self { name: "reference".to_owned(), network, model: ModelParams::default() }
    }

    /// The best settings known, judged on validation movies.
    #[must_use]
    pub fn best() -> Self {
        let network = MlpParams {
            units: 512,
            activation: Activation::Relu,
            dropout: 0.5,
            input_dropout: 0.2,
            learning_rate: 1e-3,
            batch_size: 128,
            weight_decay: 0.01,
            max_epochs: 100,
            ..MlpParams::default()
        };
        let model = ModelParams {
            ensemble: 4,
            word_cost: 16.0,
            calibrate: true,
            threshold_rule: ThresholdRule::ExpectedF1,
        };
        Self { name: "default".to_owned(), network, model }
    }

    /// The preset with the values that `changes` gives.
    #[must_use]
    pub fn with(mut self, changes: &PresetChanges) -> Self {
        let unchanged = self.clone();
        changes.network.apply(&mut self.network);
        changes.model.apply(&mut self.model);
        if self != unchanged {
            self.name.push_str(" (changed)");
        }
        self
    }

    /// Checks that every value is in its range.
    pub fn check(&self) -> Result<(), InvalidParam> {
        self.model.check()?;
        self.network.check()
    }

    /// Names and values for the model file.
    #[must_use]
    pub fn describe(&self) -> BTreeMap<String, String> {
        // Model files have always recorded the preset as `recipe`; another key would change their
        // bytes.
        let own = [("recipe", self.name.clone()), ("threshold_shrinkage", SHRINKAGE.to_string())];
        let all = own.into_iter().chain(self.model.describe()).chain(self.network.describe());
        all.map(|(name, value)| (name.to_owned(), value)).collect()
    }
}
