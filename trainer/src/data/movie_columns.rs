//! The columns that both tables share: id, split and labels.

use std::path::Path;
use std::sync::Arc;

use arrow_array::builder::{ListBuilder, StringBuilder};
use arrow_array::cast::AsArray as _;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field};
use genre_model::{LabelSet, MovieLabels};

use crate::Split;
use crate::data::table_file::{TableError, TableReader};

/// The element of a list column, named as the Parquet specification names it.
pub(crate) fn element(data_type: DataType) -> Field {
    Field::new("element", data_type, false)
}

pub(crate) fn id_field() -> Field {
    Field::new("id", DataType::Int64, false)
}

pub(crate) fn text_field(name: &str) -> Field {
    Field::new(name, DataType::Utf8, false)
}

pub(crate) fn labels_field() -> Field {
    Field::new("labels", DataType::List(Arc::new(element(DataType::Utf8))), false)
}

pub(crate) fn id_column(ids: &[u64]) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(ids.iter().map(|id| id.cast_signed())))
}

pub(crate) fn split_column(ids: &[u64]) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(ids.iter().map(|id| Split::of(*id).name())))
}

pub(crate) fn labels_column<'a>(
    set: &LabelSet,
    movies: impl IntoIterator<Item = &'a MovieLabels>,
) -> ArrayRef {
    let mut builder = ListBuilder::new(StringBuilder::new()).with_field(element(DataType::Utf8));
    for labels in movies {
        set.names_of(labels).for_each(|name| builder.values().append_value(name));
        builder.append(true);
    }
    Arc::new(builder.finish())
}

/// Metadata key of the names of a label set other than the built-in one, as a JSON list.
const LABELS_KEY: &str = "labels";

/// The formats of a table: of movies with the built-in labels, and of movies with others, which a
/// reader that knows only the first must reject.
pub(crate) struct Formats {
    pub(crate) built_in: &'static str,
    pub(crate) labelled: &'static str,
}

impl Formats {
    /// Returns the metadata that names the format, and the label set if it is not the built-in one.
    pub(crate) fn metadata(&self, labels: &LabelSet) -> Vec<(&'static str, String)> {
        if labels.is_built_in() {
            return vec![("format", self.built_in.to_owned())];
        }
        let names: Vec<&str> = labels.names().collect();
        let names = serde_json::to_string(&names).expect("texts are JSON");
        vec![("format", self.labelled.to_owned()), (LABELS_KEY, names)]
    }

    /// Opens a table in one of the formats, to read `batch` rows at a time, and returns its label
    /// set.
    pub(crate) fn open(&self, path: &Path, batch: usize) -> Result<(TableReader, LabelSet), TableError> {
        let table = TableReader::open(path, &[self.built_in, self.labelled], batch)?;
        if table.text("format")? == self.built_in {
            return Ok((table, LabelSet::built_in()));
        }
        let invalid =
            |reason: String| TableError::invalid(path, format!("metadata {LABELS_KEY:?}: {reason}"));
        let names: Vec<String> =
            serde_json::from_str(table.text(LABELS_KEY)?).map_err(|error| invalid(error.to_string()))?;
        let labels = LabelSet::of_names(&names).map_err(|error| invalid(error.to_string()))?;
        Ok((table, labels))
    }
}

/// Reads `id`, `split` and `labels`, which must have the types above. The error names what was
/// expected and what was found.
pub(crate) fn read(batch: &RecordBatch, set: &LabelSet) -> Result<(Vec<u64>, Vec<MovieLabels>), String> {
    let column = |name: &str| {
        batch.column_by_name(name).ok_or_else(|| format!("expected a column {name:?}, found none"))
    };
    let (id_column, splits, labels) =
        (column("id")?, column("split")?.as_string_view(), column("labels")?.as_list::<i32>());
    let mut ids = Vec::with_capacity(batch.num_rows());
    let mut movies = Vec::with_capacity(batch.num_rows());
    for (row, &id) in id_column.as_primitive::<Int64Type>().values().iter().enumerate() {
        let id = u64::try_from(id).map_err(|_| format!("expected ids of 0 and more, found {id}"))?;
        let expected = Split::of(id);
        if Split::from_name(splits.value(row)) != Some(expected) {
            let found = splits.value(row);
            return Err(format!(
                "movie {id}: expected split {:?} by its id, found {found:?}",
                expected.name()
            ));
        }
        let names = labels.value(row);
        let labels = set.movie_labels(names.as_string_view().iter().flatten());
        movies.push(labels.map_err(|error| format!("movie {id}: {error}"))?);
        ids.push(id);
    }
    Ok((ids, movies))
}
