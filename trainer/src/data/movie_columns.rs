//! The columns that both tables share: id, split and labels.

use std::sync::Arc;

use arrow_array::builder::{ListBuilder, StringBuilder};
use arrow_array::cast::AsArray as _;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field};
use genre_model::GenreSet;

use crate::Split;

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

pub(crate) fn labels_column(genres: impl IntoIterator<Item = GenreSet>) -> ArrayRef {
    let mut builder = ListBuilder::new(StringBuilder::new()).with_field(element(DataType::Utf8));
    for set in genres {
        set.names().for_each(|name| builder.values().append_value(name));
        builder.append(true);
    }
    Arc::new(builder.finish())
}

/// Reads `id`, `split` and `labels`, which must have the types above. The error names what was
/// expected and what was found.
pub(crate) fn read(batch: &RecordBatch) -> Result<(Vec<u64>, Vec<GenreSet>), String> {
    let column = |name: &str| {
        batch.column_by_name(name).ok_or_else(|| format!("expected a column {name:?}, found none"))
    };
    let (id_column, splits, labels) =
        (column("id")?, column("split")?.as_string::<i32>(), column("labels")?.as_list::<i32>());
    let mut ids = Vec::with_capacity(batch.num_rows());
    let mut genres = Vec::with_capacity(batch.num_rows());
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
        let mut set = GenreSet::EMPTY;
        for name in names.as_string::<i32>().iter().flatten() {
            if !set.insert_name(name) {
                return Err(format!("movie {id}: expected genre names, found {name:?}"));
            }
        }
        ids.push(id);
        genres.push(set);
    }
    Ok((ids, genres))
}
