//! Where the table of a job goes: a file, or an object that is uploaded once it is complete.

use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use crate::FileError;
use crate::classify::error::ClassifyError;
use crate::classify::results::ResultsReader;
use crate::data::table_file::TableError;
use crate::encode::shard::Shard;
use crate::store::{self, Place};

/// The table of one job.
pub(crate) struct Output {
    /// The file that is written.
    pub(crate) file: PathBuf,
    object: Option<Place>,
}

/// Returns the file that is written for `output`, a file, or with a shard a folder. For the URL of an
/// object store, it is a file in `work` that no other URL has.
#[must_use]
pub fn working_file(output: &Path, shard: Option<Shard>, work: &Path) -> PathBuf {
    let Some(local) = store::local(output) else {
        let url = output.to_string_lossy();
        let url = url.trim_end_matches('/');
        let folder = work.join(&hex::encode(Sha256::digest(url))[..16]);
        let name = url.rsplit('/').next().unwrap_or_default();
        return folder.join(shard.map_or_else(|| name.to_owned(), Shard::file_name));
    };
    shard.map_or_else(|| local.to_owned(), |shard| local.join(shard.file_name()))
}

impl Output {
    pub(crate) fn new(output: &Path, shard: Option<Shard>, work: &Path) -> Result<Self, ClassifyError> {
        let object = if store::local(output).is_some() {
            None
        } else {
            let place = Place::new(&output.to_string_lossy())?;
            Some(shard.map_or_else(|| place.clone(), |shard| place.join(&shard.file_name())))
        };
        Ok(Self { file: working_file(output, shard, work), object })
    }

    pub(crate) fn is_object(&self) -> bool {
        self.object.is_some()
    }

    /// The place that users know.
    pub(crate) fn location(&self) -> PathBuf {
        self.object.as_ref().map_or_else(|| self.file.clone(), |object| object.location().into())
    }

    /// Opens the table that the object holds, or says why that is none. The file that comes with it is
    /// removed when dropped.
    pub(crate) async fn published(
        &self,
        chunk: usize,
    ) -> Result<Option<(Result<ResultsReader, TableError>, NamedTempFile)>, ClassifyError> {
        let Some(object) = &self.object else { return Ok(None) };
        if object.find().await?.is_none() {
            return Ok(None);
        }
        let folder = self.file.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).map_err(FileError::at(folder))?;
        let mut file = NamedTempFile::new_in(folder).map_err(FileError::at(folder))?;
        object.download(None, file.as_file_mut()).await?;
        Ok(Some((ResultsReader::open(file.path(), chunk), file)))
    }

    /// Uploads the finished file, if it goes to an object store, and removes it.
    pub(crate) async fn publish(&self) -> Result<(), ClassifyError> {
        let Some(object) = &self.object else { return Ok(()) };
        object.upload(&self.file).await?;
        std::fs::remove_file(&self.file).map_err(FileError::at(&self.file))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_urls_never_share_a_working_file() {
        let work = Path::new("work");
        let of = |output: &str, shard| working_file(Path::new(output), shard, work);
        let shard = Some(Shard::parse("1/4").unwrap());
        assert_eq!(of("out", shard), Path::new("out/shard-00001-of-00004.parquet"));
        assert_eq!(of("file://out.parquet", None), Path::new("out.parquet"));
        let (one, other) = (of("s3://a/genres.parquet", None), of("s3://b/genres.parquet", None));
        assert!(one != other && one.starts_with(work) && one.ends_with("genres.parquet"));
        assert_eq!(of("s3://a/genres", shard), of("s3://a/genres/", shard));
    }
}
