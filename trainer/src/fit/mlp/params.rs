//! The hyper-parameters of one network.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use genre_model::Activation;

use crate::fit::hyper_parameters::hyper_parameters;

hyper_parameters! {
    /// The hyper-parameters of one network. The defaults are the reference system's: one sigmoid
    /// layer, plain Adam, at most 200 epochs, patience 10, least improvement 1e-4.
    MlpParams, changed by MlpChanges

    /// Units of the hidden layer (of each network of an ensemble)
    #[arg(long)]
    units: usize = 510, "1 or more" => |params| params.units >= 1;

    /// Activation function of the hidden layer
    #[arg(long, value_parser = activation_parser())]
    activation: Activation = Activation::Sigmoid;

    /// Probability that a hidden unit is left out of a training step
    #[arg(long, value_name = "P")]
    dropout: f32 = 0.0, "0 or more and less than 1" => |params| (0.0..1.0).contains(&params.dropout);

    /// Probability that an input is left out of a training step
    #[arg(long, value_name = "P")]
    input_dropout: f32 = 0.0, "0 or more and less than 1" => |params| (0.0..1.0).contains(&params.input_dropout);

    /// Learning rate of Adam
    #[arg(long, value_name = "X")]
    learning_rate: f32 = 1e-3, "a finite number above 0" =>
        |params| params.learning_rate > 0.0 && params.learning_rate.is_finite();

    /// Movies in a mini-batch
    #[arg(long, value_name = "MOVIES")]
    batch_size: usize = 128, "1 or more" => |params| params.batch_size >= 1;

    /// The most passes over the training movies
    #[arg(long = "epochs", value_name = "EPOCHS")]
    max_epochs: usize = 200, "1 or more" => |params| params.max_epochs >= 1;

    /// Epochs without improvement after which the fit stops
    #[arg(long, value_name = "EPOCHS")]
    patience: usize = 10, "1 or more" => |params| params.patience >= 1;

    /// Decrease of the validation loss that counts as an improvement
    #[arg(skip)]
    min_delta: f64 = 1e-4, "a finite number of 0 or more" =>
        |params| params.min_delta >= 0.0 && params.min_delta.is_finite();

    /// Decoupled weight decay: the share of a weight that decays in a step at a learning rate of 1
    #[arg(long, value_name = "X")]
    weight_decay: f32 = 0.0, "0 or more, and less than 1 / learning rate" =>
        |params| params.weight_decay >= 0.0 && params.weight_decay * params.learning_rate < 1.0;

    /// How far targets are moved towards 1/2, from 0 to 1
    #[arg(long, value_name = "X")]
    label_smoothing: f32 = 0.0, "0 or more and less than 1" => |params| (0.0..1.0).contains(&params.label_smoothing);

    /// Scale inputs to mean 0 and variance 1; the scaling is folded into the weights afterwards
    #[arg(long, value_name = "true|false", num_args = 0..=1, default_missing_value = "true")]
    standardise: bool = false;

    /// Seed of first weights, row order and dropout: the same seed gives the same network, bit for
    /// bit
    #[arg(long)]
    seed: u64 = 0;
}

/// `Activation` belongs to `genre-model`, which does without clap, so it cannot derive `ValueEnum`.
fn activation_parser() -> impl TypedValueParser<Value = Activation> {
    let names = [Activation::Sigmoid, Activation::Relu, Activation::Gelu].map(Activation::name);
    PossibleValuesParser::new(names)
        .try_map(|name| Activation::from_name(&name).ok_or("expected the name of an activation"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_values_out_of_range_by_name() {
        let default = MlpParams::default;
        let invalid = [
            MlpParams { units: 0, ..default() },
            MlpParams { dropout: 1.0, ..default() },
            MlpParams { input_dropout: -0.1, ..default() },
            MlpParams { learning_rate: f32::NAN, ..default() },
            MlpParams { learning_rate: 0.0, ..default() },
            MlpParams { weight_decay: -1.0, ..default() },
            MlpParams { min_delta: f64::NAN, ..default() },
            MlpParams { max_epochs: 0, ..default() },
        ];
        assert!(invalid.iter().all(|params| params.check().is_err()));
        let message = MlpParams { dropout: 1.5, ..default() }.check().unwrap_err().to_string();
        assert_eq!(message, "dropout: expected 0 or more and less than 1, found 1.5");
        assert!(default().check().is_ok());
    }

    #[test]
    fn changes_overwrite_only_the_values_that_are_given() {
        let changes = MlpChanges { units: Some(7), seed: Some(3), ..MlpChanges::default() };
        let mut params = MlpParams { dropout: 0.5, ..MlpParams::default() };
        changes.apply(&mut params);
        assert_eq!(params, MlpParams { units: 7, seed: 3, dropout: 0.5, ..MlpParams::default() });
    }
}
