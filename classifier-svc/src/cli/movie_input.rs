//! Reads movies from a file: CSV with a header, or JSON Lines.

use std::fs::File;
use std::io::{BufRead as _, BufReader, IsTerminal as _, Read};
use std::path::Path;

use anyhow::Context as _;
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;

/// Format of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum InputFormat {
    /// Comma-separated values with a header.
    Csv,
    /// JSON Lines: one object in each line.
    Jsonl,
}

/// One movie of the file. Other columns or keys are ignored.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Movie {
    #[serde(default)]
    pub(super) id: Option<String>,
    #[serde(default)]
    pub(super) title: String,
    pub(super) overview: String,
}

/// A movie, or the reason why its record is invalid.
pub(super) type Record = Result<Movie, String>;

/// An open input and its progress bar.
pub(super) struct MovieInput {
    reader: Box<dyn Read + Send>,
    format: InputFormat,
    pub(super) progress: ProgressBar,
}

impl MovieInput {
    /// Opens the file at `path`; `-` is standard input, which requires a `format`.
    pub(super) fn open(path: &Path, format: Option<InputFormat>) -> anyhow::Result<Self> {
        let by_name = || match path.extension().and_then(|extension| extension.to_str()) {
            Some("csv") => Some(InputFormat::Csv),
            Some("jsonl" | "ndjson") => Some(InputFormat::Jsonl),
            _ => None,
        };
        let format = format.or_else(by_name).with_context(|| {
            format!("--input {}: expected a file name that ends in .csv, .jsonl or .ndjson; otherwise give --input-format", path.display())
        })?;
        let (source, progress): (Box<dyn Read + Send>, _) = if path == Path::new("-") {
            (Box::new(std::io::stdin()), bar(None))
        } else {
            let file = File::open(path).with_context(|| format!("--input {}", path.display()))?;
            let length = file.metadata().ok().map(|metadata| metadata.len());
            (Box::new(file), bar(length))
        };
        Ok(Self { reader: Box::new(progress.wrap_read(source)), format, progress })
    }

    /// Returns all records in order. An error ends them, because the start of the next record is
    /// unknown.
    pub(super) fn records(self) -> Box<dyn Iterator<Item = anyhow::Result<Record>> + Send> {
        match self.format {
            InputFormat::Csv => csv_records(self.reader),
            InputFormat::Jsonl => {
                Box::new(BufReader::new(self.reader).lines().filter_map(|line| match line {
                    Ok(line) if line.trim().is_empty() => None,
                    Ok(line) => Some(Ok(serde_json::from_str(&line).map_err(|error| error.to_string()))),
                    Err(error) => Some(Err(error.into())),
                }))
            }
        }
    }
}

fn csv_records(reader: Box<dyn Read + Send>) -> Box<dyn Iterator<Item = anyhow::Result<Record>> + Send> {
    let mut reader = csv::Reader::from_reader(reader);
    match reader.headers() {
        Ok(header) if header.iter().any(|name| name == "overview") => {}
        Ok(header) => {
            let found = header.iter().collect::<Vec<_>>().join(", ");
            let error = anyhow::anyhow!("expected a column named overview, found columns {found:?}");
            return Box::new(std::iter::once(Err(error)));
        }
        Err(error) => return Box::new(std::iter::once(Err(error.into()))),
    }
    Box::new(reader.into_deserialize().map(|record: csv::Result<Movie>| match record {
        Ok(movie) => Ok(Ok(movie)),
        Err(error) if error.is_io_error() => Err(error.into()),
        Err(error) => Ok(Err(error.to_string())),
    }))
}

/// A progress bar on standard error; hidden unless that is a terminal.
fn bar(length: Option<u64>) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match length {
        Some(length) => {
            (ProgressBar::new(length), "{bar:30} {percent:>3} %  {bytes}/{total_bytes}  ETA {eta}  {msg}")
        }
        None => (ProgressBar::new_spinner(), "{spinner} {bytes}  {elapsed}  {msg}"),
    };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.with_style(style)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(text: &'static str, format: InputFormat) -> Vec<anyhow::Result<Record>> {
        let input = MovieInput { reader: Box::new(text.as_bytes()), format, progress: ProgressBar::hidden() };
        input.records().collect()
    }

    #[test]
    fn both_formats_yield_the_same_movies() {
        let csv = records("title,year,overview,id\nReef,1999,\"Coral,\nand death.\",7\n", InputFormat::Csv);
        let line = r#"{"id": "7", "title": "Reef", "overview": "Coral,\nand death.", "year": 1999}"#;
        let jsonl = records(line, InputFormat::Jsonl);
        assert_eq!(csv[0].as_ref().unwrap(), jsonl[0].as_ref().unwrap());
        assert_eq!(csv[0].as_ref().unwrap().as_ref().unwrap().id.as_deref(), Some("7"));
    }

    #[test]
    fn an_invalid_record_does_not_stop_the_others() {
        let found = records("{\"overview\": \"a\"}\n{oops\n\n{\"overview\": \"b\"}", InputFormat::Jsonl);
        let good: Vec<_> = found.iter().map(|record| record.as_ref().unwrap().is_ok()).collect();
        assert_eq!(good, [true, false, true]);
        let found = records("title,overview\na,b\nc\nd,e\n", InputFormat::Csv);
        let good: Vec<_> = found.iter().map(|record| record.as_ref().unwrap().is_ok()).collect();
        assert_eq!(good, [true, false, true]);
    }

    #[test]
    fn rejects_a_file_without_overviews_and_names_its_columns() {
        let found = records("title,plot\na,b\n", InputFormat::Csv);
        assert!(found[0].as_ref().unwrap_err().to_string().contains("found columns \"title, plot\""));
    }
}
