//! The metrics of a model on the movies of a split.

use comfy_table::{CellAlignment, Table, presets};
use genre_model::{GenreModel, LabelSet};
use serde::Serialize;

use crate::metrics::{binary_cross_entropy, count, expected_calibration_error, macro_f1, micro_f1};
use crate::{SplitChoice, Vectors};

/// Why a model cannot be measured on these vectors.
#[derive(Debug, thiserror::Error)]
pub enum EvaluationError {
    /// Another encoder made the vectors.
    #[error("expected vectors of the model's encoder {expected}, found vectors of {found}")]
    OtherEncoder {
        /// The encoder of the model.
        expected: String,
        /// The encoder of the vectors.
        found: String,
    },
    /// Another template composed the texts.
    #[error("expected vectors of texts composed by the model's template {expected:?}, found {found:?}")]
    OtherTemplate {
        /// The template of the model.
        expected: String,
        /// The template of the vectors.
        found: String,
    },
    /// The vectors have another dimension.
    #[error("expected vectors of {expected} floats, found {found}")]
    OtherDimension {
        /// The dimension of the model.
        expected: usize,
        /// The dimension of the vectors.
        found: usize,
    },
    /// The movies have other labels.
    #[error("expected movies with the model's {expected}, found {found}; label sets must not be mixed")]
    OtherLabels {
        /// The labels of the model.
        expected: String,
        /// The labels of the movies.
        found: String,
    },
    /// There are no movies to measure on.
    #[error("expected {split} movies, found none")]
    NoMovies {
        /// The split.
        split: &'static str,
    },
}

/// The metrics of one genre.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GenreFigures {
    /// The genre.
    pub label: String,
    /// Share of correct predictions, or 0 without predictions.
    pub precision: f64,
    /// Share of the movies of the genre for which it was predicted, or 0 without such movies.
    pub recall: f64,
    /// Harmonic mean of precision and recall, or 0 if undefined.
    pub f1: f64,
    /// Movies with the genre.
    pub support: u64,
    /// The genre is predicted if its probability exceeds this.
    pub threshold: f32,
}

/// The metrics of a model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evaluation {
    /// Movies measured on.
    pub rows: usize,
    /// The split measured on, or `all`.
    pub split: &'static str,
    /// The rule that chose the thresholds.
    pub threshold_rule: String,
    /// F1 over all pairs of movie and genre, at the thresholds of the model.
    pub micro_f1: f64,
    /// Mean F1 of the genres, at the thresholds of the model.
    pub macro_f1: f64,
    /// F1 over all pairs, at a threshold of 0.5.
    pub micro_f1_at_0_5: f64,
    /// Expected calibration error over all pairs, in 15 bins.
    pub expected_calibration_error: f64,
    /// Mean binary cross-entropy over all pairs, in nats.
    pub binary_cross_entropy: f64,
    /// The version of the model file.
    pub model_version: String,
    /// The encoder that made the vectors.
    pub encoder_fingerprint: String,
    /// The metrics of each genre, in label order.
    pub per_genre: Vec<GenreFigures>,
}

impl Evaluation {
    /// Measures `model` on the movies of `choice` among `vectors`.
    pub fn of(model: &GenreModel, vectors: &Vectors, choice: SplitChoice) -> Result<Self, EvaluationError> {
        check(model, vectors)?;
        let part;
        let movies = match choice {
            SplitChoice::All => vectors,
            SplitChoice::One(split) => {
                part = vectors.subset(split);
                &part
            }
        };
        if movies.is_empty() {
            return Err(EvaluationError::NoMovies { split: choice.name() });
        }
        let probabilities = model.probabilities(&movies.vectors.view(), &movies.word_features);
        let thresholds = model.thresholds().per_genre();
        let counts = count(&probabilities, &movies.targets, thresholds);
        let at_half = count(&probabilities, &movies.targets, &vec![0.5; thresholds.len()]);
        let genre = |((label, counts), threshold): ((&String, &crate::metrics::Counts), &f32)| GenreFigures {
            label: label.clone(),
            precision: counts.precision(),
            recall: counts.recall(),
            f1: counts.f1(),
            support: counts.support(),
            threshold: *threshold,
        };
        Ok(Self {
            rows: movies.len(),
            split: choice.name(),
            threshold_rule: model.thresholds().rule().to_owned(),
            micro_f1: micro_f1(&counts),
            macro_f1: macro_f1(&counts),
            micro_f1_at_0_5: micro_f1(&at_half),
            expected_calibration_error: expected_calibration_error(&probabilities, &movies.targets),
            binary_cross_entropy: binary_cross_entropy(&probabilities.view(), &movies.targets.view()),
            model_version: model.version().to_owned(),
            encoder_fingerprint: movies.encoder.fingerprint.to_string(),
            per_genre: model.labels().iter().zip(&counts).zip(thresholds).map(genre).collect(),
        })
    }

