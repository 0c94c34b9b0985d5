//! A classified film as a person or a program reads it.

use comfy_table::{Cell, CellAlignment, Table, presets};
use proto::classifier::v1::{ClassifyResponse, GenreScore};
use serde::Serialize;

#[derive(Serialize)]
struct Record<'a> {
    title: &'a str,
    genres: Vec<Score<'a>>,
    scores: Vec<Score<'a>>,
    model_version: &'a str,
    truncated: bool,
}

#[derive(Serialize)]
struct Score<'a> {
    label: &'a str,
    probability: f32,
    threshold: f32,
}

fn scores<'a>(scores: &'a [GenreScore]) -> Vec<Score<'a>> {
    let score =
        |s: &'a GenreScore| Score { label: &s.label, probability: s.probability, threshold: s.threshold };
    scores.iter().map(score).collect()
}

/// One JSON object.
#[must_use]
pub fn json(title: &str, answer: &ClassifyResponse) -> String {
    let record = Record {
        title,
        genres: scores(&answer.genres),
        scores: scores(&answer.scores),
        model_version: &answer.model_version,
        truncated: answer.truncated,
    };
    serde_json::to_string_pretty(&record).expect("texts and finite numbers are JSON")
}

/// A table of the predicted genres, or of all where `all` is asked for, and what else is to be said.
#[must_use]
pub fn table(title: &str, answer: &ClassifyResponse, all: bool) -> String {
    let mut rows: Vec<&GenreScore> =
        if all { answer.scores.iter().collect() } else { answer.genres.iter().collect() };
    rows.sort_by(|a, b| b.probability.total_cmp(&a.probability));
    let mut lines = Vec::new();
    if !title.is_empty() {
        lines.push(title.to_owned());
    }
    if rows.is_empty() {
        let best = answer.scores.iter().max_by(|a, b| a.probability.total_cmp(&b.probability));
        let best = best
            .map_or_else(String::new, |s| format!("; the nearest is {} at {:.3}", s.label, s.probability));
        lines.push(format!("no genre is above its threshold{best}"));
    } else {
        let mut table = Table::new();
        table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_header(["Genre", "Probability", "Threshold"]);
        for row in rows {
            let mark = if all && row.probability > row.threshold { " *" } else { "" };
            let number = |value: f32| Cell::new(format!("{value:.3}")).set_alignment(CellAlignment::Right);
            table.add_row([
                Cell::new(format!("{}{mark}", row.label)),
                number(row.probability),
                number(row.threshold),
            ]);
        }
        lines.push(table.to_string());
    }
    if answer.truncated {
        lines.push("note: the text is longer than the encoder reads; its end was not used".to_owned());
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> ClassifyResponse {
        let score = |label: &str, probability, threshold| GenreScore {
            label: label.to_owned(),
            probability,
            threshold,
        };
        let scores = vec![score("Drama", 0.2, 0.4), score("War", 0.9, 0.5)];
        ClassifyResponse {
            genres: vec![scores[1].clone()],
            scores,
            model_version: "v".to_owned(),
            truncated: true,
        }
    }

    #[test]
    fn a_table_shows_what_is_predicted_and_says_when_the_text_was_cut() {
        let text = table("Harbour", &answer(), false);
        assert!(text.contains("War") && text.contains("0.900") && !text.contains("Drama"), "{text}");
        assert!(text.contains("its end was not used"));
        assert!(table("", &answer(), true).contains("War *"));
    }

    #[test]
    fn a_film_of_no_genre_is_told_its_nearest() {
        let mut none = answer();
        none.genres.clear();
        assert!(table("", &none, false).contains("the nearest is War at 0.900"));
    }

    #[test]
    fn json_has_the_fields_of_the_wire() {
        let value: serde_json::Value = serde_json::from_str(&json("Harbour", &answer())).unwrap();
        assert_eq!(value["genres"][0]["label"], "War");
        assert_eq!(value["scores"].as_array().unwrap().len(), 2);
        assert_eq!(value["truncated"], true);
    }
}
