//! Loads settings from one environment variable after the other. The tests of every service use this
//! to reach all their keys.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::error::SettingsError;
use super::keys::{at, keys};
use super::settings::{Overrides, Settings, load_settings_from};
use super::variables::variable_of;

/// Settings loaded from the variable of one key alone.
#[derive(Debug)]
pub struct OneVariable<T> {
    /// The key, such as `log.format`.
    pub key: String,
    /// The value of its variable.
    pub value: String,
    /// The outcome.
    pub loaded: Result<T, SettingsError>,
}

/// Loads the settings once for each key and each of the values that `values` returns for the key's
/// default.
pub fn load_each<T: Settings>(prefix: &str, values: impl Fn(&Json) -> Vec<String>) -> Vec<OneVariable<T>> {
    let known = serde_json::to_value(T::default()).unwrap_or_default();
    let load = |key: &String, value: String| {
        let variables = BTreeMap::from([(variable_of(prefix, key), value.clone())]);
        let loaded = load_settings_from(&variables, prefix, None, Overrides::default());
        OneVariable { key: key.clone(), value, loaded }
    };
    let of_key = |key: String| {
        let values = at(&known, &key).map_or_else(Vec::new, &values);
        values.into_iter().map(|value| load(&key, value)).collect::<Vec<_>>()
    };
    keys(&known).into_iter().flat_map(of_key).collect()
}

/// Returns the keys that their variables cannot change.
#[must_use]
pub fn unchangeable_keys<T: Settings + PartialEq>(prefix: &str) -> Vec<String> {
    let default = T::default();
    let sets = load_each::<T>(prefix, other_values);
    let changes = |set: &OneVariable<T>| set.loaded.as_ref().is_ok_and(|loaded| *loaded != default);
    let can_change = |key: &String| sets.iter().any(|set| set.key == *key && changes(set));
    let mut keys = keys(&serde_json::to_value(&default).unwrap_or_default());
    keys.retain(|key| !can_change(key));
    keys
}

/// Returns values of which at least one is valid for the setting with this default, and all differ
/// from it.
fn other_values(default: &Json) -> Vec<String> {
    /// The words of settings that accept only some.
    const WORDS: [&str; 4] = ["cuda", "off", "json", "kubernetes"];
    match default {
        Json::Null | Json::Object(_) => vec!["0042".to_owned()],
        Json::Bool(value) => vec![(!value).to_string()],
        Json::Number(number) => vec![match number.as_u64() {
            Some(number) => number.saturating_add(1).to_string(),
            None => (number.as_f64().unwrap_or_default() + 1.0).to_string(),
        }],
        Json::String(text) => {
            let words = WORDS.iter().map(|word| (*word).to_owned()).filter(|word| word != text);
            words.chain([format!("{text}x")]).collect()
        }
        Json::Array(_) => vec!["x".to_owned(), r#"[{"name": "x", "sha256": "x"}]"#.to_owned()],
    }
}

/// Returns values with which nothing could work if the setting is a number, or else none.
#[must_use]
pub fn impossible_numbers(default: &Json) -> Vec<String> {
    let too_large = match default {
        Json::Number(number) if number.is_f64() => "1e300",
        Json::Number(_) => "9000000000000000000",
        _ => return Vec::new(),
    };
    ["-1", too_large].map(str::to_owned).to_vec()
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;

    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(default)]
    struct Sample {
        text: String,
        list: Vec<String>,
        number: u8,
        ratio: f64,
        nothing: Option<String>,
        #[serde(skip_deserializing)]
        ignored: bool,
    }

    impl Settings for Sample {}

    #[test]
    fn finds_a_key_that_its_variable_does_not_change() {
        assert_eq!(unchangeable_keys::<Sample>("SAMPLE"), ["ignored"]);
    }
}
