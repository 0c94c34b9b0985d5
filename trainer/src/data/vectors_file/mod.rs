//! The table of vectors, which `encode` writes and `fit` and `evaluate` read.
//!
//! One row per movie, in the order of the source: `id` (int64), `split` (utf8), `labels` (list of
//! utf8), `vector` (fixed-size list of float32), `words` and `title_words` (lists of uint32, the
//! [`WordFeatures`]), `overview_hash` (uint64, by which a fit finds copies of an overview). The metadata names the encoder and the text template, and holds a hash over
//! the rows, so a damaged file is never used.

use std::path::Path;
use std::sync::Arc;

use arrow_array::builder::{ListBuilder, UInt32Builder};
use arrow_array::cast::AsArray as _;
use arrow_array::types::{Float32Type, UInt32Type, UInt64Type};
use arrow_array::{ArrayRef, FixedSizeListArray, Float32Array, ListArray, RecordBatch, UInt64Array};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use genre_model::{
    EncoderIdentity, Fingerprint, InputTemplate, LabelSet, MovieLabels, SPLIT_RULE, WordFeatures,
};
use parquet::basic::Compression;
use parquet::file::properties::EnabledStatistics;
use parquet::schema::types::ColumnPath;
use sha2::{Digest as _, Sha256};

use crate::data::movie_columns;
use crate::data::movie_columns::{
    Formats, element, id_column, id_field, labels_column, labels_field, split_column, text_field,
};
use crate::data::table_file::{TableError, TableReader, TableWriter};

/// Format 1 had no word features, formats 2 and 3 no hashes of overviews.
const FORMATS: Formats =
    Formats { built_in: "movieclassifier.vectors/4", labelled: "movieclassifier.vectors/5" };

/// The metadata that all vectors of a file share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VectorsHeader {
    /// The encoder that made them.
    pub encoder: EncoderIdentity,
    /// Floats in a vector.
    pub dimension: usize,
    /// The template that composed the encoded texts.
    pub template: InputTemplate,
    /// [`DataDigest`](crate::DataDigest) over all movies of the source.
    pub data_digest: String,
    /// The label set of the movies.
    pub labels: LabelSet,
}

/// The vectors of some movies.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct VectorRows {
    /// TMDB ids.
    pub ids: Vec<u64>,
    /// The labels of each movie.
    pub labels: Vec<MovieLabels>,
    /// `ids.len() * dimension` floats, one movie after the other.
    pub values: Vec<f32>,
    /// The word features of each movie.
    pub word_features: Vec<WordFeatures>,
    /// The [hash of each movie's overview](crate::data::movie::overview_hash).
    pub overviews: Vec<u64>,
}

impl VectorRows {
    /// Returns no rows, with capacity for `movies`.
    #[must_use]
    pub fn with_capacity(movies: usize, dimension: usize) -> Self {
        Self {
            ids: Vec::with_capacity(movies),
            labels: Vec::with_capacity(movies),
            values: Vec::with_capacity(movies * dimension),
            word_features: Vec::with_capacity(movies),
            overviews: Vec::with_capacity(movies),
        }
    }

    /// Moves the movies of `other` to the end of these.
    pub fn append(&mut self, other: &mut Self) {
        self.ids.append(&mut other.ids);
        self.labels.append(&mut other.labels);
        self.values.append(&mut other.values);
        self.word_features.append(&mut other.word_features);
        self.overviews.append(&mut other.overviews);
    }

    fn split_off(&mut self, movies: usize, dimension: usize) -> Self {
        Self {
            ids: self.ids.split_off(movies),
            labels: self.labels.split_off(movies),
            values: self.values.split_off(movies * dimension),
            word_features: self.word_features.split_off(movies),
            overviews: self.overviews.split_off(movies),
        }
    }
}

fn schema(dimension: i32) -> SchemaRef {
    let vector = DataType::FixedSizeList(Arc::new(element(DataType::Float32)), dimension);
    let vector = Field::new("vector", vector, false);
    let words = |name| Field::new(name, DataType::List(Arc::new(element(DataType::UInt32))), false);
    let overview = Field::new("overview_hash", DataType::UInt64, false);
    let words = [words("words"), words("title_words")];
    let fields: Vec<_> = [id_field(), text_field("split"), labels_field(), vector]
        .into_iter()
        .chain(words)
        .chain([overview])
        .collect();
    Arc::new(Schema::new(fields))
}

/// A hash over the header and the rows in order, independent of batch boundaries.
#[derive(Clone)]
struct ContentDigest {
    hash: Sha256,
    labels: LabelSet,
}

impl ContentDigest {
    fn begin(header: &VectorsHeader) -> Self {
        let VectorsHeader { encoder, dimension, template, data_digest, labels } = header;
        let EncoderIdentity { id, version, fingerprint } = encoder;
        let text = format!("{id:?} {version:?} {fingerprint} {dimension} {template} {data_digest:?}");
        // The digest of the movies covers the label set.
        Self { hash: Sha256::new_with_prefix(text), labels: labels.clone() }
    }

