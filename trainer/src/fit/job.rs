//! Turns vectors into a model: fit networks, average, interpolate, calibrate, choose thresholds.

use std::collections::BTreeMap;

use genre_model::{GenreModel, Provenance, SPLIT_RULE, sigmoid};

use crate::data::training_data::FittingData;
use crate::fit::calibration::temperature;
use crate::fit::ensemble;
use crate::fit::error::FitJobError;
use crate::fit::interpolation::Interpolation;
use crate::fit::mlp::estimator::{EpochLosses, FitError, FittedMlp};
use crate::fit::preset::Preset;
use crate::fit::thresholds::{self, ThresholdRule};
use crate::fit::word_model;
use crate::metrics::{binary_cross_entropy, count, macro_f1, micro_f1};

/// Fits a model by `preset`. Gradients come from training movies; early stopping, calibration and
/// thresholds from validation movies; `data` holds no others. Calls `observe` with the index of the
/// network after each of its epochs.
pub fn fit(
    data: &FittingData,
    preset: &Preset,
    observe: impl Fn(usize, EpochLosses) + Sync,
) -> Result<GenreModel, FitJobError> {
    preset.check().map_err(FitError::from)?;
    let members =
        ensemble::fit(&preset.network, preset.model.ensemble, data.train(), data.validation(), observe)?;
    finish(data, preset, &members)
}

/// Turns fitted networks into a model: average, add the word model, calibrate, choose thresholds.
pub(crate) fn finish(
    data: &FittingData,
    preset: &Preset,
    members: &[FittedMlp],
) -> Result<GenreModel, FitJobError> {
    let mlp = ensemble::merge(&members.iter().map(|member| &member.mlp).collect::<Vec<_>>());
    let mut hyper_parameters = preset.describe();
    let (vectors, targets) = (data.validation().records(), data.validation().targets());
    let mut interpolation = Interpolation::of(mlp);
    if preset.model.word_cost > 0.0 {
        let fitted =
            word_model::fit(data.train_word_features(), data.train().targets(), preset.model.word_cost)?;
        let network = interpolation.logits(vectors, data.validation_word_features());
        let (both, weight) = Interpolation::chosen(
            interpolation.mlp,
            &network,
            fitted,
            data.validation_word_features(),
            targets,
        )?;
        interpolation = both;
        // The key of earlier model files.
        hyper_parameters.insert("word_share".to_owned(), weight.to_string());
    }
    if preset.model.calibrate {
        let temperature =
            temperature(&interpolation.logits(vectors, data.validation_word_features()), targets);
        interpolation = interpolation.cooled(temperature)?;
        hyper_parameters.insert("temperature".to_owned(), format!("{temperature:.4}"));
    }
    let epochs = members.iter().map(|member| member.best_epoch).sum::<usize>() as f64 / members.len() as f64;
    model_of(data, interpolation, preset.model.threshold_rule, hyper_parameters, Some(("epochs", epochs)))
}

/// Builds the model from an interpolation. Thresholds and metrics come from validation movies.
/// `more` is a further metric to record.
pub(crate) fn model_of(
    data: &FittingData,
    interpolation: Interpolation,
    rule: ThresholdRule,
    hyper_parameters: BTreeMap<String, String>,
    more: Option<(&str, f64)>,
) -> Result<GenreModel, FitJobError> {
    let (vectors, targets) = (data.validation().records(), data.validation().targets());
    let probabilities = interpolation.logits(vectors, data.validation_word_features()).mapv_into(sigmoid);
    let thresholds = thresholds::choose(rule, &probabilities, targets);
    let counts = count(&probabilities, targets, thresholds.per_genre());
    let metrics = [
        ("validation_micro_f1", micro_f1(&counts)),
        ("validation_macro_f1", macro_f1(&counts)),
        ("validation_loss", binary_cross_entropy(&probabilities.view(), &targets.view())),
    ];
    let provenance = Provenance {
        encoder: data.encoder().clone(),
        input_template: data.template().clone(),
        data_digest: data.data_digest().to_owned(),
        split_rule: SPLIT_RULE.to_owned(),
        hyper_parameters,
        metrics: metrics.into_iter().chain(more).map(|(name, value)| (name.to_owned(), value)).collect(),
    };
    let labels = data.labels().names().map(str::to_owned).collect();
    let Interpolation { mlp, words } = interpolation;
    let model = GenreModel::new(labels, mlp, thresholds, provenance).map_err(FitJobError::Model)?;
    match words {
        Some(words) => model.with_words(words).map_err(FitJobError::Model),
        None => Ok(model),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::vectors;
    use crate::{MlpParams, Split, Vectors};

    fn quick(mut preset: Preset) -> Preset {
        preset.network =
            MlpParams { units: 24, learning_rate: 0.02, batch_size: 64, max_epochs: 60, ..preset.network };
        preset.model.ensemble = preset.model.ensemble.min(2);
        preset
    }

    #[test]
    fn learns_learnable_genres_and_records_its_settings() {
        let all = vectors(3000);
        let model = fit(&FittingData::of(&all).unwrap(), &quick(Preset::best()), |_, _| {}).unwrap();
        let test = all.subset(Split::Test);
        let probabilities = model.probabilities(&test.vectors.view(), &test.word_features);
        let f1 = micro_f1(&count(&probabilities, &test.targets, model.thresholds().per_genre()));
        assert!(f1 > 0.85, "{f1}");
        assert_eq!(model.mlp().units(), 48);
        let provenance = model.provenance();
        assert_eq!(provenance.encoder, all.encoder);
        assert_eq!(provenance.hyper_parameters["recipe"], "default");
        assert!(provenance.metrics["validation_micro_f1"] > 0.85);
    }

    #[test]
    fn test_movies_do_not_influence_a_fit() {
        let all = vectors(600);
        let mut changed: Vectors = all.clone();
        for (row, split) in all.splits.iter().enumerate() {
            if *split == Split::Test {
                changed.vectors.row_mut(row).fill(9.0);
                changed.targets.row_mut(row).fill(1.0);
            }
        }
        let bytes = |vectors| {
            fit(&FittingData::of(vectors).unwrap(), &quick(Preset::best()), |_, _| {}).unwrap().to_bytes()
        };
        assert!(bytes(&all) == bytes(&changed));
    }

    #[test]
    fn the_reference_preset_is_one_sigmoid_layer_and_one_of_eight_thresholds() {
        let preset = Preset::reference();
        let described = preset.describe();
        for (name, value) in [
            ("activation", "sigmoid"),
            ("max_epochs", "200"),
            ("patience", "10"),
            ("min_delta", "0.0001"),
            ("dropout", "0"),
            ("weight_decay", "0"),
            ("ensemble", "1"),
            ("threshold_rule", "reference-grid"),
        ] {
            assert_eq!(described[name], value, "{name}");
        }
        let model = fit(&FittingData::of(&vectors(600)).unwrap(), &quick(preset), |_, _| {}).unwrap();
        let tenths = f64::from(model.thresholds().global()) * 10.0;
        assert!((tenths - tenths.round()).abs() < 1e-6 && (1.0..=8.0).contains(&tenths.round()));
    }
}
