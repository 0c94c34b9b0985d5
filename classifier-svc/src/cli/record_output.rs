//! Writes one record for each movie: its genres, or its error.

use std::io::{self, Write};

use clap::ValueEnum;
use classifier_svc::rest::types;
use proto::classifier::v1::ClassifyResponse;
use serde::Serialize;

/// Format of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum OutputFormat {
    /// JSON Lines: one object in each line.
    Jsonl,
    /// Comma-separated values with a header; genres are joined with ", ".
    Csv,
}

/// The result of one movie.
pub(super) struct Outcome {
    /// Row in the input, from 1.
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
    pub(super) fn new(format: OutputFormat, out: W) -> io::Result<Self> {
        Ok(match format {
            OutputFormat::Jsonl => Self::Jsonl(out),
            OutputFormat::Csv => {
                let mut writer = csv::Writer::from_writer(out);
                writer.write_record(COLUMNS)?;
                Self::Csv(Box::new(writer))
            }
        })
    }

    /// Writes and flushes one record, so a reader of the pipe sees it at once.
    pub(super) fn write(&mut self, outcome: &Outcome) -> io::Result<()> {
        let response = outcome.result.as_ref().ok();
        let error = outcome.result.as_ref().err().map(String::as_str);
        match self {
            Self::Jsonl(out) => {
                let record = JsonRecord {
                    row: outcome.row,
                    id: outcome.id.as_deref(),
                    title: &outcome.title,
                    genres: response
                        .map(|response| response.genres.iter().cloned().map(Into::into).collect()),
                    truncated: response.map(|response| response.truncated),
                    model_version: response.map(|response| response.model_version.as_str()),
                    error,
                };
                serde_json::to_writer(&mut *out, &record)?;
                out.write_all(b"\n")?;
                out.flush()?;
            }
            Self::Csv(writer) => {
                let labels = |response: &ClassifyResponse| {
                    response.genres.iter().map(|genre| genre.label.as_str()).collect::<Vec<_>>().join(", ")
                };
                writer.write_record([
                    outcome.row.to_string().as_str(),
                    outcome.id.as_deref().unwrap_or_default(),
                    &outcome.title,
                    &response.map(labels).unwrap_or_default(),
                    &response.map(|response| response.truncated.to_string()).unwrap_or_default(),
                    response.map_or("", |response| &response.model_version),
                    error.unwrap_or_default(),
                ])?;
                writer.flush()?;
            }
        }
        Ok(())
    }
}
