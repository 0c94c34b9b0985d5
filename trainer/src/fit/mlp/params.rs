//! How to fit a network: linfa's pair of unchecked and checked hyper-parameters.

use genre_model::Activation;
use linfa::ParamGuard;

/// Checked hyper-parameters, made by [`MlpParams`]; they fit.
#[derive(Debug, Clone, PartialEq)]
pub struct MlpValidParams {
    pub(crate) units: usize,
    pub(crate) activation: Activation,
    pub(crate) dropout: f32,
    pub(crate) input_dropout: f32,
    pub(crate) learning_rate: f32,
    pub(crate) batch_size: usize,
    pub(crate) max_epochs: usize,
    pub(crate) patience: usize,
    pub(crate) min_delta: f64,
    pub(crate) weight_decay: f32,
    pub(crate) label_smoothing: f32,
    pub(crate) standardise: bool,
    pub(crate) seed: u64,
}

/// Hyper-parameters as they are given. The defaults are the reference system's: one sigmoid layer, plain Adam, at
/// most 200 epochs, patience 10, least improvement 1e-4.
#[derive(Debug, Clone, PartialEq)]
pub struct MlpParams(MlpValidParams);

/// A hyper-parameter outside of its range.
#[derive(Debug, thiserror::Error, PartialEq)]
#[error("{name}: expected {expected}, found {found}")]
pub struct InvalidParam {
    /// Which.
    pub name: &'static str,
    /// Its range.
    pub expected: &'static str,
    /// What was given.
    pub found: String,
}

impl Default for MlpParams {
    fn default() -> Self {
        Self(MlpValidParams {
            units: 510,
            activation: Activation::Sigmoid,
            dropout: 0.0,
            input_dropout: 0.0,
            learning_rate: 1e-3,
            batch_size: 128,
            max_epochs: 200,
            patience: 10,
            min_delta: 1e-4,
            weight_decay: 0.0,
            label_smoothing: 0.0,
            standardise: false,
            seed: 0,
        })
    }
}

macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident: $type:ty,)*) => {
        impl MlpParams {
            $(
                $(#[$doc])*
                #[must_use]
                pub fn $name(mut self, value: $type) -> Self {
                    self.0.$name = value;
                    self
                }
            )*
        }
    };
}

setters! {
    /// Units of the hidden layer, 1 and more.
    units: usize,
    /// What the hidden layer does to its sums.
    activation: Activation,
    /// Probability in [0, 1) that a hidden unit is left out of a batch's row.
    dropout: f32,
    /// Probability in [0, 1) that an input is left out of a batch's row.
    input_dropout: f32,
    /// Adam's step, above 0.
    learning_rate: f32,
    /// Rows of a mini-batch, 1 and more.
    batch_size: usize,
    /// Passes over the training rows at most, 1 and more.
    max_epochs: usize,
    /// Epochs without improvement after which the fit ends, 1 and more.
    patience: usize,
    /// By how much the validation loss must fall to count as an improvement, 0 and more.
    min_delta: f64,
    /// Share of each weight that decays with a learning rate of 1, 0 and more (the λ of `AdamW`).
    weight_decay: f32,
    /// How far targets are moved towards 1/2, in [0, 1).
    label_smoothing: f32,
    /// Whether inputs are scaled to mean 0 and variance 1 first; the fitted network takes plain inputs all the same.
    standardise: bool,
    /// Of first weights, order of rows and dropout: the same seed gives the same network, bit for bit.
    seed: u64,
}

impl ParamGuard for MlpParams {
    type Checked = MlpValidParams;
    type Error = InvalidParam;

    fn check_ref(&self) -> Result<&MlpValidParams, InvalidParam> {
        let MlpValidParams { units, batch_size, max_epochs, patience, .. } = self.0;
        for (name, value) in
            [("units", units), ("batch size", batch_size), ("epochs", max_epochs), ("patience", patience)]
        {
            require(name, "1 or more", value >= 1, &value)?;
        }
        let MlpValidParams { dropout, input_dropout, label_smoothing, .. } = self.0;
        for (name, value) in
            [("dropout", dropout), ("input dropout", input_dropout), ("label smoothing", label_smoothing)]
        {
            require(name, "0 or more and less than 1", (0.0..1.0).contains(&value), &value)?;
        }
        let MlpValidParams { learning_rate, weight_decay, min_delta, .. } = self.0;
        let is_positive = learning_rate > 0.0 && learning_rate.is_finite();
        require("learning rate", "a finite number above 0", is_positive, &learning_rate)?;
        let is_decay = weight_decay >= 0.0 && weight_decay * learning_rate < 1.0;
        require("weight decay", "0 or more, and less than 1 / learning rate", is_decay, &weight_decay)?;
        require(
            "least improvement",
            "a finite number of 0 or more",
            min_delta >= 0.0 && min_delta.is_finite(),
            &min_delta,
        )?;
        Ok(&self.0)
    }

    fn check(self) -> Result<MlpValidParams, InvalidParam> {
        self.check_ref()?;
        Ok(self.0)
    }
}

fn require(
    name: &'static str,
    expected: &'static str,
    holds: bool,
    found: &impl ToString,
) -> Result<(), InvalidParam> {
    if holds { Ok(()) } else { Err(InvalidParam { name, expected, found: found.to_string() }) }
}

impl MlpValidParams {
    /// Passes over the training rows at most.
    #[must_use]
    pub fn max_epochs(&self) -> usize {
        self.max_epochs
    }

    /// The same, with another seed.
    #[must_use]
    pub fn with_seed(&self, seed: u64) -> Self {
        Self { seed, ..self.clone() }
    }

    /// Names and values, for the model file.
    #[must_use]
    pub fn describe(&self) -> Vec<(&'static str, String)> {
        vec![
            ("units", self.units.to_string()),
            ("activation", self.activation.name().to_owned()),
            ("dropout", self.dropout.to_string()),
            ("input_dropout", self.input_dropout.to_string()),
            ("learning_rate", self.learning_rate.to_string()),
            ("batch_size", self.batch_size.to_string()),
            ("max_epochs", self.max_epochs.to_string()),
            ("patience", self.patience.to_string()),
            ("min_delta", self.min_delta.to_string()),
            ("weight_decay", self.weight_decay.to_string()),
            ("label_smoothing", self.label_smoothing.to_string()),
            ("standardise", self.standardise.to_string()),
            ("seed", self.seed.to_string()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_out_of_range_are_named() {
        let invalid = [
            MlpParams::default().units(0),
            MlpParams::default().dropout(1.0),
            MlpParams::default().input_dropout(-0.1),
            MlpParams::default().learning_rate(f32::NAN),
            MlpParams::default().learning_rate(0.0),
            MlpParams::default().weight_decay(-1.0),
            MlpParams::default().min_delta(f64::NAN),
            MlpParams::default().max_epochs(0),
        ];
        assert!(invalid.into_iter().all(|params| params.check().is_err()));
        let message = MlpParams::default().dropout(1.5).check().unwrap_err().to_string();
        assert_eq!(message, "dropout: expected 0 or more and less than 1, found 1.5");
        assert!(MlpParams::default().check().is_ok());
    }
}
