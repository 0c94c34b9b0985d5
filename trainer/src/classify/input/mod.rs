//! The rows to classify, from tables on disk and in object stores.
//!
//! An object is copied to an unnamed temporary file while it is read, so that every form of table can
//! be read and a broken connection cannot damage a row. One object is on disk at a time.

mod find;
mod parquet_rows;
mod row;
mod rows;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::stream::{self, LocalBoxStream, StreamExt as _, TryStreamExt as _};
use movie_table::{Source, TableOptions};
use object_store::ObjectMeta;
use sha2::{Digest as _, Sha256};

pub use self::row::{InputRow, MovieText};
use crate::FileError;
use crate::data::table_file::folder_of;
use crate::store::{self, Place, StoreError};

/// Why rows cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// A table of text.
    #[error(transparent)]
    Table(#[from] movie_table::TableError),
    /// An object.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A Parquet file, or a folder.
    #[error("{path}: {reason}")]
    Invalid {
        /// The file or folder.
        path: PathBuf,
        /// The expectation, and the value found.
        reason: String,
    },
    /// A table has other rows than when they were counted.
    #[error("{path}: expected the {rows} rows that were counted, found {found}: the table changed")]
    Changed {
        /// The table.
        path: PathBuf,
        /// Rows that were counted.
        rows: usize,
        /// `more` or `fewer`.
        found: &'static str,
    },
}

/// Tables that are read in order, more than once.
#[derive(Debug, Clone)]
pub struct Input {
    tables: Vec<Table>,
    /// The folders of which all tables are read.
    folders: Vec<PathBuf>,
    options: TableOptions,
}

/// One table.
#[derive(Debug, Clone)]
enum Table {
    Local(Source),
    Object { place: Place, size: u64, tag: Option<String>, version: String },
}

/// How many rows an input has, and the digest that identifies them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inventory {
    /// Rows, also those that are no movies.
    pub rows: usize,
    /// SHA-256 over the ids and texts of all rows. Of Parquet files in an object store, which are not
    /// read for it, the size and tag of the object and the options of reading count instead.
    pub digest: String,
    /// Rows of each table.
    tables: Vec<usize>,
}

impl Input {
    /// The tables at `paths`: files, folders of which all tables are read in the order of their
    /// names, patterns such as `in/*.parquet`, URLs of these in object stores, or `-` for standard
    /// input.
    pub async fn new(paths: &[PathBuf], options: TableOptions) -> Result<Self, InputError> {
        let (mut tables, mut folders) = (Vec::new(), Vec::new());
        for path in paths {
            let found = find::tables(path, options.max_bytes).await?;
            folders.extend(find::folder(path, &found));
            tables.extend(found);
        }
        Ok(Self { tables, folders, options })
    }

    /// Counts the rows and computes their digest. Reads all tables once, except Parquet files in an
    /// object store, of which the footer is enough.
    pub async fn inventory(&self) -> Result<Inventory, InputError> {
        let (mut tables, mut digest) = (Vec::new(), Sha256::new());
        for table in &self.tables {
            if let Table::Object { place, size, version, .. } = table
                && let Some(rows) = parquet_rows::rows_of_object(place, *size).await?
            {
                let TableOptions { columns, .. } = &self.options;
                let identity = format!("{size} {version:?} {rows} {columns:?}");
                digest.update([b'o']);
                digest.update((identity.len() as u64).to_le_bytes());
                digest.update(identity);
                tables.push(rows);
                continue;
            }
            let mut rows = 0;
            for row in rows::open(&table.fetched(&self.options).await?, &self.options)? {
                add(&mut digest, &row?);
                rows += 1;
            }
            tables.push(rows);
        }
        Ok(Inventory { rows: tables.iter().sum(), digest: hex::encode(digest.finalize()), tables })
    }

