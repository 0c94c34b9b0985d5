//! Why settings cannot be used.

use std::path::PathBuf;

/// Why settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The settings file cannot be read.
    #[error("settings file {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A key is unknown, most often because it is misspelled.
    #[error("{place}: unknown key {key}{}", nearest.as_ref().map(|name| format!("; did you mean {name}?")).unwrap_or_default())]
    UnknownKey {
        /// The file or variable that has the key.
        place: String,
        /// The key, such as `limits.max_batch`.
        key: String,
        /// The most similar known key, or its variable if `place` is one.
        nearest: Option<String>,
    },
    /// A key was renamed after an earlier release.
    #[error("{place}: key {key} is now called {new}; rename it")]
    RenamedKey {
        /// The file or variable that has the key.
        place: String,
        /// The old key.
        key: String,
        /// The new key.
        new: &'static str,
    },
    /// A variable of a list is neither JSON nor strings separated by commas.
    #[error("environment variable {variable}: expected JSON such as [\"a\", \"b\"], or a,b: {source}")]
    List {
        /// The variable.
        variable: String,
        /// What is wrong with the JSON.
        source: serde_json::Error,
    },
    /// A variable of a setting has bytes that are no text.
    #[error("environment variable {variable}: expected UTF-8, found other bytes")]
    NotUtf8 {
        /// The variable.
        variable: String,
    },
    /// A value has the wrong type. The message says where.
    #[error("settings: {0}")]
    Invalid(#[from] config::ConfigError),
}
