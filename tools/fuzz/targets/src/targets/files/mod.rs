//! What operators and model builders pass as files: tables, vectors, bundles, models, settings.

pub(super) mod bundle;
pub(super) mod genres_field;
pub(super) mod model_file;
pub(super) mod movie_table;
pub(super) mod movies_csv;
pub(super) mod settings;
pub(super) mod vectors_file;