    /// Returns the metrics as a table to read.
    #[must_use]
    pub fn table(&self) -> String {
        let mut genres = Table::new();
        genres.load_style(presets::NOTHING);
        genres.set_header(["genre", "threshold", "precision", "recall", "F1", "movies"]);
        for genre in &self.per_genre {
            genres.add_row([
                genre.label.clone(),
                format!("{:.3}", genre.threshold),
                format!("{:.4}", genre.precision),
                format!("{:.4}", genre.recall),
                format!("{:.4}", genre.f1),
                genre.support.to_string(),
            ]);
        }
        for column in 1..6 {
            if let Some(column) = genres.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        format!(
            "model {} on {} {} movies, thresholds by {}\n\
             micro-F1 {:.4} (at 0.5: {:.4}), macro-F1 {:.4}, calibration error {:.4}\n\n{genres}",
            self.model_version,
            self.rows,
            self.split,
            self.threshold_rule,
            self.micro_f1,
            self.micro_f1_at_0_5,
            self.macro_f1,
            self.expected_calibration_error,
        )
    }
}

/// Checks that the model may be given these vectors.
fn check(model: &GenreModel, vectors: &Vectors) -> Result<(), EvaluationError> {
    let provenance = model.provenance();
    check_encoder(model, &vectors.encoder)?;
    // `--no-title` is allowed: it composes texts without titles by the same template.
    if provenance.input_template != vectors.template {
        let (expected, found) = (provenance.input_template.to_string(), vectors.template.to_string());
        return Err(EvaluationError::OtherTemplate { expected, found });
    }
    let (expected, found) = (model.mlp().dimension(), vectors.dimension());
    if expected != found {
        return Err(EvaluationError::OtherDimension { expected, found });
    }
    if !vectors.labels.names().eq(model.labels()) {
        let expected = match LabelSet::of_names(model.labels()) {
            Ok(labels) => labels.to_string(),
            Err(_) => format!("{} labels", model.labels().len()),
        };
        return Err(EvaluationError::OtherLabels { expected, found: vectors.labels.to_string() });
    }
    Ok(())
}

/// Checks that an encoder is the one that the model was fitted on.
pub fn check_encoder(
    model: &GenreModel,
    found: &genre_model::EncoderIdentity,
) -> Result<(), EvaluationError> {
    let expected = &model.provenance().encoder;
    if expected.fingerprint == found.fingerprint {
        return Ok(());
    }
    Err(EvaluationError::OtherEncoder { expected: expected.to_string(), found: found.to_string() })
}

#[cfg(test)]
mod tests {
    use genre_model::Fingerprint;

    use super::*;
    use crate::fit::job;
    use crate::fit::preset::Preset;
    use crate::testing::vectors;
    use crate::{FittingData, MlpParams, Split};

    fn model(vectors: &Vectors) -> GenreModel {
        let mut preset = Preset::best();
        preset.network = MlpParams { units: 8, max_epochs: 3, ..preset.network };
        preset.model.ensemble = 1;
        job::fit(&FittingData::of(vectors).unwrap(), &preset, |_, _| {}).unwrap()
    }

    #[test]
    fn rejects_vectors_of_another_encoder() {
        let all = vectors(300);
        let model = model(&all);
        let mut others = all.clone();
        others.encoder.fingerprint = Fingerprint::parse("ef".repeat(32)).unwrap();
        let message = Evaluation::of(&model, &others, SplitChoice::All).unwrap_err().to_string();
        assert!(message.contains("(abababababab), found vectors of tiny-8 1 (efefefefefef)"), "{message}");
    }

    #[test]
    fn rejects_vectors_of_another_template() {
        let all = vectors(300);
        let model = model(&all);
        let mut others = all.clone();
        others.template = genre_model::InputTemplate::parse("{overview}").unwrap();
        let error = Evaluation::of(&model, &others, SplitChoice::All).unwrap_err();
        assert!(matches!(error, EvaluationError::OtherTemplate { .. }));
    }

    #[test]
    fn measures_each_split_on_its_own_movies() {
        let all = vectors(300);
        let model = model(&all);
        let rows = |choice| Evaluation::of(&model, &all, choice).unwrap().rows;
        assert_eq!(rows(SplitChoice::All), 300);
        assert_eq!(Split::ALL.map(|split| rows(SplitChoice::One(split))).iter().sum::<usize>(), 300);
        let only_train = all.subset(Split::Train);
        let error = Evaluation::of(&model, &only_train, SplitChoice::One(Split::Test)).unwrap_err();
        assert_eq!(error.to_string(), "expected test movies, found none");
    }

    #[test]
    fn json_has_the_fields_that_scripts_read() {
        let all = vectors(300);
        let evaluation = Evaluation::of(&model(&all), &all, SplitChoice::All).unwrap();
        let json = serde_json::to_value(&evaluation).unwrap();
        for field in ["rows", "threshold_rule", "micro_f1", "macro_f1", "micro_f1_at_0_5", "per_genre"] {
            assert!(json.get(field).is_some(), "{field}");
        }
        assert_eq!(json["per_genre"][6]["label"], "Drama");
        assert!(evaluation.table().contains("Drama"));
    }
}
