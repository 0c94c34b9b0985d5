//! The chunks of a job that encodes: files of vectors.

use std::ops::Range;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::chunks::{ChunkFile, ChunksError};
use crate::data::movie_source::Inventory;
use crate::data::vectors_file::{VectorRows, VectorsHeader, VectorsReader, VectorsWriter};
use crate::encode::error::EncodeError;
use crate::encode::vectors_job::VectorsJob;

const FORMAT: &str = "movieclassifier.parts/1";

/// The identity of the job that chunks belong to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    format: String,
    #[serde(flatten)]
    vectors: VectorsJob,
    movies: usize,
    chunk: usize,
}

/// The files of a job that encodes `inventory` in chunks of `chunk` movies.
#[derive(Clone, Copy)]
pub(crate) struct VectorsChunks<'a> {
    pub(crate) header: &'a VectorsHeader,
    pub(crate) inventory: &'a Inventory,
    pub(crate) chunk: usize,
}

impl ChunkFile for VectorsChunks<'_> {
    type Job = Manifest;
    type Rows = VectorRows;
    type Writer = VectorsWriter;
    type Error = EncodeError;

    fn job(&self) -> Manifest {
        let (vectors, movies) = (self.header.into(), self.inventory.ids.len());
        Manifest { format: FORMAT.to_owned(), vectors, movies, chunk: self.chunk }
    }

    fn read(&self, path: &Path, range: Range<usize>) -> Result<VectorRows, EncodeError> {
        let mut reader = VectorsReader::open(path)?;
        let mut all = VectorRows::default();
        while let Some(mut rows) = reader.next_rows()? {
            all.append(&mut rows);
        }
        if reader.header() != self.header || all.ids != self.inventory.ids[range] {
            return Err(ChunksError::WrongRows { path: path.to_owned() }.into());
        }
        Ok(all)
    }

    fn create(&self, folder: &Path, path: &Path) -> Result<VectorsWriter, EncodeError> {
        Ok(VectorsWriter::create_in(folder, path, self.header.clone())?)
    }

    fn write(&self, writer: &mut VectorsWriter, rows: VectorRows) -> Result<(), EncodeError> {
        Ok(writer.write(rows)?)
    }

    fn finish(&self, writer: VectorsWriter) -> Result<(), EncodeError> {
        Ok(writer.finish()?)
    }
}
