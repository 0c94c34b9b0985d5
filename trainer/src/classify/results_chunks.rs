//! The chunks of a job that classifies: tables of results.

use std::ops::Range;
use std::path::Path;

use crate::chunks::{ChunkFile, ChunksError};
use crate::classify::error::ClassifyError;
use crate::classify::results::{ResultRow, ResultsHeader, ResultsReader, ResultsWriter};

/// The files of a job with this header.
#[derive(Clone, Copy)]
pub(crate) struct ResultsChunks<'a> {
    pub(crate) header: &'a ResultsHeader,
}

impl ChunkFile for ResultsChunks<'_> {
    type Job = ResultsHeader;
    type Rows = Vec<ResultRow>;
    type Writer = ResultsWriter;
    type Error = ClassifyError;

    fn job(&self) -> ResultsHeader {
        self.header.clone()
    }

    fn read(&self, path: &Path, range: Range<usize>) -> Result<Vec<ResultRow>, ClassifyError> {
        let mut reader = ResultsReader::open(path, self.header.chunk)?;
        if reader.header() != self.header || reader.len() != range.len() {
            return Err(ChunksError::WrongRows { path: path.to_owned() }.into());
        }
        let mut all = Vec::with_capacity(range.len());
        while let Some(rows) = reader.next_rows()? {
            all.extend(rows);
        }
        Ok(all)
    }

    fn create(&self, folder: &Path, path: &Path) -> Result<ResultsWriter, ClassifyError> {
        Ok(ResultsWriter::create_in(folder, path, self.header.clone())?)
    }

    fn write(&self, writer: &mut ResultsWriter, rows: Vec<ResultRow>) -> Result<(), ClassifyError> {
        Ok(writer.write(&rows)?)
    }

    fn finish(&self, writer: ResultsWriter) -> Result<(), ClassifyError> {
        Ok(writer.finish()?)
    }
}
