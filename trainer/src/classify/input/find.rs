//! Finds the tables that paths, patterns and URLs name.

use std::path::{Path, PathBuf};

use glob::{MatchOptions, Pattern};
use movie_table::{Source, is_table_name};

use crate::classify::input::{InputError, Table};
use crate::store::{self, Place};

/// As a shell matches: `*` and `?` match neither a slash nor a leading dot.
const MATCHING: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };

/// Returns the tables at `path`: a file, a folder of which all tables are read, a pattern, `-` for
/// standard input, or the URL of any of the first three in an object store.
pub(super) async fn tables(path: &Path, max_bytes: u64) -> Result<Vec<Table>, InputError> {
    let Some(local) = store::local(path) else { return objects(&path.to_string_lossy()).await };
    let paths = if local.is_dir() {
        files_in(local)?
    } else if !local.exists() && is_pattern(&local.to_string_lossy()) {
        matches(local)?
    } else {
        return Ok(vec![Table::Local(Source::new(local).spooled(max_bytes)?)]);
    };
    Ok(paths.into_iter().map(|path| Table::Local(Source::Path(path))).collect())
}

/// Whether a file in a folder is read. Hidden files and marks such as `_SUCCESS` are not.
pub(super) fn is_read(name: &str) -> bool {
    is_shown(name) && (is_table_name(name) || name.to_lowercase().ends_with(".parquet"))
}

/// Returns the folder that `path` names, of which `tables` were found.
pub(super) fn folder(path: &Path, tables: &[Table]) -> Option<PathBuf> {
    if let Some(local) = store::local(path) {
        return local.canonicalize().ok().filter(|local| local.is_dir());
    }
    let url = path.to_string_lossy();
    let is_table = |table: &Table| matches!(table, Table::Object { place, .. } if place.location() == url);
    let is_folder = !is_pattern(&url) && !tables.iter().any(is_table);
    is_folder.then(|| PathBuf::from(url.trim_end_matches('/')))
}

fn is_shown(name: &str) -> bool {
    !name.starts_with(['.', '_'])
}

fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

fn none_found(path: impl Into<PathBuf>) -> InputError {
    let reason = "expected tables such as *.parquet or *.csv, found none".to_owned();
    InputError::Invalid { path: path.into(), reason }
}

/// Returns the tables in a folder, by name.
fn files_in(folder: &Path) -> Result<Vec<PathBuf>, InputError> {
    let invalid =
        |error: std::io::Error| InputError::Invalid { path: folder.into(), reason: error.to_string() };
    let mut tables = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(invalid)? {
        let entry = entry.map_err(invalid)?;
        if is_read(&entry.file_name().to_string_lossy()) {
            tables.push(entry.path());
        }
    }
    if tables.is_empty() {
        return Err(none_found(folder));
    }
    tables.sort();
    Ok(tables)
}

/// Returns the files that a pattern matches, by name.
fn matches(pattern: &Path) -> Result<Vec<PathBuf>, InputError> {
    let invalid = |reason: String| InputError::Invalid { path: pattern.into(), reason };
    let text = pattern.to_str().ok_or_else(|| invalid("expected a pattern in UTF-8".to_owned()))?;
    let found = glob::glob_with(text, MATCHING).map_err(|error| invalid(error.to_string()))?;
    let mut tables = Vec::new();
    for path in found {
        let path = path.map_err(|error| invalid(error.to_string()))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_file() && is_shown(&name) {
            tables.push(path);
        }
    }
    if tables.is_empty() {
        return Err(none_found(pattern));
    }
    tables.sort();
    Ok(tables)
}

/// Returns the objects at a URL.
async fn objects(url: &str) -> Result<Vec<Table>, InputError> {
    let (folder, pattern) = match url.find(['*', '?', '[']) {
        None => (url, None),
        Some(place) => {
            let (folder, pattern) = url.split_at(url[..place].rfind('/').map_or(0, |slash| slash + 1));
            let invalid = |error: glob::PatternError| InputError::Invalid {
                path: url.into(),
                reason: error.to_string(),
            };
            (folder, Some(Pattern::new(pattern).map_err(invalid)?))
        }
    };
    let place = Place::new(folder)?;
    if pattern.is_none()
        && !url.ends_with('/')
        && let Some(meta) = place.find().await?
    {
        return Ok(vec![Table::object(place, meta)]);
    }
    let is_deep = pattern
        .as_ref()
        .is_some_and(|pattern| pattern.as_str().contains(['/']) || pattern.as_str().contains("**"));
    let listed = place.list(is_deep).await?;
    let is_wanted = |found: &Place| match &pattern {
        None => is_read(found.name()),
        Some(pattern) => {
            let name = &found.location()[place.location().len() + 1..];
            is_shown(found.name()) && pattern.matches_with(name, MATCHING)
        }
    };
    let tables: Vec<Table> = listed
        .into_iter()
        .filter(|(found, _)| is_wanted(found))
        .map(|(found, meta)| Table::object(found, meta))
        .collect();
    if tables.is_empty() { Err(none_found(url)) } else { Ok(tables) }
}
