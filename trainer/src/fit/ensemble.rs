//! Averages several networks into one: hidden layers side by side, outputs averaged.
//!
//! The mean of the members' logits is itself a network with one hidden layer, so no other code
//! needs to know about ensembles.

use genre_model::{Dense, Mlp};
use ndarray::{Array1, Axis, concatenate};
use rayon::prelude::*;

use crate::data::training_data::LabelledVectors;
use crate::fit::mlp::estimator::{EpochLosses, FitError, FittedMlp};
use crate::fit::mlp::params::MlpParams;

/// Fits `members` networks with seeds `seed`, `seed + 1`, ..., in parallel over the cores. The
/// result does not depend on the number of cores. Calls `observe` with the index of the member
/// after each of its epochs.
pub fn fit(
    params: &MlpParams,
    members: usize,
    train: &LabelledVectors,
    validation: &LabelledVectors,
    observe: impl Fn(usize, EpochLosses) + Sync,
) -> Result<Vec<FittedMlp>, FitError> {
    let member = |member: usize| {
        let seed = params.seed.wrapping_add(member as u64);
        let params = MlpParams { seed, ..params.clone() };
        params.fit_validated(train, validation, |losses| observe(member, losses))
    };
    (0..members).into_par_iter().map(member).collect()
}

/// Returns one network whose logits are the mean of the members' logits.
///
/// # Panics
/// If there are no members, or if they differ in dimension, labels or activation.
#[must_use]
pub fn merge(members: &[&Mlp]) -> Mlp {
    if let [only] = members {
        return (*only).clone();
    }
    let share = 1.0 / members.len() as f32;
    let scaled: Vec<_> = members.iter().map(|member| &member.output().weight * share).collect();
    let views =
        |part: fn(&Mlp) -> ndarray::ArrayView2<'_, f32>| members.iter().map(|m| part(m)).collect::<Vec<_>>();
    let same = "members have the same dimension and labels";
    let biases: Vec<_> = members.iter().map(|member| member.hidden().bias.view()).collect();
    let hidden = Dense {
        weight: concatenate(Axis(0), &views(|mlp| mlp.hidden().weight.view())).expect(same),
        bias: concatenate(Axis(0), &biases).expect(same),
    };
    let output = Dense {
        weight: concatenate(Axis(1), &scaled.iter().map(ndarray::ArrayBase::view).collect::<Vec<_>>())
            .expect(same),
        bias: members
            .iter()
            .fold(Array1::zeros(members[0].labels()), |sum, member| sum + &member.output().bias)
            * share,
    };
    Mlp::new(hidden, members[0].activation(), output).expect(same)
}

#[cfg(test)]
mod tests {
    use approx::assert_abs_diff_eq;
    use genre_model::Activation;
    use linfa::dataset::Dataset;
    use ndarray::Array2;
    use rand::{Rng as _, SeedableRng as _};
    use rand_xoshiro::Xoshiro256PlusPlus;

    use super::*;
    use crate::fit::mlp::weights::Parameters;

    #[test]
    fn the_merged_network_returns_the_mean_of_its_members() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let mut member = |units| {
            let mut parameters = Parameters::random(4, units, 3, Activation::Gelu, &mut rng);
            parameters.output_bias.mapv_inplace(|_| rng.gen_range(-1.0..1.0));
            parameters.into_mlp(Activation::Gelu).unwrap()
        };
        let members = [member(5), member(7), member(6)];
        let merged = merge(&members.iter().collect::<Vec<_>>());
        assert_eq!(merged.units(), 18);
        let vectors = Array2::from_shape_fn((10, 4), |(row, column)| ((row * 7 + column * 3) as f32).sin());
        let logit = |p: f32| (p / (1.0 - p)).ln();
        let mean = members
            .iter()
            .map(|m| m.probabilities(&vectors.view()).mapv(logit))
            .reduce(|a, b| a + b)
            .unwrap();
        assert_abs_diff_eq!(merged.probabilities(&vectors.view()).mapv(logit), mean / 3.0, epsilon = 1e-5);
    }

    #[test]
    fn members_are_in_the_order_of_their_seeds() {
        let data = |seed| {
            let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
            let inputs = Array2::from_shape_simple_fn((60, 3), || rng.gen_range(-1.0_f32..1.0));
            let targets = inputs.mapv(|x| f32::from(u8::from(x > 0.0)));
            Dataset::new(inputs, targets)
        };
        let (train, validation) = (data(1), data(2));
        let params = MlpParams { units: 8, max_epochs: 4, seed: 10, ..MlpParams::default() };
        let together = fit(&params, 3, &train, &validation, |_, _| {}).unwrap();
        for (member, seed) in together.iter().zip(10..) {
            let params = MlpParams { seed, ..params.clone() };
            assert_eq!(*member, params.fit_validated(&train, &validation, |_| {}).unwrap());
        }
    }
}
