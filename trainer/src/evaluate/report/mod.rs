//! The Markdown report: where models come from, how good they are, and where they fail.

mod figures;
mod groups;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use genre_model::GenreModel;

use crate::evaluate::evaluation::{Evaluation, EvaluationError};
use crate::evaluate::plots::{self, PlotError};
use crate::fit::loss_curves::LossCurves;
use crate::{Split, SplitChoice, Vectors};
use figures::Measured;

/// A model and the name of its file.
#[derive(Debug, Clone)]
pub struct NamedModel {
    /// The name in the report.
    pub name: String,
    /// The model.
    pub model: GenreModel,
}

pub use figures::Figure;
pub use groups::Grouping;

/// The names of all figures that a report can have.
pub const FIGURES: [&str; 6] =
    ["loss", "genres", "precision-recall", "thresholds", "reliability", "confusion"];

/// The path of a figure beside its report, such as `REPORT-loss.svg`.
#[must_use]
pub fn figure_path(report: &Path, name: &str) -> PathBuf {
    let stem = report.file_stem().unwrap_or_default().to_string_lossy();
    report.with_file_name(format!("{stem}-{name}.svg"))
}

/// Optional content of the report.
pub struct Details<'a> {
    /// The loss curves of the first model, if known.
    pub curves: Option<&'a LossCurves>,
    /// Titles of movies by id. A published report has none, since titles belong to the data set.
    pub titles: &'a dyn Fn(u64) -> Option<String>,
    /// Ways to group the test movies, besides by how many labels they have.
    pub groupings: &'a [Grouping],
}

/// Returns the figures and tables of a model as Markdown, and the figures. The Markdown refers to
/// each figure as `stem-name.svg`.
pub fn details(
    model: &GenreModel,
    vectors: &Vectors,
    details: &Details<'_>,
    stem: &str,
) -> Result<(String, Vec<Figure>), PlotError> {
    let (validation, tested) =
        (Measured::of(model, vectors, Split::Validation), Measured::of(model, vectors, Split::Test));
    let mut text = String::new();
    for grouping in std::iter::once(&Grouping::by_labels(&tested.movies)).chain(details.groupings) {
        let table = grouping.table(model, &tested.movies)?;
        let _ = write!(text, "\n## By {}, test movies\n\n{table}", grouping.name);
    }
    text.push_str("\n## Threshold rules, validation movies\n\n");
    text.push_str("Each rule is chosen and measured on the same movies, which favours the finer rules.\n\n");
    text.push_str(&validation.rules());
    let mut pictures = Vec::new();
    let mut show = |text: &mut String, title: &str, figure: Figure| {
        let _ = write!(text, "\n## {title}\n\n![{}]({stem}-{}.svg)\n", figure.description, figure.name);
        pictures.push(figure);
    };
    if let Some(curves) = details.curves {
        show(&mut text, "Losses", figures::losses(curves)?);
    }
    let evaluation = figures::test_figures(model, vectors)?;
    show(&mut text, "Genres, test movies", figures::bars(&evaluation)?);
    show(&mut text, "Precision and recall, test movies", tested.precision_recall()?);
    show(&mut text, "Threshold, validation movies", validation.sweep()?);
    let reliability = Figure {
        name: "reliability",
        description: "share of movies that have a genre, by predicted probability",
        svg: plots::reliability(model, vectors)?,
    };
    show(&mut text, "Reliability, test movies", reliability);
    show(&mut text, "Confusion between genres, test movies", tested.confusion(model)?);
    text.push_str("\nShare of the movies of a genre (row) for which the model missed that genre and predicted a wrong one (column).\n");
    if model.labels().len() > figures::CONFUSED {
        let _ = writeln!(text, "The plot shows the {} most common genres.", figures::CONFUSED);
    }
    text.push_str("\n## Worst mistakes, test movies\n\n");
    text.push_str(&tested.worst(model, details.titles));
    Ok((text, pictures))
}

/// Returns the report of `models` as Markdown, after an `introduction`. The first model is the subject,
/// shown genre by genre.
pub fn markdown(
    introduction: &str,
    models: &[NamedModel],
    vectors: &Vectors,
) -> Result<String, EvaluationError> {
    let mut text = String::from("# Genre model\n\n");
    let introduction = introduction.trim();
    if introduction.is_empty() {
        text.push_str("Written by `trainer report`.");
    } else {
        let _ = write!(text, "{introduction}\n\nFrom here on, `trainer report` wrote this page.");
    }
    text.push_str(
        " Epoch, temperature and thresholds were chosen on validation movies; nothing was chosen on test \
         movies.\n\n",
    );
    if let Some(subject) = models.first() {
        provenance(&mut text, subject, vectors);
    }
    text.push_str("## Models\n\n");
    text.push_str(
        "| model | movies | micro-F1 | micro-F1 at 0.5 | macro-F1 | calibration error | cross-entropy |\n",
    );
    text.push_str("|---|---|---:|---:|---:|---:|---:|\n");
    for named in models {
        for split in [Split::Validation, Split::Test] {
            let figures = Evaluation::of(&named.model, vectors, SplitChoice::One(split))?;
            let _ = writeln!(
                text,
                "| `{}` | {split}, {} | {:.4} | {:.4} | {:.4} | {:.4} | {:.4} |",
                named.name,
                figures.rows,
                figures.micro_f1,
                figures.micro_f1_at_0_5,
                figures.macro_f1,
                figures.expected_calibration_error,
                figures.binary_cross_entropy,
            );
        }
    }
    text.push_str(
        "\nMicro-F1 is over all pairs of movie and genre. Macro-F1 is the mean F1 of the genres, where an undefined \
         F1 counts as 0. The calibration error is over all pairs, in 15 bins of equal width.\n",
    );
    for named in models {
        let thresholds = named.model.thresholds();
        let _ = writeln!(
            text,
            "\n`{}`: version {}, {} hidden units ({}), thresholds by {} (global {:.2}).",
            named.name,
            named.model.version(),
            named.model.mlp().units(),
            named.model.mlp().activation().name(),
            thresholds.rule(),
            thresholds.global(),
        );
    }
    if let Some(subject) = models.first() {
        per_genre(&mut text, subject, vectors)?;
    }
    Ok(text)
}

