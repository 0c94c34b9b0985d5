//! Objects in stores such as S3, named by URLs.
//!
//! Requests, retries and credentials are those of `object_store`.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use object_store::buffered::BufWriter;
use object_store::local::LocalFileSystem;
use object_store::path::Path as StorePath;
use object_store::{GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt as _};
use tokio::io::AsyncWriteExt as _;
use url::Url;

use crate::FileError;

/// Bytes that are read from a file at a time.
const READ: usize = 1 << 20;
/// Parts of an upload that are sent at a time, of 10 MiB each.
const PARTS_IN_FLIGHT: usize = 2;

/// Why objects cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The URL has an unknown form.
    #[error("{location}: expected a URL of file, s3, gs or az: {reason}")]
    Location {
        /// The URL.
        location: String,
        /// The cause.
        reason: String,
    },
    /// The store failed.
    #[error("{location}: {source}")]
    Store {
        /// The URL.
        location: String,
        /// The cause.
        source: object_store::Error,
    },
    /// A local file cannot be read or written.
    #[error(transparent)]
    Io(#[from] FileError),
}

/// Returns the local path of a location, or `None` for the URL of an object store.
#[must_use]
pub fn local(location: &Path) -> Option<&Path> {
    match location.to_str().and_then(|text| text.split_once("://")) {
        Some(("file", path)) => Some(Path::new(path)),
        Some(_) => None,
        None => Some(location),
    }
}

/// An object, or a folder of objects.
#[derive(Debug, Clone)]
pub struct Place {
    /// The URL, for messages.
    location: String,
    store: Arc<dyn ObjectStore>,
    path: StorePath,
}

impl Place {
    /// The object or folder at a URL such as `s3://bucket/movies`. Stores read their settings from
    /// the variables `AWS_…`, `GOOGLE_…` and `AZURE_…`. Nothing is requested yet.
    pub fn new(location: &str) -> Result<Self, StoreError> {
        let invalid = |reason: String| StoreError::Location { location: location.to_owned(), reason };
        // The HTTP client has no default cryptography. Installing it twice is harmless.
        let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
        let url = Url::parse(location).map_err(|error| invalid(error.to_string()))?;
        let settings = std::env::vars()
            .map(|(name, value)| (name.to_lowercase(), value))
            .filter(|(name, _)| ["aws_", "google_", "azure_"].iter().any(|prefix| name.starts_with(prefix)));
        let (store, path) =
            object_store::parse_url_opts(&url, settings).map_err(|error| invalid(error.to_string()))?;
        let location = location.trim_end_matches('/').to_owned();
        Ok(Self { location, store: store.into(), path })
    }

    /// A local folder.
    pub(crate) fn folder(folder: &Path) -> Result<Self, StoreError> {
        let location = folder.display().to_string();
        let store = LocalFileSystem::new_with_prefix(folder).map_err(|error| StoreError::Location {
            location: location.clone(),
            reason: error.to_string(),
        })?;
        Ok(Self { location, store: Arc::new(store), path: StorePath::default() })
    }

    /// The last part of the URL.
    pub(crate) fn name(&self) -> &str {
        self.location.rsplit('/').next().unwrap_or_default()
    }

    /// The URL.
    #[must_use]
    pub fn location(&self) -> &str {
        &self.location
    }

    /// The object `name` in this folder. A name may contain slashes.
    #[must_use]
    pub fn join(&self, name: &str) -> Self {
        let path = name.split('/').fold(self.path.clone(), StorePath::join);
        Self { location: format!("{}/{name}", self.location), store: self.store.clone(), path }
    }

    fn error(&self, source: object_store::Error) -> StoreError {
        StoreError::Store { location: self.location.clone(), source }
    }

    /// Returns the size and tag of this object, or `None` if there is none.
    pub(crate) async fn find(&self) -> Result<Option<ObjectMeta>, StoreError> {
        // The root of a bucket is no object.
        if self.path.is_root() {
            return Ok(None);
        }
        match self.store.head(&self.path).await {
            Ok(meta) => Ok(Some(meta)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.error(error)),
        }
    }