    /// Returns the rows from row `start` on. Tables before it are not opened.
    ///
    /// # Errors
    /// The stream fails if a table does not have the rows that `inventory` counted.
    #[must_use]
    pub fn rows(
        &self,
        inventory: &Inventory,
        start: usize,
    ) -> LocalBoxStream<'static, Result<InputRow, InputError>> {
        let mut skipped = start;
        let mut tables = Vec::new();
        for (table, rows) in self.tables.iter().zip(&inventory.tables) {
            if skipped >= *rows {
                skipped -= rows;
            } else {
                tables.push((table.clone(), *rows, std::mem::take(&mut skipped)));
            }
        }
        let options = self.options.clone();
        let rows_of = move |(table, rows, skipped): (Table, usize, usize)| {
            let options = options.clone();
            async move {
                let source = table.fetched(&options).await?;
                let counted =
                    Counted { rows: rows::open(&source, &options)?, name: source.name(), count: rows, at: 0 };
                Ok::<_, InputError>(stream::iter(counted.skip(skipped)))
            }
        };
        stream::iter(tables).then(rows_of).try_flatten().boxed_local()
    }

    /// Whether one of the tables is `output`, or is in it if it is a folder; also if only the next run
    /// would read `output`, as a table of a folder.
    #[must_use]
    pub fn reads_from(&self, output: &Path, is_folder: bool) -> bool {
        if !is_folder && self.would_read(output) {
            return true;
        }
        let is_it = |table: &Path, output: &Path| {
            if is_folder { table.parent() == Some(output) } else { table == output }
        };
        self.tables.iter().any(|table| match (table, store::local(output)) {
            (Table::Local(Source::Path(table)), Some(output)) => {
                let (table, output) = (table.canonicalize(), output.canonicalize());
                table.ok().zip(output.ok()).is_some_and(|(table, output)| is_it(&table, &output))
            }
            (Table::Object { place, .. }, None) => {
                let output = output.to_string_lossy();
                is_it(Path::new(place.location()), Path::new(output.trim_end_matches('/')))
            }
            _ => false,
        })
    }

    fn would_read(&self, output: &Path) -> bool {
        let folder = match store::local(output) {
            Some(local) => folder_of(local).canonicalize().ok(),
            None => output.parent().map(Path::to_owned),
        };
        output.file_name().is_some_and(|name| find::is_read(&name.to_string_lossy()))
            && folder.is_some_and(|folder| self.folders.contains(&folder))
    }
}

impl Table {
    fn object(place: Place, meta: ObjectMeta) -> Self {
        let version = meta.e_tag.clone().unwrap_or_else(|| meta.last_modified.to_rfc3339());
        Self::Object { place, size: meta.size, tag: meta.e_tag, version }
    }

    /// Returns the table on a local disk. An object is copied.
    async fn fetched(&self, options: &TableOptions) -> Result<Source, InputError> {
        let (place, size, tag) = match self {
            Self::Local(source) => return Ok(source.clone()),
            Self::Object { place, size, tag, .. } => (place, *size, tag.as_deref()),
        };
        if size > options.max_bytes {
            let limit = options.max_bytes;
            let reason =
                format!("expected at most {limit} bytes, found {size}; --max-input-bytes raises the limit");
            return Err(InputError::Invalid { path: place.location().into(), reason });
        }
        let folder = std::env::temp_dir();
        let mut file: File =
            tempfile::tempfile().map_err(|error| StoreError::from(FileError::at(&folder)(error)))?;
        place.download(tag, &mut file).await?;
        Ok(Source::Spooled { file: Arc::new(file), name: place.location().to_owned() })
    }
}

fn add(digest: &mut Sha256, row: &InputRow) {
    let (kind, texts) = match &row.movie {
        Ok(MovieText { title, overview }) => (b'm', [title, overview]),
        Err(reason) => (b'e', [reason, reason]),
    };
    digest.update([kind, u8::from(row.id.is_some())]);
    for text in [row.id.as_ref().unwrap_or(&String::new()), texts[0], texts[1]] {
        digest.update((text.len() as u64).to_le_bytes());
        digest.update(text);
    }
}

/// The rows of a table, which must be as many as were counted.
struct Counted {
    rows: rows::Rows,
    name: String,
    count: usize,
    at: usize,
}

impl Iterator for Counted {
    type Item = Result<InputRow, InputError>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = self.rows.next();
        let found = match &row {
            Some(Ok(_)) if self.at == self.count => "more",
            None if self.at < self.count => "fewer",
            _ => {
                self.at += 1;
                return row;
            }
        };
        Some(Err(InputError::Changed { path: self.name.clone().into(), rows: self.count, found }))
    }
}

#[cfg(test)]
mod tests;
