//! The spaces that trials draw settings from.

use std::fmt;

use genre_model::Activation;
use rand::seq::SliceRandom as _;
use rand::{Rng, SeedableRng as _};
use rand_xoshiro::Xoshiro256PlusPlus;

use crate::fit::mlp::params::MlpParams;
use crate::fit::preset::Preset;

/// A space of settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Space {
    /// The space of the reference system: units 10, 110, ..., 910, learning rate uniform from 1e-6
    /// to 0.1, batch size 16 to 1024
    Reference,
    /// Around the default preset, which is trial 0: units, activation, both dropouts, learning rate
    /// and weight decay on a log scale, batch size, label smoothing, standardised inputs
    Ours,
}

impl Space {
    /// Returns the preset of a trial, which fits one network.
    #[must_use]
    pub fn preset(self, seed: u64, trial: usize) -> Preset {
        // A separate random stream: settings and first weights are drawn independently.
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed ^ 0x5e7_7196);
        let mut preset = match self {
            Self::Reference => reference(&mut rng),
            Self::Ours if trial == 0 => Preset::best(),
            Self::Ours => ours(&mut rng),
        };
        preset.network.seed = seed;
        preset.model.ensemble = 1;
        preset
    }

    /// Returns the preset for the final fit of the winner.
    #[must_use]
    pub fn final_preset(self, mut winner: Preset) -> Preset {
        if self == Self::Ours {
            winner.model.ensemble = Preset::best().model.ensemble;
        }
        winner
    }
}

impl fmt::Display for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        crate::write_value_name(self, f)
    }
}

fn one_of<T: Copy>(rng: &mut impl Rng, choices: &[T]) -> T {
    *choices.choose(rng).expect("the lists below are not empty")
}

fn log_uniform(rng: &mut impl Rng, from: f64, to: f64) -> f32 {
    rng.gen_range(from.ln()..=to.ln()).exp() as f32
}

fn reference(rng: &mut impl Rng) -> Preset {
    let preset = Preset::reference();
    let network = MlpParams {
        units: 10 + 100 * rng.gen_range(0..=9),
        learning_rate: rng.gen_range(1e-6..=0.1),
        batch_size: one_of(rng, &[16, 32, 64, 128, 256, 512, 768, 1024]),
        ..preset.network
    };
    Preset { network, ..preset }
}

// Values are drawn in the order of the fields below: another order gives other trials.
fn ours(rng: &mut impl Rng) -> Preset {
    let preset = Preset::best();
    let network = MlpParams {
        units: one_of(rng, &[128, 256, 384, 512, 768, 1024]),
        activation: one_of(rng, &[Activation::Relu, Activation::Gelu, Activation::Sigmoid]),
        dropout: one_of(rng, &[0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]),
        input_dropout: one_of(rng, &[0.0, 0.1, 0.2, 0.3]),
        learning_rate: log_uniform(rng, 1e-4, 1e-2),
        batch_size: one_of(rng, &[32, 64, 128, 256]),
        weight_decay: log_uniform(rng, 1e-4, 0.3),
        label_smoothing: one_of(rng, &[0.0, 0.0, 0.02, 0.05]),
        standardise: rng.gen_range(0..4) == 0,
        ..preset.network
    };
    Preset { network, ..preset }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_space_matches_the_reference_system() {
        for seed in 0..2000 {
            let preset = Space::Reference.preset(seed, 3);
            assert!(preset.check().is_ok());
            let params = preset.network;
            assert!(params.units % 100 == 10 && (10..=910).contains(&params.units));
            assert!((1e-6..=0.1).contains(&params.learning_rate));
            assert!([16, 32, 64, 128, 256, 512, 768, 1024].contains(&params.batch_size));
            assert_eq!((params.max_epochs, params.patience), (200, 10));
        }
        let mean = (0..2000).map(|seed| Space::Reference.preset(seed, 3).network.learning_rate);
        assert!((mean.sum::<f32>() / 2000.0 - 0.05).abs() < 0.003);
    }

    #[test]
    fn our_space_starts_with_the_default_preset_and_every_trial_is_valid() {
        let first = Space::Ours.preset(9, 0).network;
        assert_eq!(first, MlpParams { seed: 9, ..Preset::best().network });
        assert!((1..500).all(|seed| Space::Ours.preset(seed, 1).check().is_ok()));
        assert_eq!(Space::Ours.preset(5, 1), Space::Ours.preset(5, 1));
        assert_ne!(Space::Ours.preset(5, 1), Space::Ours.preset(6, 1));
    }
}
