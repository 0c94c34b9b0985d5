//! Settings from four sources, each overriding the one before: defaults, a TOML file, the
//! environment, flags.
//!
//! The `config` crate merges the sources but accepts unknown keys. `serde_ignored` would report
//! them, but without a suggestion, and only if every value has the right type. This module compares
//! the keys with those of the defaults instead.

use std::collections::BTreeMap;
use std::path::Path;

use config::{Config, Environment, File, FileFormat, Value, ValueKind};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use super::error::SettingsError;
use super::keys::{join, keys, keys_of};
use super::variables::{self, variable_of};

/// The settings of one program. `Serialize` defines the keys, `Default` their values.
pub trait Settings: DeserializeOwned + Serialize + Default {
    /// Keys of earlier releases, each with the key that replaced it. Old keys are rejected with an
    /// error that names the new one.
    const RENAMED_KEYS: &'static [(&'static str, &'static str)] = &[];
}

/// The values of the flags that were given, by key, such as `log.format`.
#[derive(Debug, Clone, Default)]
pub struct Overrides(Vec<(&'static str, Value)>);

impl Overrides {
    /// Sets `key` to the value of a flag, if the flag was given.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: Option<impl Into<Value>>) -> Self {
        self.0.extend(value.map(|value| (key, value.into())));
        self
    }
}

/// Loads settings. The defaults of `T` also define the known keys. The variable `PREFIX_A__B` sets
/// the key `a.b`; lists are written as `a,b` or as JSON. A variable that is empty sets nothing, unless
/// the setting is a text that may be empty; an empty text for a setting without a default sets
/// nothing, wherever it comes from.
///
/// # Errors
/// Fails if the file cannot be read, a key is unknown or renamed, or a value has the wrong type.
pub fn load_settings<T: Settings>(
    prefix: &str,
    file: Option<&Path>,
    flags: Overrides,
) -> Result<T, SettingsError> {
    load_settings_from(&variables::of_process(prefix, std::env::vars_os())?, prefix, file, flags)
}

/// Like [`load_settings`], from these variables instead of those of the process.
pub fn load_settings_from<T: Settings>(
    variables: &BTreeMap<String, String>,
    prefix: &str,
    file: Option<&Path>,
    flags: Overrides,
) -> Result<T, SettingsError> {
    let known = serde_json::to_value(T::default()).unwrap_or_default();
    let variables = variables::of_settings(variables, prefix, &known);
    let mut builder = Config::builder();
    if let Some(path) = file {
        let text = std::fs::read_to_string(path)
            .map_err(|source| SettingsError::File { path: path.to_owned(), source })?;
        // Check the keys before the config crate reads them as paths: it would allocate a list for
        // `"a[999999999]"`. The config crate reports files that are not TOML.
        if let Ok(given) = toml::from_str(&text) {
            let place = format!("settings file {}", path.display());
            check_keys::<T>(&given, &known, |_| place.clone(), str::to_owned)?;
        }
        builder = builder.add_source(File::from_str(&text, FileFormat::Toml));
    }
    let environment = Environment::with_prefix(prefix).prefix_separator("_").separator("__");
    // Values stay strings until the type of their setting is known: the key `0042` is not 42.
    builder = builder.add_source(environment.source(Some(variables.clone().into_iter().collect())));
    for key in keys_of(&known, Json::is_array) {
        let variable = variable_of(prefix, &key);
        if let Some(text) = variables.get(&variable) {
            let list = list(text).map_err(|source| SettingsError::List { variable, source })?;
            builder = builder.set_override(key, list)?;
        }
    }
    for (key, value) in flags.0 {
        builder = builder.set_override(key, value)?;
    }
    let mut settings = builder.build_cloned()?;
    for key in keys_of(&known, Json::is_null) {
        if settings.get_string(&key).is_ok_and(|text| text.is_empty()) {
            builder = builder.set_override(key, Value::new(None, ValueKind::Nil))?;
            settings = builder.build_cloned()?;
        }
    }
    // The keys of the file are already checked and those of flags are known, so an unknown key
    // comes from the environment.
    let variable = |key: &str| variable_of(prefix, key);
    let place = |key: &str| format!("environment variable {}", variable(key));
    check_keys::<T>(&settings.clone().try_deserialize()?, &known, place, variable)?;
    Ok(settings.try_deserialize()?)
}

/// Parses a list: JSON if it begins like it, otherwise strings separated by commas.
fn list(text: &str) -> Result<Vec<Value>, serde_json::Error> {
    if text.trim_start().starts_with('[') {
        return serde_json::from_str(text);
    }
    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
    Ok(items.map(Value::from).collect())
}

/// Returns settings as a TOML file, without the values of secrets.
#[must_use]
pub fn print_settings<T: Serialize>(settings: &T) -> String {
    // Structs with named fields always have a TOML form.
    toml::to_string(settings).unwrap_or_else(|error| format!("# {error}\n"))
}

/// Returns the keys of a documented settings file, sorted. Includes keys that are commented out
/// because they have no default.
pub fn documented_keys(file: &str) -> Result<Vec<String>, toml::de::Error> {
    let assigns = |line: &&str| line.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '));
    let lines = file.lines().map(|line| line.strip_prefix("# ").filter(assigns).unwrap_or(line));
    let mut keys = keys(&toml::from_str(&lines.collect::<Vec<_>>().join("\n"))?);
    keys.sort();
    Ok(keys)
}

/// Checks that every given key is known. `place` names the file or variable that has a key, and
/// `name` is how a key is written there.
fn check_keys<T: Settings>(
    given: &Json,
    known: &Json,
    place: impl Fn(&str) -> String,
    name: impl Fn(&str) -> String,
) -> Result<(), SettingsError> {
    let Some(key) = unknown_key(given, known, "") else { return Ok(()) };
    let place = place(&key);
    if let Some((_, new)) = T::RENAMED_KEYS.iter().find(|(old, _)| *old == key) {
        return Err(SettingsError::RenamedKey { place, key, new });
    }
    let nearest = nearest(&key, &keys(known)).map(|key| name(&key));
    Err(SettingsError::UnknownKey { place, nearest, key })
}

/// Returns the first given key that is not known.
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
    use std::path::PathBuf;

    use serde::{Deserialize, Serialize};

    use super::*;

    #[derive(Debug, PartialEq, Deserialize, Serialize)]
    #[serde(default, deny_unknown_fields)]
    struct Sample {
        listen: String,
        sessions: usize,
        drain_seconds: f64,
        cache: bool,
        key: Option<crate::Secret>,
        origins: Vec<String>,
        nested: Nested,
    }

    #[derive(Debug, Default, PartialEq, Deserialize, Serialize)]
    #[serde(default, deny_unknown_fields)]
    struct Nested {
        file: Option<PathBuf>,
        tables: Vec<BTreeMap<String, usize>>,
    }

    impl Default for Sample {
        fn default() -> Self {
            Self {
                listen: "127.0.0.1:1".to_owned(),
                sessions: 2,
                drain_seconds: 1.5,
                cache: false,
                key: None,
                origins: Vec::new(),
                nested: Nested::default(),
            }
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
    fn flags_override_the_file_and_the_file_overrides_defaults() {
        let file = file("sessions = 7\nlisten = \"a\"");
        let flags = Overrides::default().with("listen", Some("b")).with("sessions", None::<u64>);
        let settings: Sample = load_settings("NO_SUCH_PREFIX", Some(file.path()), flags).unwrap();
        assert_eq!(settings, Sample { listen: "b".to_owned(), sessions: 7, ..Sample::default() });
    }

    fn from_variable(name: &str, value: &str) -> Result<Sample, SettingsError> {
        let variables = BTreeMap::from([(format!("P_{name}"), value.to_owned())]);
        load_settings_from(&variables, "P", None, Overrides::default())
    }

    #[test]
    fn a_variable_of_a_string_stays_as_it_is_written() {
        for text in ["0042", "1e5", "true", "007", "-0", "1.50", "null", "[1]", " a "] {
            let key = from_variable("KEY", text).unwrap().key.unwrap();
            assert_eq!(key.expose(), text);
            assert_eq!(from_variable("LISTEN", text).unwrap().listen, text);
            assert_eq!(from_variable("NESTED__FILE", text).unwrap().nested.file, Some(text.into()));
            assert_eq!(from_variable("ORIGINS", "0042, 1e5").unwrap().origins, ["0042", "1e5"]);
        }
    }

    #[test]
    fn a_variable_takes_the_type_of_its_setting() {
        assert_eq!(from_variable("SESSIONS", "42").unwrap().sessions, 42);
        assert_eq!(from_variable("DRAIN_SECONDS", "7").unwrap().drain_seconds.to_string(), "7");
        assert!(from_variable("CACHE", "true").unwrap().cache);
        assert_eq!(from_variable("ORIGINS", r#"["a,b", "c"]"#).unwrap().origins, ["a,b", "c"]);
        assert_eq!(from_variable("ORIGINS", "").unwrap().origins, [""; 0]);
        assert_eq!(from_variable("NESTED__TABLES", r#"[{"a": 1}]"#).unwrap().nested.tables[0]["a"], 1);
        for (name, wrong) in [("SESSIONS", "many"), ("SESSIONS", "-1"), ("CACHE", "maybe"), ("ORIGINS", "[a")]
        {
            assert!(from_variable(name, wrong).is_err(), "{name}={wrong}");
        }
    }

    #[test]
    fn an_unknown_variable_is_named() {
        let message = from_variable("SESIONS", "1").unwrap_err().to_string();
        assert_eq!(message, "environment variable P_SESIONS: unknown key sesions; did you mean P_SESSIONS?");
        let message = from_variable("NESTED_FILE", "a").unwrap_err().to_string();
        assert!(message.ends_with("did you mean P_NESTED__FILE?"), "{message}");
    }

    #[test]
    fn an_empty_variable_sets_nothing_unless_its_setting_may_be_empty() {
        for name in ["KEY", "SESSIONS", "DRAIN_SECONDS", "CACHE", "ORIGINS", "NESTED__FILE", "NESTED__TABLES"]
        {
            assert_eq!(from_variable(name, "").unwrap(), Sample::default(), "{name}");
        }
        assert_eq!(from_variable("LISTEN", "").unwrap().listen, "");
        let file = file("key = \"from the file\"\norigins = [\"a\"]\n[nested]\nfile = \"\"");
        let variables = BTreeMap::from([("P_KEY".to_owned(), String::new())]);
        let loaded: Sample =
            load_settings_from(&variables, "P", Some(file.path()), Overrides::default()).unwrap();
        assert_eq!(loaded.key.unwrap().expose(), "from the file");
        assert_eq!((loaded.nested.file, loaded.origins), (None, vec!["a".to_owned()]));
        let flags = Overrides::default().with("nested.file", Some(""));
        let loaded: Sample = load_settings_from(&BTreeMap::new(), "P", None, flags).unwrap();
        assert_eq!(loaded, Sample::default());
    }

    #[test]
    fn the_variables_of_a_kubernetes_service_set_nothing() {
        for (name, value) in
            [("PORT", "tcp://10.0.0.1:80"), ("SERVICE_HOST", "10.0.0.1"), ("X_PORT_80_TCP", "")]
        {
            assert_eq!(from_variable(name, value).unwrap(), Sample::default(), "{name}");
        }
    }

    #[test]
    fn a_value_of_another_type_names_its_key() {
        for (name, wrong, key) in [("SESSIONS", "many", "sessions"), ("NESTED__TABLES", "1", "nested.tables")]
        {
            let message = from_variable(name, wrong).unwrap_err().to_string();
            assert!(message.contains(key) && message.contains(wrong), "{message}");
        }
    }

    #[test]
    fn rejects_an_unknown_key_and_suggests_the_nearest() {
        let file = file("sesions = 7");
        let error = load_settings::<Sample>("NO_SUCH_PREFIX", Some(file.path()), Overrides::default());
        let message = error.unwrap_err().to_string();
        assert!(
            message.starts_with("settings file ") && message.contains(&*file.path().to_string_lossy()),
            "{message}"
        );
        assert!(message.ends_with(": unknown key sesions; did you mean sessions?"), "{message}");
    }

    #[test]
    fn rejects_a_renamed_key_and_names_the_new_one() {
        let file = file("workers = 7");
        let error = load_settings::<Sample>("NO_SUCH_PREFIX", Some(file.path()), Overrides::default());
        let message = error.unwrap_err().to_string();
        assert!(message.starts_with("settings file "), "{message}");
        assert!(message.ends_with(": key workers is now called sessions; rename it"), "{message}");
    }

    #[test]
    fn rejects_keys_that_look_like_list_elements() {
        for key in ["sessions[9000000000000]", "a[-9223372036854775808]", "a.b"] {
            let file = file(&format!("{key:?} = 7"));
            let error = load_settings::<Sample>("NO_SUCH_PREFIX", Some(file.path()), Overrides::default());
            let message = error.unwrap_err().to_string();
            assert!(message.contains(&format!(": unknown key {key}")), "{message}");
        }
    }

    #[test]
    fn names_a_missing_file() {
        let error =
            load_settings::<Sample>("NO_SUCH_PREFIX", Some(Path::new("no/such.toml")), Overrides::default());
        assert!(error.unwrap_err().to_string().contains("no/such.toml"));
    }
}