    fn add(&mut self, rows: &VectorRows) {
        let dimension = rows.values.len() / rows.ids.len().max(1);
        for ((((id, labels), vector), words), overview) in rows
            .ids
            .iter()
            .zip(&rows.labels)
            .zip(rows.values.chunks(dimension.max(1)))
            .zip(&rows.word_features)
            .zip(&rows.overviews)
        {
            self.hash.update(id.to_le_bytes());
            for name in self.labels.names_of(labels) {
                self.hash.update(name);
            }
            let bytes: Vec<u8> = vector.iter().copied().flat_map(f32::to_le_bytes).collect();
            self.hash.update(&bytes);
            self.hash.update(words.to_bytes());
            self.hash.update(overview.to_le_bytes());
        }
    }

    fn finish(self) -> String {
        hex::encode(self.hash.finalize())
    }
}

/// Writes vectors batch by batch. A writer dropped before [`finish`](Self::finish) leaves no file
/// behind.
pub struct VectorsWriter {
    table: TableWriter,
    schema: SchemaRef,
    header: VectorsHeader,
    digest: ContentDigest,
    waiting: VectorRows,
}

/// Movies written at a time. It is fixed, so the bytes of the file do not depend on batch
/// boundaries.
const BATCH: usize = 1024;

impl VectorsWriter {
    /// Starts a file, which appears at `path` once it is finished. Until then it is a temporary
    /// file in `folder`, which must be on the file system of `path`.
    pub fn create_in(folder: &Path, path: &Path, header: VectorsHeader) -> Result<Self, TableError> {
        let dimension = i32::try_from(header.dimension).map_err(|_| {
            TableError::invalid(
                path,
                format!("expected a dimension within an int32, found {}", header.dimension),
            )
        })?;
        let schema = schema(dimension);
        let table = TableWriter::create_in(folder, path, schema.clone(), |properties| {
            // Dictionaries, compression and statistics gain nothing on floats that hardly repeat.
            let column = ColumnPath::from(["vector", "list", "element"].map(str::to_owned).to_vec());
            let words = ["words", "title_words"]
                .map(|name| ColumnPath::from([name, "list", "element"].map(str::to_owned).to_vec()));
            words
                .into_iter()
                .fold(properties, |properties, column| {
                    properties.set_column_statistics_enabled(column, EnabledStatistics::None)
                })
                .set_column_dictionary_enabled(column.clone(), false)
                .set_column_compression(column.clone(), Compression::UNCOMPRESSED)
                .set_column_statistics_enabled(column, EnabledStatistics::None)
        })?;
        let digest = ContentDigest::begin(&header);
        Ok(Self { table, schema, header, digest, waiting: VectorRows::default() })
    }

    /// Adds movies, each with `dimension` floats.
    pub fn write(&mut self, mut rows: VectorRows) -> Result<(), TableError> {
        self.digest.add(&rows);
        self.waiting.append(&mut rows);
        while self.waiting.ids.len() >= BATCH {
            let rest = self.waiting.split_off(BATCH, self.header.dimension);
            let full = std::mem::replace(&mut self.waiting, rest);
            self.write_batch(full)?;
        }
        Ok(())
    }

    fn write_batch(&mut self, rows: VectorRows) -> Result<(), TableError> {
        let values = Arc::new(Float32Array::from(rows.values));
        let dimension = i32::try_from(self.header.dimension).expect("`create_in` checked the dimension");
        let field = Arc::new(element(DataType::Float32));
        let vectors = FixedSizeListArray::try_new(field, dimension, values, None);
        let words = [
            words_column(&rows.word_features, WordFeatures::text),
            words_column(&rows.word_features, WordFeatures::title),
        ];
        let columns = |vectors: FixedSizeListArray| {
            let movies: [ArrayRef; 4] = [
                id_column(&rows.ids),
                split_column(&rows.ids),
                labels_column(&self.header.labels, &rows.labels),
                Arc::new(vectors),
            ];
            let overviews: ArrayRef = Arc::new(UInt64Array::from(rows.overviews));
            movies.into_iter().chain(words).chain([overviews]).collect()
        };
        let batch = vectors
            .and_then(|vectors| RecordBatch::try_new(self.schema.clone(), columns(vectors)))
            .expect("there are as many vectors as ids, of the header's dimension");
        self.table.write(&batch)
    }

    /// Completes the file and gives it its name.
    pub fn finish(mut self) -> Result<(), TableError> {
        let rest = std::mem::take(&mut self.waiting);
        if !rest.ids.is_empty() {
            self.write_batch(rest)?;
        }
        let VectorsHeader { encoder, dimension: _, template, data_digest, labels } = self.header;
        let mut metadata = FORMATS.metadata(&labels);
        metadata.extend([
            ("encoder_id", encoder.id),
            ("encoder_version", encoder.version),
            ("encoder_fingerprint", encoder.fingerprint.to_string()),
            ("input_template", template.to_string()),
            ("data_digest", data_digest),
            ("split_rule", SPLIT_RULE.to_owned()),
            ("content_sha256", self.digest.finish()),
        ]);
        self.table.finish(metadata)
    }
}