fn provenance(text: &mut String, subject: &NamedModel, vectors: &Vectors) {
    let provenance = subject.model.provenance();
    let splits = Split::ALL.map(|split| {
        let movies = vectors.splits.iter().filter(|found| **found == split).count();
        format!("{movies} {split}")
    });
    let _ = write!(
        text,
        "## Where `{}` comes from\n\n\
         - encoder: {} {}, fingerprint `{}`\n\
         - text: `{}`\n\
         - movies of the fit: digest `{}`\n\
         - movies of this report: {} ({}), digest `{}`\n\
         - split: {}\n\
         - fitted with:",
        subject.name,
        provenance.encoder.id,
        provenance.encoder.version,
        provenance.encoder.fingerprint,
        provenance.input_template,
        provenance.data_digest,
        vectors.len(),
        splits.join(", "),
        vectors.data_digest,
        provenance.split_rule,
    );
    let settings: Vec<String> =
        provenance.hyper_parameters.iter().map(|(name, value)| format!(" {name} {value}")).collect();
    let _ = writeln!(text, "{}\n", settings.join(","));
}

fn per_genre(text: &mut String, subject: &NamedModel, vectors: &Vectors) -> Result<(), EvaluationError> {
    let figures = Evaluation::of(&subject.model, vectors, SplitChoice::One(Split::Test))?;
    let _ = writeln!(text, "\n## Genres of `{}`, test movies\n", subject.name);
    text.push_str(
        "| genre | threshold | precision | recall | F1 | movies |\n|---|---:|---:|---:|---:|---:|\n",
    );
    for genre in &figures.per_genre {
        let _ = writeln!(
            text,
            "| {} | {:.3} | {:.4} | {:.4} | {:.4} | {} |",
            genre.label, genre.threshold, genre.precision, genre.recall, genre.f1, genre.support,
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;
    use crate::fit::job;
    use crate::fit::preset::Preset;
    use crate::testing::vectors;
    use crate::{FittingData, MlpParams};

    #[test]
    fn the_report_names_every_model_split_and_genre() {
        let all = vectors(300);
        let model = |mut preset: Preset| {
            preset.network = MlpParams { units: 8, max_epochs: 2, ..preset.network };
            job::fit(&FittingData::of(&all).unwrap(), &preset, |_, _| {}).unwrap()
        };
        let named = |name: &str, preset| NamedModel { name: name.to_owned(), model: model(preset) };
        let text =
            markdown("For films.\n", &[named("a", Preset::best()), named("b", Preset::reference())], &all)
                .unwrap();
        assert!(text.starts_with("# Genre model\n\nFor films.\n\nFrom here"), "{text}");
        for expected in
            ["| `a` | validation", "| `b` | test", "| Drama |", "tiny-8 1", "[{title}. ]{overview}"]
        {
            assert!(text.contains(expected), "{expected} is missing in\n{text}");
        }
    }

    #[test]
    fn details_show_every_figure_and_rule_and_titles_only_on_request() {
        let all = vectors(600);
        let mut preset = Preset::reference();
        preset.network = MlpParams { units: 8, max_epochs: 2, ..preset.network };
        let recorder = crate::fit::loss_curves::LossRecorder::default();
        let observe = |member, losses| recorder.record(member, losses);
        let model = job::fit(&FittingData::of(&all).unwrap(), &preset, observe).unwrap();
        let curves = recorder.finish(model.version());
        let with = |titles: &dyn Fn(u64) -> Option<String>| {
            let groups = all.ids.iter().map(|id| (*id, "long".to_owned())).collect();
            let groupings = [Grouping { name: "length".to_owned(), groups }];
            let details = Details { curves: Some(&curves), titles, groupings: &groupings };
            super::details(&model, &all, &details, "R").unwrap()
        };
        let (text, pictures) = with(&|_| None);
        assert!(text.contains("## By number of labels, test") && text.contains("| long |"), "{text}");
        assert!(pictures.iter().all(|figure| FIGURES.contains(&figure.name)));
        assert_eq!(pictures.len(), FIGURES.len());
        for name in ["loss", "genres", "precision-recall", "thresholds", "reliability", "confusion"] {
            assert!(text.contains(&format!("(R-{name}.svg)")), "{name} is missing in\n{text}");
            assert!(pictures.iter().any(|figure| figure.name == name && figure.svg.contains("</svg>")));
        }
        for rule in crate::fit::thresholds::ThresholdRule::value_variants() {
            assert!(text.contains(&format!("| {rule} |")), "{rule}");
        }
        assert_eq!(text.matches("Movie of").count(), 0);
        let (text, _) = with(&|id| Some(format!("Movie of {id}")));
        assert_eq!(text.matches("Movie of").count(), 15);
    }
}
