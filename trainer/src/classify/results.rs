//! The table of results: one row for each row of the input, in order.
//!
//! `id` (utf8, null if the input has none), `labels` (list of utf8: the predicted labels, the most
//! probable first), `probabilities` (list of float32, in the order of the metadata's `labels`; null if
//! the row has an error), `truncated` (bool: the encoder read only the beginning of the text), `error`
//! (utf8, null if there is none), `model_version` and `encoder_fingerprint` (utf8).

use std::path::Path;
use std::sync::Arc;

use arrow_array::builder::{Float32Builder, ListBuilder, StringBuilder};
use arrow_array::cast::AsArray as _;
use arrow_array::types::Float32Type;
use arrow_array::{Array as _, ArrayRef, BooleanArray, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use genre_model::GenreModel;
use serde::{Deserialize, Serialize};

use crate::data::movie_columns::{element, labels_field, text_field};
use crate::data::table_file::{TableError, TableReader, TableWriter};

/// The format of a table of results.
pub(crate) const FORMAT: &str = "movieclassifier.results/1";

/// The identity of a job: what decides the content of its table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultsHeader {
    /// [`FORMAT`].
    pub format: String,
    /// The version of the model.
    pub model_version: String,
    /// The fingerprint of the encoder.
    pub encoder_fingerprint: String,
    /// The template that composes the texts.
    pub input_template: String,
    /// The labels, in the order of the probabilities.
    pub labels: Vec<String>,
    /// [The digest of the input](crate::classify::input::Inventory::digest).
    pub input_digest: String,
    /// Rows of the input.
    pub rows: usize,
    /// Rows that are written at a time.
    pub chunk: usize,
    /// The shard, `I/N`; `0/1` if there is only one.
    pub shard: String,
}

/// The result of one row.
#[derive(Debug, Clone, PartialEq)]
pub struct ResultRow {
    /// The id, as found.
    pub id: Option<String>,
    /// The scores, or why there are none.
    pub scored: Result<Scored, String>,
}

/// The scores of a movie.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// The predicted labels, the most probable first.
    pub labels: Vec<String>,
    /// The probability of each label.
    pub probabilities: Vec<f32>,
    /// Whether the encoder read only the beginning of the text.
    pub truncated: bool,
}

impl ResultsHeader {
    /// The header of a job of one shard.
    #[must_use]
    pub fn new(model: &GenreModel, input_digest: String, rows: usize, chunk: usize) -> Self {
        let provenance = model.provenance();
        Self {
            format: FORMAT.to_owned(),
            model_version: model.version().to_owned(),
            encoder_fingerprint: provenance.encoder.fingerprint.to_string(),
            input_template: provenance.input_template.to_string(),
            labels: model.labels().to_vec(),
            input_digest,
            rows,
            chunk,
            shard: "0/1".to_owned(),
        }
    }
}

fn schema() -> SchemaRef {
    let optional = |name: &str, data_type| Field::new(name, data_type, true);
    Arc::new(Schema::new(vec![
        optional("id", DataType::Utf8),
        labels_field(),
        optional("probabilities", DataType::List(Arc::new(element(DataType::Float32)))),
        Field::new("truncated", DataType::Boolean, false),
        optional("error", DataType::Utf8),
        text_field("model_version"),
        text_field("encoder_fingerprint"),
    ]))
}

/// Writes a table of results.
pub(crate) struct ResultsWriter {
    header: ResultsHeader,
    table: TableWriter,
    path: std::path::PathBuf,
}

impl ResultsWriter {
    /// Starts a file at `path`, with its temporary file in `folder`.
    pub(crate) fn create_in(folder: &Path, path: &Path, header: ResultsHeader) -> Result<Self, TableError> {
        let table = TableWriter::create_in(folder, path, schema(), |properties| properties)?;
        Ok(Self { header, table, path: path.to_owned() })
    }