/// Reads vectors batch by batch. The last batch is returned only if the hash over all batches
/// matches.
pub struct VectorsReader {
    table: TableReader,
    header: VectorsHeader,
    digest: ContentDigest,
    rows: usize,
}

impl VectorsReader {
    /// Opens a file and checks its metadata and columns.
    pub fn open(path: &Path) -> Result<Self, TableError> {
        let (table, labels) = FORMATS.open(path, BATCH)?;
        table.expect("split_rule", SPLIT_RULE)?;
        let invalid = |reason: String| TableError::invalid(path, reason);
        let dimension = match table.schema.field_with_name("vector").map(Field::data_type) {
            Ok(DataType::FixedSizeList(_, dimension)) if *dimension > 0 => *dimension,
            _ => 512,
        };
        if table.schema.fields() != schema(dimension).fields() {
            let (expected, found) = (schema(dimension), &table.schema);
            return Err(invalid(format!("expected columns {expected}, found {found}")));
        }
        let header = VectorsHeader {
            encoder: EncoderIdentity {
                id: table.text("encoder_id")?.to_owned(),
                version: table.text("encoder_version")?.to_owned(),
                fingerprint: Fingerprint::parse(table.text("encoder_fingerprint")?)
                    .map_err(|error| invalid(error.to_string()))?,
            },
            dimension: dimension.cast_unsigned() as usize,
            template: InputTemplate::parse(table.text("input_template")?)
                .map_err(|error| invalid(error.to_string()))?,
            data_digest: table.text("data_digest")?.to_owned(),
            labels,
        };
        let digest = ContentDigest::begin(&header);
        Ok(Self { table, header, digest, rows: 0 })
    }

    /// The metadata that all vectors share.
    #[must_use]
    pub fn header(&self) -> &VectorsHeader {
        &self.header
    }

    /// Movies in the file, according to its footer.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.rows
    }

    /// Whether the file holds no movies.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the next movies, or `None` after the last.
    pub fn next_rows(&mut self) -> Result<Option<VectorRows>, TableError> {
        let Some(batch) = self.table.next_batch()? else {
            if self.rows == self.table.rows {
                return Ok(None);
            }
            let (expected, found) = (self.table.rows, self.rows);
            return Err(TableError::invalid(
                &self.table.path,
                format!("expected {expected} rows, found {found}"),
            ));
        };
        let rows = read_rows(&batch, &self.header.labels)
            .map_err(|reason| TableError::invalid(&self.table.path, reason))?;
        self.digest.add(&rows);
        self.rows += rows.ids.len();
        if self.rows == self.table.rows {
            let found = self.digest.clone().finish();
            self.table.expect("content_sha256", &found)?;
        }
        Ok(Some(rows))
    }
}

fn read_rows(batch: &RecordBatch, set: &LabelSet) -> Result<VectorRows, String> {
    let (ids, labels) = movie_columns::read(batch, set)?;
    let vectors = batch.column(3).as_fixed_size_list();
    let dimension = vectors.value_length().cast_unsigned() as usize;
    let values = vectors.values().as_primitive::<Float32Type>().values().to_vec();
    if values.len() != ids.len() * dimension {
        return Err(format!("expected {} floats, found {}", ids.len() * dimension, values.len()));
    }
    if let Some(position) = values.iter().position(|value| !value.is_finite()) {
        let (id, found) = (ids[position / dimension], values[position]);
        return Err(format!("movie {id}: expected a vector of finite numbers, found {found}"));
    }
    let word_features = read_words(batch, ids.len());
    let overviews = batch.column(6).as_primitive::<UInt64Type>().values().to_vec();
    Ok(VectorRows { ids, labels, values, word_features, overviews })
}

fn words_column(movies: &[WordFeatures], of: impl Fn(&WordFeatures) -> &[u32]) -> ArrayRef {
    let mut builder = ListBuilder::new(UInt32Builder::new()).with_field(element(DataType::UInt32));
    for movie in movies {
        builder.values().append_slice(of(movie));
        builder.append(true);
    }
    Arc::new(builder.finish())
}

fn read_words(batch: &RecordBatch, movies: usize) -> Vec<WordFeatures> {
    let [text, title] = [4, 5].map(|column| batch.column(column).as_list::<i32>());
    let hashes = |list: &ListArray, movie| list.value(movie).as_primitive::<UInt32Type>().values().to_vec();
    (0..movies).map(|movie| WordFeatures::from_hashes(hashes(text, movie), hashes(title, movie))).collect()
}

#[cfg(test)]
mod tests;
