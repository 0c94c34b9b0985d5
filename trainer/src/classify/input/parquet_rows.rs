//! The rows of a Parquet file of any program.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use arrow_array::cast::AsArray as _;
use arrow_array::types::{
    Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type,
};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::DataType;
use movie_table::{TableOptions, places_of};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};

use crate::classify::input::InputError;
use crate::classify::input::row::{InputRow, input_row};
use crate::data::object_footer::{Footer, PARQUET_MAGIC, footer};
use crate::data::table_file::unless_it_panics;
use crate::store::Place;

/// Rows of a Parquet file in memory.
const BATCH: usize = 1024;

/// Whether a file is Parquet, by its first bytes.
pub(super) fn is_parquet(file: &File) -> bool {
    let mut start = [0; PARQUET_MAGIC.len()];
    file.read_exact_at(&mut start, 0).is_ok() && start == PARQUET_MAGIC
}

/// Returns the rows of an object of `size` bytes according to its footer, or `None` if it is no
/// Parquet file. Only the footer is requested.
pub(super) async fn rows_of_object(place: &Place, size: u64) -> Result<Option<usize>, InputError> {
    let invalid = |reason: String| InputError::Invalid { path: place.location().into(), reason };
    match footer(place, size).await? {
        Footer::None => Ok(None),
        Footer::Damaged(reason) => Err(invalid(reason)),
        Footer::Whole(metadata) => {
            let rows = usize::try_from(metadata.file_metadata().num_rows());
            rows.map(Some).map_err(|_| invalid("expected a number of rows".to_owned()))
        }
    }
}

/// The rows of a Parquet file of any program.
pub(super) struct ParquetRows {
    path: PathBuf,
    batches: ParquetRecordBatchReader,
    /// The places of id, title and overview among the columns that are read.
    columns: [Option<usize>; 3],
    batch: Option<(RecordBatch, usize)>,
    row: u64,
}

impl ParquetRows {
    pub(super) fn open(path: &Path, file: File, options: &TableOptions) -> Result<Self, InputError> {
        let invalid = |reason: String| InputError::Invalid { path: path.to_owned(), reason };
        // Without the writer's own types, which may be dictionaries, texts are plain texts.
        let reading = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let builder =
            unless_it_panics(|| ParquetRecordBatchReaderBuilder::try_new_with_options(file, reading))
                .map_err(|error| invalid(format!("expected a whole Parquet file: {error}")))?;
        let fields = builder.schema().fields();
        let header: Vec<_> = fields.iter().map(|field| field.name().as_str()).collect();
        let names = &options.columns;
        let places =
            [&names.id, &names.title, &names.overview].map(|name| places_of(name, &header).first().copied());
        if places[2].is_none() {
            let (expected, found) = (&names.overview, header.join(", "));
            return Err(invalid(format!("expected a column {expected:?} of overviews, found {found}")));
        }
        let mut read: Vec<usize> = places.iter().flatten().copied().collect();
        read.sort_unstable();
        // One column may have two of the names; batches have it once.
        read.dedup();
        let columns = places.map(|place| place.and_then(|place| read.iter().position(|read| *read == place)));
        let mask = ProjectionMask::roots(builder.parquet_schema(), read);
        let batches = unless_it_panics(|| builder.with_projection(mask).with_batch_size(BATCH).build())
            .map_err(invalid)?;
        Ok(Self { path: path.to_owned(), batches, columns, batch: None, row: 0 })
    }

    fn next_row(&mut self) -> Result<Option<InputRow>, InputError> {
        let invalid = |path: &Path, reason: String| InputError::Invalid { path: path.to_owned(), reason };
        loop {
            if let Some((batch, row)) = &mut self.batch
                && *row < batch.num_rows()
            {
                let at = *row;
                let cell = |column: Option<usize>| {
                    column.map_or(Ok(None), |column| text(batch.column(column), at, self.row + 1))
                };
                let cells = self.columns.map(cell);
                let [id, title, overview] = cells;
                let wrong = |reason| invalid(&self.path, reason);
                let (id, title, overview) =
                    (id.map_err(wrong)?, title.map_err(wrong)?, overview.map_err(wrong)?);
                *row += 1;
                self.row += 1;
                return Ok(Some(input_row(&format!("row {}", self.row), id, title, overview)));
            }
            let next = unless_it_panics(|| self.batches.next().transpose());
            match next {
                Ok(Some(batch)) => self.batch = Some((batch, 0)),
                Ok(None) => return Ok(None),
                Err(error) => {
                    let reason =
                        format!("after row {}: expected an undamaged Parquet file: {error}", self.row);
                    return Err(invalid(&self.path, reason));
                }
            }
        }
    }
}

impl Iterator for ParquetRows {
    type Item = Result<InputRow, InputError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_row().transpose()
    }
}

/// Returns a cell as text; `None` if it is null. Whole numbers are texts, too.
fn text(column: &ArrayRef, row: usize, number: u64) -> Result<Option<String>, String> {
    if column.is_null(row) {
        return Ok(None);
    }
    Ok(Some(match column.data_type() {
        DataType::Utf8 => column.as_string::<i32>().value(row).to_owned(),
        DataType::Int8 => column.as_primitive::<Int8Type>().value(row).to_string(),
        DataType::Int16 => column.as_primitive::<Int16Type>().value(row).to_string(),
        DataType::Int32 => column.as_primitive::<Int32Type>().value(row).to_string(),
        DataType::Int64 => column.as_primitive::<Int64Type>().value(row).to_string(),
        DataType::UInt8 => column.as_primitive::<UInt8Type>().value(row).to_string(),
        DataType::UInt16 => column.as_primitive::<UInt16Type>().value(row).to_string(),
        DataType::UInt32 => column.as_primitive::<UInt32Type>().value(row).to_string(),
        DataType::UInt64 => column.as_primitive::<UInt64Type>().value(row).to_string(),
        DataType::Float32 => column.as_primitive::<Float32Type>().value(row).to_string(),
        DataType::Float64 => column.as_primitive::<Float64Type>().value(row).to_string(),
        other => return Err(format!("row {number}: expected texts or numbers, found a column of {other}")),
    }))
}
