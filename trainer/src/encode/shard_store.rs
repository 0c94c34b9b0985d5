//! A folder of shards, on a local disk or in an object store.
//!
//! A shard is a vectors file and a manifest. The manifest is written last, so a shard without one
//! does not exist yet.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};

use genre_model::write_atomically;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::checkpoint::Checkpoint;
use crate::data::table_file::{TableError, folder_of};
use crate::data::vectors_file::{VectorRows, VectorsHeader, VectorsReader, VectorsWriter};
use crate::encode::shard::Shard;
use crate::encode::vectors_job::VectorsJob;
use crate::store::{self, Place, StoreError};
use crate::{FileError, Vectors};

const FORMAT: &str = "movieclassifier.shard/1";

/// The content of a shard's file, and the job that it belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardManifest {
    format: String,
    file: String,
    shard: usize,
    shards: usize,
    /// Movies in the shard.
    #[serde(alias = "films")]
    movies: usize,
    #[serde(alias = "films_in_all")]
    movies_in_all: usize,
    #[serde(alias = "first_film")]
    first_movie: usize,
    #[serde(flatten)]
    vectors: VectorsJob,
    /// SHA-256 of the file.
    sha256: String,
}

/// The identity that all shards of a job share.
#[derive(Serialize)]
struct ShardJob<'a> {
    format: &'a str,
    shards: usize,
    movies_in_all: usize,
    #[serde(flatten)]
    vectors: &'a VectorsJob,
}

