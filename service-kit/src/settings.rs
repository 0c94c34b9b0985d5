//! Settings from four places, each over the one before: defaults, a TOML file, the environment, flags.

use std::path::{Path, PathBuf};

use config::{Config, Environment, File, FileFormat, Value};
use serde::de::DeserializeOwned;

/// Settings that are given, and cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file that was asked for is not there.
    #[error("settings file {path}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// An unknown key, or a value of another type. The message names the place it came from.
    #[error("settings: {0}")]
    Invalid(#[from] config::ConfigError),
}

/// What flags say: keys such as `log.format` with their values. Flags that were not given are left out.
#[derive(Debug, Default)]
pub struct Overrides(Vec<(&'static str, Value)>);

impl Overrides {
    /// Adds the value of a flag, if the flag was given.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: Option<impl Into<Value>>) -> Self {
        self.0.extend(value.map(|value| (key, value.into())));
        self
    }
}

/// Reads settings. `T` gives the defaults (`#[serde(default)]`) and refuses unknown keys
/// (`#[serde(deny_unknown_fields)]`). A variable `PREFIX_A__B` sets the key `a.b`.
pub fn load_settings<T: DeserializeOwned>(
    prefix: &str,
    file: Option<&Path>,
    flags: Overrides,
) -> Result<T, SettingsError> {
    let mut builder = Config::builder();
    if let Some(path) = file {
        let text = std::fs::read_to_string(path)
            .map_err(|source| SettingsError::File { path: path.to_owned(), source })?;
        builder = builder.add_source(File::from_str(&text, FileFormat::Toml));
    }
    let environment = Environment::with_prefix(prefix).prefix_separator("_").separator("__");
    builder = builder.add_source(environment.try_parsing(true));
    for (key, value) in flags.0 {
        builder = builder.set_override(key, value)?;
    }
    Ok(builder.build()?.try_deserialize()?)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Sample {
        listen: String,
        sessions: usize,
    }

    impl Default for Sample {
        fn default() -> Self {
            Self { listen: "127.0.0.1:1".to_owned(), sessions: 2 }
        }
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn flags_go_before_the_file_and_the_file_before_defaults() {
        let file = file("sessions = 7\nlisten = \"a\"");
        let flags = Overrides::default().with("listen", Some("b")).with("sessions", None::<u64>);
        let settings: Sample = load_settings("NO_SUCH_PREFIX", Some(file.path()), flags).unwrap();
        assert_eq!(settings, Sample { listen: "b".to_owned(), sessions: 7 });
    }

    #[test]
    fn an_unknown_key_is_an_error_that_names_it() {
        let file = file("sesions = 7");
        let error = load_settings::<Sample>("NO_SUCH_PREFIX", Some(file.path()), Overrides::default());
        assert!(error.unwrap_err().to_string().contains("sesions"));
    }

    #[test]
    fn a_missing_file_is_an_error_that_names_it() {
        let error =
            load_settings::<Sample>("NO_SUCH_PREFIX", Some(Path::new("no/such.toml")), Overrides::default());
        assert!(error.unwrap_err().to_string().contains("no/such.toml"));
    }
}