    /// Lists the objects directly in this folder; with `is_deep`, also those in its folders. Returns
    /// each with its name in the folder, in the order of the names.
    pub(crate) async fn list(&self, is_deep: bool) -> Result<Vec<(Self, ObjectMeta)>, StoreError> {
        let objects: Vec<ObjectMeta> = if is_deep {
            self.store.list(Some(&self.path)).try_collect().await.map_err(|error| self.error(error))?
        } else {
            let listed = self.store.list_with_delimiter(Some(&self.path)).await;
            listed.map_err(|error| self.error(error))?.objects
        };
        let mut places: Vec<(Self, ObjectMeta)> = objects
            .into_iter()
            .filter_map(|meta| {
                let parts: Vec<_> = meta.location.prefix_match(&self.path)?.collect();
                let name = parts.iter().map(AsRef::as_ref).collect::<Vec<&str>>().join("/");
                let location = format!("{}/{name}", self.location);
                Some((Self { location, store: self.store.clone(), path: meta.location.clone() }, meta))
            })
            .collect();
        places.sort_by(|(a, _), (b, _)| a.path.cmp(&b.path));
        Ok(places)
    }

    /// Returns the first `bytes` bytes of this object of `size` bytes, or all of them.
    pub(crate) async fn start(&self, size: u64, bytes: u64) -> Result<Bytes, StoreError> {
        if size == 0 {
            return Ok(Bytes::new());
        }
        self.store.get_range(&self.path, 0..size.min(bytes)).await.map_err(|error| self.error(error))
    }

    /// Returns the last `bytes` bytes of this object of `size` bytes, or all of them.
    pub(crate) async fn tail(&self, size: u64, bytes: u64) -> Result<Bytes, StoreError> {
        let range = size.saturating_sub(bytes)..size;
        self.store.get_range(&self.path, range).await.map_err(|error| self.error(error))
    }

    /// Copies this object into `file`, which is at its end. Fails if its tag is no longer `tag`.
    pub(crate) async fn download(&self, tag: Option<&str>, file: &mut File) -> Result<(), StoreError> {
        let options = GetOptions { if_match: tag.map(str::to_owned), ..GetOptions::default() };
        let found = self.store.get_opts(&self.path, options).await.map_err(|error| self.error(error))?;
        let mut stream = found.into_stream();
        while let Some(bytes) = stream.try_next().await.map_err(|error| self.error(error))? {
            file.write_all(&bytes).map_err(FileError::at(&std::env::temp_dir()))?;
        }
        Ok(())
    }

    /// Uploads `file` as this object, which appears complete or not at all. Memory does not grow with
    /// the file.
    pub(crate) async fn upload(&self, file: &Path) -> Result<(), StoreError> {
        let io = FileError::at(file);
        let mut from = File::open(file).map_err(&io)?;
        let mut to =
            BufWriter::new(self.store.clone(), self.path.clone()).with_max_concurrency(PARTS_IN_FLIGHT);
        let copy = async {
            loop {
                let mut bytes = Vec::with_capacity(READ);
                (&mut from).take(READ as u64).read_to_end(&mut bytes).map_err(&io)?;
                if bytes.is_empty() {
                    break;
                }
                to.put(bytes.into()).await.map_err(|error| self.error(error))?;
            }
            Ok::<_, StoreError>(())
        };
        if let Err(error) = copy.await {
            // The store would keep the parts that it has.
            let _ = to.abort().await;
            return Err(error);
        }
        // Aborts by itself if it fails.
        let unfinished = |source| FileError { path: self.location.clone().into(), source };
        Ok(to.shutdown().await.map_err(unfinished)?)
    }

    /// Writes `bytes` as this object.
    pub(crate) async fn put(&self, bytes: Vec<u8>) -> Result<(), StoreError> {
        self.store.put(&self.path, bytes.into()).await.map_err(|error| self.error(error))?;
        Ok(())
    }

    /// Returns the bytes of this object, or `None` if there is none.
    pub(crate) async fn get(&self) -> Result<Option<Bytes>, StoreError> {
        match self.store.get(&self.path).await {
            Ok(found) => Ok(Some(found.bytes().await.map_err(|error| self.error(error))?)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.error(error)),
        }
    }
}
