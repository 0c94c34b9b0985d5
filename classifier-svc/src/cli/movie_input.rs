//! Movies out of a file: CSV with a header, or a JSON object a line.

use std::fs::File;
use std::io::{BufRead as _, BufReader, IsTerminal as _, Read};
use std::path::Path;

use anyhow::Context as _;
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum InputFormat {
    /// Comma-separated values with a header.
    Csv,
    /// One JSON object a line.
    Jsonl,
}

/// One movie of the file. Other columns or keys are left alone.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Movie {
    #[serde(default)]
    pub(super) id: Option<String>,
    #[serde(default)]
    pub(super) title: String,
    pub(super) overview: String,
}

/// A movie, or why a record is none.
pub(super) type Record = Result<Movie, String>;

/// The file and the bar that shows how far it has been read.
pub(super) struct MovieInput {
    reader: Box<dyn Read + Send>,
    format: InputFormat,
    pub(super) progress: ProgressBar,
}

impl MovieInput {
    /// `-` is standard input, whose format must be said.
    pub(super) fn open(path: &Path, format: Option<InputFormat>) -> anyhow::Result<Self> {
        let by_name = || match path.extension().and_then(|extension| extension.to_str()) {
            Some("csv") => Some(InputFormat::Csv),
            Some("jsonl" | "ndjson") => Some(InputFormat::Jsonl),
            _ => None,
        };
        let format = format.or_else(by_name).with_context(|| {
            format!("--input {}: expected a name in .csv or .jsonl, or --input-format", path.display())
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

    /// All records in order; an error ends them, since what follows cannot be told.
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
            let error = anyhow::anyhow!("expected a column named overview, found {found:?}");
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

/// On standard error, and only where a person looks at it.
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
    fn both_formats_give_the_same_movies() {
        let csv = records("title,year,overview,id\nReef,1999,\"Coral,\nand death.\",7\n", InputFormat::Csv);
        let line = r#"{"id": "7", "title": "Reef", "overview": "Coral,\nand death.", "year": 1999}"#;
        let jsonl = records(line, InputFormat::Jsonl);
        assert_eq!(csv[0].as_ref().unwrap(), jsonl[0].as_ref().unwrap());
        assert_eq!(csv[0].as_ref().unwrap().as_ref().unwrap().id.as_deref(), Some("7"));
    }

    #[test]
    fn a_bad_record_does_not_end_the_rest() {
        let found = records("{\"overview\": \"a\"}\n{oops\n\n{\"overview\": \"b\"}", InputFormat::Jsonl);
        let good: Vec<_> = found.iter().map(|record| record.as_ref().unwrap().is_ok()).collect();
        assert_eq!(good, [true, false, true]);
        let found = records("title,overview\na,b\nc\nd,e\n", InputFormat::Csv);
        let good: Vec<_> = found.iter().map(|record| record.as_ref().unwrap().is_ok()).collect();
        assert_eq!(good, [true, false, true]);
    }

    #[test]
    fn a_file_without_overviews_is_refused_with_its_columns() {
        let found = records("title,plot\na,b\n", InputFormat::Csv);
        assert!(found[0].as_ref().unwrap_err().to_string().contains("found \"title, plot\""));
    }
}
