//! Settings from four places, each over the one before: defaults, a TOML file, the environment, flags.

use std::path::{Path, PathBuf};

use config::{Config, Environment, File, FileFormat, Value};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

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
    /// A key that no setting has, most often a slip of the pen.
    #[error("settings: unknown key {key}{}", nearest.as_ref().map(|key| format!("; did you mean {key}?")).unwrap_or_default())]
    UnknownKey {
        /// Such as `limits.max_batch`.
        key: String,
        /// The known key that looks most like it.
        nearest: Option<String>,
    },
    /// A key that an earlier release had under another name.
    #[error("settings: {key} is now called {new}; rename it")]
    RenamedKey {
        /// The key that was given.
        key: String,
        /// The key to use instead.
        new: &'static str,
    },
    /// A value of another type. The message names the place it came from.
    #[error("settings: {0}")]
    Invalid(#[from] config::ConfigError),
}

/// The settings of one program. Serde gives the keys, `Default` their values.
pub trait Settings: DeserializeOwned + Serialize + Default {
    /// Keys of earlier releases, each with the key that replaced it. An old key is rejected with an error that names the
    /// new one.
    const RENAMED_KEYS: &'static [(&'static str, &'static str)] = &[];
}

/// What flags say: keys such as `log.format` with their values. Flags that were not given are left out.
#[derive(Debug, Clone, Default)]
pub struct Overrides(Vec<(&'static str, Value)>);

impl Overrides {
    /// Adds the value of a flag, if the flag was given.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: Option<impl Into<Value>>) -> Self {
        self.0.extend(value.map(|value| (key, value.into())));
        self
    }
}

/// Reads settings. `T` gives the defaults (`#[serde(default)]`), and with them the known keys. A variable `PREFIX_A__B` sets
/// the key `a.b`.
pub fn load_settings<T: Settings>(
    prefix: &str,
    file: Option<&Path>,
    flags: Overrides,
) -> Result<T, SettingsError> {
    let known = serde_json::to_value(T::default()).unwrap_or_default();
    let mut builder = Config::builder();
    if let Some(path) = file {
        let text = std::fs::read_to_string(path)
            .map_err(|source| SettingsError::File { path: path.to_owned(), source })?;
        // Before the config crate reads it, which takes keys for paths: of `"a[999999999]"` it would make a list of so many
        // elements. What is no TOML is left for it to say.
        if let Ok(given) = toml::from_str(&text) {
            check_keys(&given, &known, T::RENAMED_KEYS)?;
        }
        builder = builder.add_source(File::from_str(&text, FileFormat::Toml));
    }
    let environment = Environment::with_prefix(prefix).prefix_separator("_").separator("__");
    builder = builder.add_source(environment.try_parsing(true));
    for (key, value) in flags.0 {
        builder = builder.set_override(key, value)?;
    }
    let settings = builder.build()?;
    check_keys(&settings.clone().try_deserialize()?, &known, T::RENAMED_KEYS)?;
    Ok(settings.try_deserialize()?)
}

/// Settings as the TOML file that would give them; secrets are not shown.
#[must_use]
pub fn print_settings<T: Serialize>(settings: &T) -> String {
    // Structures of named fields always have such a form.
    toml::to_string(settings).unwrap_or_else(|error| format!("# {error}\n"))
}

/// Keys that a commented settings file gives, or shows behind `# ` where they have no default; sorted.
pub fn documented_keys(file: &str) -> Result<Vec<String>, toml::de::Error> {
    let assigns = |line: &&str| line.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '));
    let lines = file.lines().map(|line| line.strip_prefix("# ").filter(assigns).unwrap_or(line));
    let mut keys = keys(&toml::from_str(&lines.collect::<Vec<_>>().join("\n"))?);
    keys.sort();
    Ok(keys)
}

/// All keys of settings, as dotted paths. What holds no further keys is a key, whatever it holds.
#[must_use]
pub fn keys(settings: &Json) -> Vec<String> {
    fn walk(value: &Json, path: &str, found: &mut Vec<String>) {
        match value {
            Json::Object(fields) if !fields.is_empty() => {
                for (key, value) in fields {
                    walk(value, &join(path, key), found);
                }
            }
            _ => found.push(path.to_owned()),
        }
    }
    let mut found = Vec::new();
    walk(settings, "", &mut found);
    found
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// Checks that every key that was given is known.
fn check_keys(
    given: &Json,
    known: &Json,
    renamed: &[(&'static str, &'static str)],
) -> Result<(), SettingsError> {
    let Some(key) = unknown_key(given, known, "") else { return Ok(()) };
    if let Some((_, new)) = renamed.iter().find(|(old, _)| *old == key) {
        return Err(SettingsError::RenamedKey { key, new });
    }
    Err(SettingsError::UnknownKey { nearest: nearest(&key, &keys(known)), key })
}

/// The first key that was given and is not known.
fn unknown_key(given: &Json, known: &Json, path: &str) -> Option<String> {
    let (Json::Object(given), Json::Object(known)) = (given, known) else { return None };
    given.iter().find_map(|(key, value)| match known.get(key) {
        Some(known) => unknown_key(value, known, &join(path, key)),
        None => Some(join(path, key)),
    })
}

fn nearest(key: &str, known: &[String]) -> Option<String> {
    let likeness = |known: &String| strsim::jaro_winkler(key, known);
    known
        .iter()
        .filter(|known| likeness(known) > 0.7)
        .max_by(|a, b| likeness(a).total_cmp(&likeness(b)))
        .cloned()
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;

    #[derive(Debug, PartialEq, Deserialize, Serialize)]
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

    impl Settings for Sample {
        const RENAMED_KEYS: &'static [(&'static str, &'static str)] = &[("workers", "sessions")];
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
    fn an_unknown_key_is_an_error_that_names_it_and_the_one_that_was_meant() {
        let file = file("sesions = 7");
        let error = load_settings::<Sample>("NO_SUCH_PREFIX", Some(file.path()), Overrides::default());
        let message = error.unwrap_err().to_string();
        assert_eq!(message, "settings: unknown key sesions; did you mean sessions?");
    }

    #[test]
    fn rejects_a_renamed_key_and_names_the_new_one() {
        let file = file("workers = 7");
        let error = load_settings::<Sample>("NO_SUCH_PREFIX", Some(file.path()), Overrides::default());
        assert_eq!(error.unwrap_err().to_string(), "settings: workers is now called sessions; rename it");
    }

    #[test]
    fn a_key_that_looks_like_a_place_in_a_list_makes_no_list() {
        for key in ["sessions[9000000000000]", "a[-9223372036854775808]", "a.b"] {
            let file = file(&format!("{key:?} = 7"));
            let error = load_settings::<Sample>("NO_SUCH_PREFIX", Some(file.path()), Overrides::default());
            let message = error.unwrap_err().to_string();
            assert!(message.starts_with(&format!("settings: unknown key {key}")), "{message}");
        }
    }

    #[test]
    fn a_missing_file_is_an_error_that_names_it() {
        let error =
            load_settings::<Sample>("NO_SUCH_PREFIX", Some(Path::new("no/such.toml")), Overrides::default());
        assert!(error.unwrap_err().to_string().contains("no/such.toml"));
    }
}
