//! The Parquet table of trials.

use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};

use crate::data::table_file::{TableError, TableWriter};
use crate::search::journal::Header;
use crate::search::trial::Trial;

/// Writes one row per trial: its number, each setting in a column of its type, and its metrics.
pub(super) fn write(path: &Path, trials: &[Trial], header: &Header) -> Result<(), TableError> {
    let mut columns: Vec<(String, DataType, ArrayRef)> = Vec::new();
    let mut add = |name: &str, data_type, column| columns.push((name.to_owned(), data_type, column));
    let whole = |value: fn(&Trial) -> usize| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(
            trials.iter().map(|trial| i64::try_from(value(trial)).unwrap_or(i64::MAX)),
        ))
    };
    let floats = |value: fn(&Trial) -> Option<f64>| -> ArrayRef {
        Arc::new(trials.iter().map(value).collect::<Float64Array>())
    };
    add("trial", DataType::Int64, whole(|trial| trial.trial));
    if let Some(first) = trials.first() {
        for name in first.settings.keys() {
            let texts: Vec<&str> =
                trials.iter().map(|trial| trial.settings.get(name).map_or("", String::as_str)).collect();
            let (data_type, column) = typed(&texts);
            add(name, data_type, column);
        }
    }
    add("epochs", DataType::Int64, whole(|trial| trial.epochs));
    add("best_epoch", DataType::Int64, whole(|trial| trial.best_epoch));
    add("validation_loss", DataType::Float64, floats(|trial| trial.validation_loss));
    add("validation_micro_f1", DataType::Float64, floats(|trial| Some(trial.micro_f1)));
    add("validation_micro_f1_at_0_5", DataType::Float64, floats(|trial| Some(trial.micro_f1_at_0_5)));

    let field =
        |(name, data_type, _): &(String, DataType, ArrayRef)| Field::new(name, data_type.clone(), true);
    let schema = Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()));
    let arrays = columns.into_iter().map(|(_, _, array)| array).collect();
    let batch = RecordBatch::try_new(schema.clone(), arrays)
        .expect("every column has one value per trial, of the type of its field");
    let mut writer = TableWriter::create(path, schema, |properties| properties)?;
    writer.write(&batch)?;
    writer.finish([
        ("format", header.format.clone()),
        ("space", header.space.clone()),
        ("seed", header.seed.to_string()),
        ("encoder_fingerprint", header.encoder_fingerprint.clone()),
        ("vectors_sha256", header.vectors_sha256.clone()),
    ])
}

/// Returns a column of the narrowest type that fits all values, since settings are recorded as
/// text.
fn typed(texts: &[&str]) -> (DataType, ArrayRef) {
    fn all<T: std::str::FromStr>(texts: &[&str]) -> Option<Vec<T>> {
        texts.iter().map(|text| text.parse().ok()).collect()
    }
    if let Some(values) = all::<i64>(texts) {
        return (DataType::Int64, Arc::new(Int64Array::from(values)));
    }
    if let Some(values) = all::<f64>(texts) {
        return (DataType::Float64, Arc::new(Float64Array::from(values)));
    }
    if let Some(values) = all::<bool>(texts) {
        return (DataType::Boolean, Arc::new(BooleanArray::from(values)));
    }
    (DataType::Utf8, Arc::new(StringArray::from_iter_values(texts)))
}
