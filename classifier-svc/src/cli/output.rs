//! Prints one classified movie as a table or as JSON.

use classifier_svc::rest::types;
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};
use proto::classifier::v1::{ClassifyResponse, Explanation, GenreScore, Source};
use serde::Serialize;

#[derive(Serialize)]
struct Record<'a> {
    title: &'a str,
    #[serde(flatten)]
    response: types::ClassifyResponse,
}

/// Returns one JSON object: the title and the fields of the REST response.
pub(super) fn json(title: &str, response: ClassifyResponse) -> String {
    let record = Record { title, response: response.into() };
    serde_json::to_string_pretty(&record).expect("texts and finite numbers are JSON")
}

/// Returns a table of the predicted genres, or of all with `all`, followed by the explanation and
/// notes.
pub(super) fn table(title: &str, response: &ClassifyResponse, all: bool) -> String {
    let mut rows: Vec<&GenreScore> =
        if all { response.scores.iter().collect() } else { response.genres.iter().collect() };
    rows.sort_by(|a, b| b.probability.total_cmp(&a.probability));
    let mut lines = Vec::new();
    if !title.is_empty() {
        lines.push(title.to_owned());
    }
    if rows.is_empty() {
        let best = response.scores.iter().max_by(|a, b| a.probability.total_cmp(&b.probability));
        let best = best.map_or_else(String::new, |s| {
            format!("; the most probable is {} at {:.3}", s.label, s.probability)
        });
        lines.push(format!("no genre is above its threshold{best}"));
    } else {
        let mut table = Table::new();
        table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_header(["Genre", "Probability", "Threshold"]);
        for row in rows {
            let is_predicted = response.genres.iter().any(|genre| genre.label == row.label);
            let mark = if all && is_predicted { " *" } else { "" };
            let number = |value: f32| Cell::new(format!("{value:.3}")).set_alignment(CellAlignment::Right);
            table.add_row([
                Cell::new(format!("{}{mark}", row.label)),
                number(row.probability),
                number(row.threshold),
            ]);
        }
        lines.push(table.to_string());
    }
    if let Some(explanation) = &response.explanation {
        let shown: Vec<_> = response.genres.iter().map(|genre| genre.label.as_str()).collect();
        lines.push(explanation_table(explanation, &shown));
    }
    if response.truncated {
        lines.push("note: the text is longer than the encoder reads; its end was cut off".to_owned());
    }
    lines.join("\n")
}

/// Returns a table of contributions: one row for each segment, one column for each label of
/// `shown`.
fn explanation_table(explanation: &Explanation, shown: &[&str]) -> String {
    if explanation.segments.is_empty() {
        return "a single sentence cannot be explained, because nothing can be left out".to_owned();
    }
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_HORIZONTAL_ONLY)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(std::iter::once("Contribution").chain(shown.iter().copied()));
    for segment in &explanation.segments {
        let mark = if segment.source() == Source::Title { "(title) " } else { "" };
        let added = shown.iter().map(|label| {
            let found = segment.contributions.iter().find(|contribution| contribution.label == *label);
            let text = found.map_or_else(String::new, |c| format!("{:+.3}", c.contribution));
            Cell::new(text).set_alignment(CellAlignment::Right)
        });
        table.add_row(std::iter::once(Cell::new(format!("{mark}{}", segment.text))).chain(added));
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response() -> ClassifyResponse {
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
            explanation: None,
        }
    }

    #[test]
    fn the_table_shows_predicted_genres_and_notes_truncation() {
        let text = table("Harbour", &response(), false);
        assert!(text.contains("War") && text.contains("0.900") && !text.contains("Drama"), "{text}");
        assert!(text.contains("its end was cut off"));
        assert!(table("", &response(), true).contains("War *"));
    }

    #[test]
    fn without_a_predicted_genre_the_table_names_the_most_probable() {
        let mut none = response();
        none.genres.clear();
        assert!(table("", &none, false).contains("the most probable is War at 0.900"));
    }

    #[test]
    fn an_explanation_has_a_row_for_each_segment() {
        let mut explained = response();
        let contribution = |label: &str, contribution| proto::classifier::v1::Contribution {
            label: label.to_owned(),
            probability_without: 0.5,
            contribution,
        };
        let segment = |source: Source, text: &str, added| proto::classifier::v1::Segment {
            source: source.into(),
            text: text.to_owned(),
            contributions: vec![contribution("Drama", 0.0), contribution("War", added)],
        };
        explained.explanation = Some(Explanation {
            segments: vec![
                segment(Source::Title, "Harbour", -0.25),
                segment(Source::Overview, "Guns are fired.", 0.5),
            ],
        });
        let text = table("", &explained, false);
        for expected in ["(title) Harbour", "-0.250", "Guns are fired.", "+0.500"] {
            assert!(text.contains(expected), "{text}");
        }
        assert!(!text.contains("Drama"), "{text}");
    }

    #[test]
    fn json_has_the_fields_of_the_rest_response() {
        let value: serde_json::Value = serde_json::from_str(&json("Harbour", response())).unwrap();
        assert_eq!(value["genres"][0]["label"], "War");
        assert_eq!(value["scores"].as_array().unwrap().len(), 2);
        assert_eq!(value["truncated"], true);
    }
}
