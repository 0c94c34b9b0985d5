//! A record for each movie on standard output: its genres, or why it has none.

use std::io::Write;

use clap::ValueEnum;
use classifier_svc::rest::types;
use proto::classifier::v1::ClassifyResponse;
use serde::Serialize;

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum OutputFormat {
    /// One JSON object a line.
    Jsonl,
    /// Comma-separated values with a header; genres are separated by a comma and a space.
    Csv,
}

/// What became of one movie.
pub(super) struct Outcome {
    /// Counted from 1.
    pub(super) row: usize,
    pub(super) id: Option<String>,
    pub(super) title: String,
    pub(super) result: Result<ClassifyResponse, String>,
}

#[derive(Serialize)]
struct JsonRecord<'a> {
    row: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    title: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    genres: Option<Vec<types::GenreScore>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    truncated: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model_version: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

const COLUMNS: [&str; 7] = ["row", "id", "title", "genres", "truncated", "model_version", "error"];

pub(super) enum RecordWriter<W: Write> {
    Jsonl(W),
    Csv(Box<csv::Writer<W>>),
}

impl<W: Write> RecordWriter<W> {
    pub(super) fn new(format: OutputFormat, out: W) -> anyhow::Result<Self> {
        Ok(match format {
            OutputFormat::Jsonl => Self::Jsonl(out),
            OutputFormat::Csv => {
                let mut writer = csv::Writer::from_writer(out);
                writer.write_record(COLUMNS)?;
                Self::Csv(Box::new(writer))
            }
        })
    }

    /// Written through at once, so that whoever reads along sees each movie as it is answered.
    pub(super) fn write(&mut self, outcome: &Outcome) -> anyhow::Result<()> {
        let answer = outcome.result.as_ref().ok();
        let error = outcome.result.as_ref().err().map(String::as_str);
        match self {
            Self::Jsonl(out) => {
                let record = JsonRecord {
                    row: outcome.row,
                    id: outcome.id.as_deref(),
                    title: &outcome.title,
                    genres: answer.map(|answer| answer.genres.iter().cloned().map(Into::into).collect()),
                    truncated: answer.map(|answer| answer.truncated),
                    model_version: answer.map(|answer| answer.model_version.as_str()),
                    error,
                };
                serde_json::to_writer(&mut *out, &record)?;
                out.write_all(b"\n")?;
                out.flush()?;
            }
            Self::Csv(writer) => {
                let labels = |answer: &ClassifyResponse| {
                    answer.genres.iter().map(|genre| genre.label.as_str()).collect::<Vec<_>>().join(", ")
                };
                writer.write_record([
                    outcome.row.to_string().as_str(),
                    outcome.id.as_deref().unwrap_or_default(),
                    &outcome.title,
                    &answer.map(labels).unwrap_or_default(),
                    &answer.map(|answer| answer.truncated.to_string()).unwrap_or_default(),
                    answer.map_or("", |answer| &answer.model_version),
                    error.unwrap_or_default(),
                ])?;
                writer.flush()?;
            }
        }
        Ok(())
    }
}
