//! Which settings are tried.

use std::fmt;

use genre_model::Activation;
use rand::seq::SliceRandom as _;
use rand::{Rng, SeedableRng as _};
use rand_xoshiro::Xoshiro256PlusPlus;

use crate::fit::preset::Recipe;

/// A space of settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Space {
    /// The reference system's: units of 10, 110, ..., 910, learning rate uniform in 1e-6 to 0.1, batches of 16 to 1024.
    Reference,
    /// Around the default recipe, which is its trial 0: units, activation, dropout of hidden units and of inputs, learning
    /// rate and weight decay by their logarithms, batch size, label smoothing, standardised inputs.
    Ours,
}

impl Space {
    /// All spaces.
    pub const ALL: [Self; 2] = [Self::Reference, Self::Ours];

    /// The name on the command line and in journals.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Reference => "reference",
            Self::Ours => "ours",
        }
    }

    /// The recipe of the trial with this seed; it fits one network.
    #[must_use]
    pub fn recipe(self, seed: u64, trial: usize) -> Recipe {
        // Not the fit's own stream: settings and first weights are drawn independently.
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed ^ 0x5e7_7196);
        let mut recipe = match self {
            Self::Reference => reference(&mut rng),
            Self::Ours if trial == 0 => Recipe::best(),
            Self::Ours => ours(&mut rng),
        };
        recipe.params = recipe.params.seed(seed);
        recipe.ensemble = 1;
        recipe
    }

    /// How the winner is fitted for use.
    #[must_use]
    pub fn final_recipe(self, mut winner: Recipe) -> Recipe {
        if self == Self::Ours {
            winner.ensemble = Recipe::best().ensemble;
        }
        winner
    }
}

impl fmt::Display for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

fn one_of<T: Copy>(rng: &mut impl Rng, choices: &[T]) -> T {
    *choices.choose(rng).expect("the lists below are not empty")
}

fn log_uniform(rng: &mut impl Rng, from: f64, to: f64) -> f32 {
    rng.gen_range(from.ln()..=to.ln()).exp() as f32
}

fn reference(rng: &mut impl Rng) -> Recipe {
    let mut recipe = Recipe::reference();
    recipe.params = recipe
        .params
        .units(10 + 100 * rng.gen_range(0..=9))
        .learning_rate(rng.gen_range(1e-6..=0.1))
        .batch_size(one_of(rng, &[16, 32, 64, 128, 256, 512, 768, 1024]));
    recipe
}

fn ours(rng: &mut impl Rng) -> Recipe {
    let mut recipe = Recipe::best();
    recipe.params = recipe
        .params
        .units(one_of(rng, &[128, 256, 384, 512, 768, 1024]))
        .activation(one_of(rng, &[Activation::Relu, Activation::Gelu, Activation::Sigmoid]))
        .dropout(one_of(rng, &[0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]))
        .input_dropout(one_of(rng, &[0.0, 0.1, 0.2, 0.3]))
        .learning_rate(log_uniform(rng, 1e-4, 1e-2))
        .batch_size(one_of(rng, &[32, 64, 128, 256]))
        .weight_decay(log_uniform(rng, 1e-4, 0.3))
        .label_smoothing(one_of(rng, &[0.0, 0.0, 0.02, 0.05]))
        .standardise(rng.gen_range(0..4) == 0);
    recipe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_space_is_the_one_that_the_reference_system_searched() {
        for seed in 0..2000 {
            let params = Space::Reference.recipe(seed, 3).check().unwrap();
            assert!(params.units % 100 == 10 && (10..=910).contains(&params.units));
            assert!((1e-6..=0.1).contains(&params.learning_rate));
            assert!([16, 32, 64, 128, 256, 512, 768, 1024].contains(&params.batch_size));
            assert_eq!((params.max_epochs, params.patience), (200, 10));
        }
        let mean = (0..2000).map(|seed| Space::Reference.recipe(seed, 3).check().unwrap().learning_rate);
        assert!((mean.sum::<f32>() / 2000.0 - 0.05).abs() < 0.003);
    }

    #[test]
    fn the_default_recipe_is_the_first_trial_of_our_space_and_every_other_is_sound() {
        let first = Space::Ours.recipe(9, 0).check().unwrap();
        assert_eq!(first, Recipe::best().check().unwrap().with_seed(9));
        assert!((1..500).all(|seed| Space::Ours.recipe(seed, 1).check().is_ok()));
        assert_eq!(Space::Ours.recipe(5, 1), Space::Ours.recipe(5, 1));
        assert_ne!(Space::Ours.recipe(5, 1), Space::Ours.recipe(6, 1));
    }
}
