//! Joins the tables of shards into the table that a single worker writes, byte for byte.

use std::path::{Path, PathBuf};

use crate::FileError;
use crate::checkpoint::Checkpoint;
use crate::classify::error::ClassifyError;
use crate::classify::results::{ResultRow, ResultsHeader, ResultsReader, ResultsWriter};
use crate::classify::summary::Summary;
use crate::data::table_file;
use crate::encode::shard::Shard;

/// Rows that are read at a time to find out the job of a shard.
const ONE: usize = 1;

/// Whether `folder` holds shards of results.
#[must_use]
pub fn has_results(folder: &Path) -> bool {
    let of_results = |path: &Path| {
        table_file::format_of(path).is_some_and(|format| format == crate::classify::results::FORMAT)
    };
    shard_files(folder).is_ok_and(|files| files.first().is_some_and(|path| of_results(path)))
}

fn shard_files(folder: &Path) -> Result<Vec<PathBuf>, FileError> {
    let entries = std::fs::read_dir(folder).map_err(FileError::at(folder))?;
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(FileError::at(folder))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("shard-") && name.ends_with(".parquet") {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

/// Joins all shards in `folder` into `output`, and counts.
///
/// # Errors
/// Fails if a shard is missing or belongs to another job than the first.
pub fn merge(folder: &Path, output: &Path) -> Result<Summary, ClassifyError> {
    let wrong = |reason: String| ClassifyError::Shards { path: folder.to_owned(), reason };
    let files = shard_files(folder)?;
    let headers: Vec<ResultsHeader> = files
        .iter()
        .map(|path| Ok(ResultsReader::open(path, ONE)?.header().clone()))
        .collect::<Result<_, ClassifyError>>()?;
    let Some(first) = headers.first() else { return Err(wrong("expected shards, found none".to_owned())) };
    let count = Shard::parse(&first.shard).map_err(|error| wrong(error.to_string()))?.count();
    for (index, (path, header)) in files.iter().zip(&headers).enumerate() {
        let expected = ResultsHeader { shard: format!("{index}/{count}"), ..first.clone() };
        if let Checkpoint::OtherJob(differences) = Checkpoint::compare(&expected, header) {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            return Err(wrong(format!("{name}: {differences}")));
        }
    }
    if headers.len() != count {
        return Err(wrong(format!("expected {count} shards, found {}", headers.len())));
    }
    let whole = ResultsHeader { shard: "0/1".to_owned(), ..first.clone() };
    let chunk = whole.chunk.max(1);
    let beside = output.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut writer = ResultsWriter::create_in(beside, output, whole.clone())?;
    let (mut summary, mut waiting) = (Summary::default(), Vec::<ResultRow>::new());
    for path in &files {
        let mut reader = ResultsReader::open(path, chunk)?;
        while let Some(rows) = reader.next_rows()? {
            summary.add(&rows);
            waiting.extend(rows);
            while waiting.len() >= chunk {
                let rest = waiting.split_off(chunk);
                writer.write(&waiting)?;
                waiting = rest;
            }
        }
    }
    if !waiting.is_empty() {
        writer.write(&waiting)?;
    }
    if summary.rows != whole.rows {
        return Err(wrong(format!("expected {} rows, found {}", whole.rows, summary.rows)));
    }
    writer.finish()?;
    Ok(summary)
}