    /// Writes rows. The bytes of a file depend on how its rows are divided into calls.
    pub(crate) fn write(&mut self, rows: &[ResultRow]) -> Result<(), TableError> {
        let mut labels = ListBuilder::new(StringBuilder::new()).with_field(element(DataType::Utf8));
        let mut probabilities =
            ListBuilder::new(Float32Builder::new()).with_field(element(DataType::Float32));
        for row in rows {
            if let Ok(scored) = &row.scored {
                scored.labels.iter().for_each(|label| labels.values().append_value(label));
                probabilities.values().append_slice(&scored.probabilities);
            }
            labels.append(true);
            probabilities.append(row.scored.is_ok());
        }
        let repeated = |text: &str| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(std::iter::repeat_n(text, rows.len())))
        };
        let is_truncated = |row: &ResultRow| row.scored.as_ref().is_ok_and(|scored| scored.truncated);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(rows.iter().map(|row| row.id.as_deref()).collect::<StringArray>()),
            Arc::new(labels.finish()),
            Arc::new(probabilities.finish()),
            Arc::new(rows.iter().map(|row| Some(is_truncated(row))).collect::<BooleanArray>()),
            Arc::new(rows.iter().map(|row| row.scored.as_ref().err()).collect::<StringArray>()),
            repeated(&self.header.model_version),
            repeated(&self.header.encoder_fingerprint),
        ];
        let batch = RecordBatch::try_new(schema(), columns)
            .map_err(|error| TableError::invalid(&self.path, error.to_string()))?;
        self.table.write(&batch)
    }

    /// Completes the file.
    pub(crate) fn finish(self) -> Result<(), TableError> {
        let header = serde_json::to_string(&self.header).expect("texts and numbers are JSON");
        let labels = serde_json::to_string(&self.header.labels).expect("texts are JSON");
        self.table.finish([("format", FORMAT.to_owned()), ("labels", labels), ("job", header)])
    }
}

/// Reads a table of results, a chunk at a time.
pub(crate) struct ResultsReader {
    header: ResultsHeader,
    table: TableReader,
}

impl ResultsReader {
    /// Opens the table at `path`, to read `chunk` rows at a time.
    pub(crate) fn open(path: &Path, chunk: usize) -> Result<Self, TableError> {
        let table = TableReader::open(path, &[FORMAT], chunk)?;
        let invalid = |reason: String| TableError::invalid(path, reason);
        if table.schema.fields() != schema().fields() {
            return Err(invalid("expected the columns of results, found others".to_owned()));
        }
        let header = serde_json::from_str(table.text("job")?)
            .map_err(|error| invalid(format!("metadata \"job\": expected the identity of a job: {error}")))?;
        Ok(Self { header, table })
    }

    /// The identity of the job.
    pub(crate) fn header(&self) -> &ResultsHeader {
        &self.header
    }

    /// The number of rows.
    pub(crate) fn len(&self) -> usize {
        self.table.rows
    }

    /// Returns the next rows, or `None` after the last.
    pub(crate) fn next_rows(&mut self) -> Result<Option<Vec<ResultRow>>, TableError> {
        Ok(self.table.next_batch()?.map(|batch| rows_of(&batch)))
    }
}

fn rows_of(batch: &RecordBatch) -> Vec<ResultRow> {
    let text = |column: usize, row: usize| {
        let column = batch.column(column).as_string_view();
        column.is_valid(row).then(|| column.value(row).to_owned())
    };
    let (labels, probabilities, truncated) =
        (batch.column(1).as_list::<i32>(), batch.column(2).as_list::<i32>(), batch.column(3).as_boolean());
    let row = |row: usize| ResultRow {
        id: text(0, row),
        scored: match text(4, row) {
            Some(error) => Err(error),
            None => Ok(Scored {
                labels: labels.value(row).as_string_view().iter().flatten().map(str::to_owned).collect(),
                probabilities: probabilities.value(row).as_primitive::<Float32Type>().values().to_vec(),
                truncated: truncated.value(row),
            }),
        },
    };
    (0..batch.num_rows()).map(row).collect()
}
