//! Joins the tables of shards into the table that a single worker writes, byte for byte.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::FileError;
use crate::checkpoint::Checkpoint;
use crate::classify::error::ClassifyError;
use crate::classify::results::{ResultRow, ResultsHeader, ResultsReader, ResultsWriter};
use crate::classify::summary::Summary;
use crate::data::table_file::{self, folder_of};
use crate::encode::shard::Shard;
use crate::encode::shard_store::ShardError;
use crate::store::{self, Place};

/// Rows that are read at a time to find out the job of a shard.
const ONE: usize = 1;

/// Whether `folder`, a path or the URL of an object store, holds shards of results. Those of vectors
/// have manifests.
pub async fn has_results(folder: &Path) -> Result<bool, ShardError> {
    if store::local(folder).is_none() {
        let objects = Place::new(&folder.to_string_lossy())?.list(false).await?;
        let ends = |ending| objects.iter().any(|(object, _)| is_shard(object.name(), ending));
        return Ok(ends(".parquet") && !ends(".json"));
    }
    let of_results = |path: &Path| {
        table_file::format_of(path).is_some_and(|format| format == crate::classify::results::FORMAT)
    };
    Ok(shard_files(folder).is_ok_and(|files| files.first().is_some_and(|path| of_results(path))))
}

fn is_shard(name: &str, ending: &str) -> bool {
    name.starts_with("shard-") && name.ends_with(ending)
}

fn shard_files(folder: &Path) -> Result<Vec<PathBuf>, FileError> {
    let entries = std::fs::read_dir(folder).map_err(FileError::at(folder))?;
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(FileError::at(folder))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if is_shard(&name, ".parquet") {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

/// Joins all shards in `folder`, a path or the URL of an object store, into `output`, and counts. Shards
/// in a store are copied beside `output` meanwhile.
///
/// # Errors
/// Fails if a shard is missing or belongs to another job than the first.
pub async fn merge(folder: &Path, output: &Path) -> Result<Summary, ClassifyError> {
    let Some(local) = store::local(folder) else {
        let beside = folder_of(output);
        std::fs::create_dir_all(beside).map_err(FileError::at(beside))?;
        let copies = tempfile::tempdir_in(beside).map_err(FileError::at(beside))?;
        for (object, meta) in Place::new(&folder.to_string_lossy())?.list(false).await? {
            if is_shard(object.name(), ".parquet") {
                let path = copies.path().join(object.name());
                let mut file = File::create_new(&path).map_err(FileError::at(&path))?;
                object.download(meta.e_tag.as_deref(), &mut file).await?;
            }
        }
        return merge_files(copies.path(), folder, output);
    };
    merge_files(local, local, output)
}

/// As [`merge`], of files in a local folder, which messages call `name`.
fn merge_files(folder: &Path, name: &Path, output: &Path) -> Result<Summary, ClassifyError> {
    let wrong = |reason: String| ClassifyError::Shards { path: name.to_owned(), reason };
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
    let mut writer = ResultsWriter::create_in(folder_of(output), output, whole.clone())?;
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