/// Why shards cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ShardError {
    /// The location has an unknown form, or the object store failed.
    #[error("shards {0}")]
    Store(#[from] StoreError),
    /// A local file cannot be read or written.
    #[error(transparent)]
    Io(#[from] FileError),
    /// A vectors file is damaged.
    #[error("vectors file {0}")]
    Table(#[from] TableError),
    /// The shards are not the complete set of one job.
    #[error("shards {location}: {reason}")]
    Set {
        /// The folder.
        location: String,
        /// The expectation, and the value found.
        reason: String,
    },
}

/// A folder of shards.
#[derive(Debug)]
pub struct ShardFolder {
    place: Place,
    local: Option<PathBuf>,
}

impl ShardFolder {
    /// Whether `location` is a folder of shards and not a file: a URL, or a local folder that
    /// exists.
    #[must_use]
    pub fn is_one(location: &Path) -> bool {
        location.to_string_lossy().contains("://") || location.is_dir()
    }

    /// Opens a local folder, created if missing, or a URL such as `s3://bucket/vectors`. Stores
    /// read their settings from the variables `AWS_…`, `GOOGLE_…` and `AZURE_…`.
    pub fn open(location: &Path) -> Result<Self, ShardError> {
        let text = location.to_string_lossy();
        let Some(folder) = store::local(location) else {
            return Ok(Self { place: Place::new(&text)?, local: None });
        };
        std::fs::create_dir_all(folder).map_err(FileError::at(folder))?;
        Ok(Self { place: Place::folder(folder)?, local: Some(folder.to_owned()) })
    }

    /// The file in which a shard is encoded: in a local folder in place, otherwise in `work`.
    #[must_use]
    pub fn working_file(&self, shard: Shard, work: &Path) -> PathBuf {
        self.local.as_deref().unwrap_or(work).join(shard.file_name())
    }

    fn set_error(&self, reason: impl Into<String>) -> ShardError {
        ShardError::Set { location: self.place.location().to_owned(), reason: reason.into() }
    }

    /// Returns whether the folder holds this shard, and whether it belongs to this job.
    pub(crate) async fn checkpoint(
        &self,
        shard: Shard,
        header: &VectorsHeader,
        movies_in_all: usize,
    ) -> Result<Checkpoint, ShardError> {
        let name = manifest_name(&shard.file_name());
        let Some(bytes) = self.place.join(&name).get().await? else { return Ok(Checkpoint::Absent) };
        let found = self.parse(&name, &bytes)?;
        let expected = ShardManifest::new(shard, header, movies_in_all, String::new());
        let checkpoint = Checkpoint::compare(&expected.job(), &found.job());
        // A manifest whose file is lost is no shard.
        if checkpoint == Checkpoint::SameJob && self.place.join(&found.file).find().await?.is_none() {
            return Ok(Checkpoint::Absent);
        }
        Ok(checkpoint)
    }

    /// Parses the manifest called `name`. Its shard must have the name, file and movies that the
    /// job gives it, so a manifest cannot name a file outside the folder.
    fn parse(&self, name: &str, bytes: &[u8]) -> Result<ShardManifest, ShardError> {
        let manifest: ShardManifest = serde_json::from_slice(bytes)
            .map_err(|error| self.set_error(format!("{name}: expected the manifest of a shard: {error}")))?;
        manifest.check(name).map_err(|reason| self.set_error(format!("{name}: {reason}")))?;
        Ok(manifest)
    }

    /// Publishes a finished shard and then its manifest. Each appears complete or not at all.
    pub async fn publish(
        &self,
        file: &Path,
        shard: Shard,
        header: &VectorsHeader,
        movies_in_all: usize,
    ) -> Result<(), ShardError> {
        let sha256 = sha256_of(file).map_err(FileError::at(file))?;
        let manifest = ShardManifest::new(shard, header, movies_in_all, sha256);
        let json = serde_json::to_vec_pretty(&manifest).expect("texts and numbers are JSON");
        let name = manifest_name(&manifest.file);
        if let Some(folder) = &self.local {
            let path = folder.join(name);
            return Ok(write_atomically(&path, &json).map_err(FileError::at(&path))?);
        }
        self.place.join(&manifest.file).upload(file).await?;
        Ok(self.place.join(&name).put(json).await?)
    }

    /// Returns the manifests of a complete job, in order. A shard that is missing, duplicate or of
    /// another job is an error.
    pub async fn whole_set(&self) -> Result<Vec<ShardManifest>, ShardError> {
        let mut manifests = Vec::new();
        for (object, _) in self.place.list(false).await? {
            let name = object.name().to_owned();
            if name.strip_suffix(".json").is_some_and(|name| name.starts_with("shard-")) {
                let Some(bytes) = object.get().await? else { continue };
                manifests.push(self.parse(&name, &bytes)?);
            }
        }
        manifests.sort_by_key(|manifest| manifest.shard);
        let Some(first) = manifests.first() else {
            return Err(self.set_error("expected shards, found none"));
        };
        for (place, manifest) in manifests.iter().enumerate() {
            if let Checkpoint::OtherJob(differences) = Checkpoint::compare(&first.job(), &manifest.job()) {
                return Err(self.set_error(format!("{}: {differences}", manifest.file)));
            }
            if manifest.shard != place {
                return Err(self.set_error(format!("expected shard {place} of {}, found none", first.shards)));
            }
        }
        if manifests.len() != first.shards {
            let (place, shards) = (manifests.len(), first.shards);
            return Err(self.set_error(format!("expected shard {place} of {shards}, found none")));
        }
        Ok(manifests)
    }

    /// Passes the rows of all shards, in order, to `take`, each with the header of its shard.
    pub async fn read(
        &self,
        mut take: impl FnMut(&VectorsHeader, VectorRows) -> Result<(), TableError>,
    ) -> Result<(), ShardError> {
        for manifest in self.whole_set().await? {
            let missing = || self.set_error(format!("{}: expected a file, found none", manifest.file));
            let bytes = self.place.join(&manifest.file).get().await?.ok_or_else(missing)?;
            let found = hex::encode(Sha256::digest(&bytes));
            if found != manifest.sha256 {
                let (name, expected) = (&manifest.file, &manifest.sha256);
                return Err(self.set_error(format!("{name}: expected SHA-256 {expected}, found {found}")));
            }
            let folder = tempfile::tempdir().map_err(FileError::at(&std::env::temp_dir()))?;
            let path = folder.path().join(&manifest.file);
            std::fs::write(&path, bytes).map_err(FileError::at(&path))?;
            let mut reader = VectorsReader::open(&path)?;
            while let Some(rows) = reader.next_rows()? {
                take(reader.header(), rows)?;
            }
        }
        Ok(())
    }

    /// Reads and verifies all shards into memory.
    pub async fn vectors(&self) -> Result<Vectors, ShardError> {
        let (mut all, mut header) = (VectorRows::default(), None);
        self.read(|found, mut rows| {
            header.get_or_insert_with(|| found.clone());
            all.append(&mut rows);
            Ok(())
        })
        .await?;
        let header = header.ok_or_else(|| self.set_error("expected movies, found none"))?;
        Ok(Vectors::checked(all, header, Path::new("shards"))?)
    }

    /// Merges all shards into one vectors file, byte for byte the file that a single worker writes.
    /// Returns the number of movies.
    pub async fn merge(&self, output: &Path) -> Result<usize, ShardError> {
        let (mut writer, mut movies) = (None, 0);
        self.read(|header, rows| {
            movies += rows.ids.len();
            let writer = match &mut writer {
                Some(writer) => writer,
                None => writer.insert(VectorsWriter::create_in(folder_of(output), output, header.clone())?),
            };
            writer.write(rows)
        })
        .await?;
        match writer {
            Some(writer) => writer.finish()?,
            None => return Err(self.set_error("expected movies, found none")),
        }
        Ok(movies)
    }
}

impl ShardManifest {
    fn new(shard: Shard, header: &VectorsHeader, movies_in_all: usize, sha256: String) -> Self {
        let movies = shard.movies(movies_in_all);
        Self {
            format: FORMAT.to_owned(),
            file: shard.file_name(),
            shard: shard.index(),
            shards: shard.count(),
            movies: movies.len(),
            movies_in_all,
            first_movie: movies.start,
            vectors: header.into(),
            sha256,
        }
    }

    /// Checks the fields that follow from others. The error says what was expected and found.
    fn check(&self, name: &str) -> Result<(), String> {
        let shard = Shard::new(self.shard, self.shards)
            .ok_or_else(|| format!("expected a shard of its job, found {} of {}", self.shard, self.shards))?;
        let (file, movies) = (shard.file_name(), shard.movies(self.movies_in_all));
        if self.file != file {
            return Err(format!("expected file {file:?}, found {:?}", self.file));
        }
        if name != manifest_name(&file) {
            return Err(format!("expected the manifest of this name, found the one of {file:?}"));
        }
        if (self.first_movie, self.movies) != (movies.start, movies.len()) {
            let (first, count) = (self.first_movie, self.movies);
            return Err(format!("expected movies {movies:?}, found {count} from {first} on"));
        }
        Ok(())
    }

    fn job(&self) -> ShardJob<'_> {
        let Self { format, shards, movies_in_all, vectors, .. } = self;
        ShardJob { format, shards: *shards, movies_in_all: *movies_in_all, vectors }
    }
}

fn sha256_of(file: &Path) -> std::io::Result<String> {
    let (mut reader, mut hash) = (BufReader::with_capacity(1 << 20, File::open(file)?), Sha256::new());
    loop {
        let bytes = reader.fill_buf()?;
        if bytes.is_empty() {
            return Ok(hex::encode(hash.finalize()));
        }
        hash.update(bytes);
        let read = bytes.len();
        reader.consume(read);
    }
}

fn manifest_name(file: &str) -> String {
    format!("{}.json", file.trim_end_matches(".parquet"))
}

#[cfg(test)]
mod tests {
    use genre_model::{EncoderIdentity, Fingerprint, InputTemplate};

    use super::*;

    fn header() -> VectorsHeader {
        VectorsHeader {
            encoder: EncoderIdentity {
                id: "tiny-8".to_owned(),
                version: "1".to_owned(),
                fingerprint: Fingerprint::parse("ab".repeat(32)).unwrap(),
            },
            dimension: 8,
            template: InputTemplate::parse("{overview}").unwrap(),
            data_digest: "cd".repeat(32),
            labels: genre_model::LabelSet::built_in(),
        }
    }

    fn manifest() -> ShardManifest {
        ShardManifest::new(Shard::parse("1/3").unwrap(), &header(), 10, "ef".repeat(32))
    }

    #[test]
    fn reads_manifests_that_say_films() {
        let manifest = manifest();
        manifest.check("shard-00001-of-00003.json").unwrap();
        let json = serde_json::to_string(&manifest).unwrap();
        let old = json.replace("movies", "films").replace("first_movie", "first_film");
        for text in [json, old] {
            assert_eq!(serde_json::from_str::<ShardManifest>(&text).unwrap(), manifest, "{text}");
        }
    }

    #[tokio::test]
    async fn a_manifest_whose_file_is_lost_counts_as_no_shard() {
        let folder = tempfile::tempdir().unwrap();
        let (shards, shard) = (ShardFolder::open(folder.path()).unwrap(), Shard::parse("1/3").unwrap());
        let file = shards.working_file(shard, folder.path());
        std::fs::write(&file, "vectors").unwrap();
        shards.publish(&file, shard, &header(), 10).await.unwrap();
        assert_eq!(shards.checkpoint(shard, &header(), 10).await.unwrap(), Checkpoint::SameJob);
        std::fs::remove_file(&file).unwrap();
        assert_eq!(shards.checkpoint(shard, &header(), 10).await.unwrap(), Checkpoint::Absent);
    }

    #[tokio::test]
    async fn rejects_a_manifest_that_names_another_file() {
        let folder = tempfile::tempdir().unwrap();
        let shards = ShardFolder::open(folder.path()).unwrap();
        let name = "shard-00001-of-00003.json";
        let outside = folder.path().join("outside.parquet").display().to_string();
        let own = manifest().file;
        for file in [&outside, "../x.parquet", "", "shard-00000-of-00003.parquet", &format!("./{own}")] {
            let wrong = ShardManifest { file: file.to_owned(), ..manifest() };
            std::fs::write(folder.path().join(name), serde_json::to_vec(&wrong).unwrap()).unwrap();
            let message = shards.whole_set().await.unwrap_err().to_string();
            assert!(message.contains(&format!("{name}: expected file {own:?}, found {file:?}")), "{message}");
        }
        let other = ShardManifest { shard: 3, ..manifest() };
        assert!(other.check(name).unwrap_err().contains("found 3 of 3"));
        let other = ShardManifest { movies: usize::MAX, ..manifest() };
        assert!(other.check(name).unwrap_err().contains("expected movies 3..6"));
        let other = ShardManifest { movies_in_all: usize::MAX, ..manifest() };
        assert!(other.check(name).is_err());
        assert!(manifest().check("shard-00000-of-00003.json").is_err());
    }
}
