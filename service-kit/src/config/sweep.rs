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
    /// Whether the key has a default.
    pub has_default: bool,
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
        let has_default = at(&known, key).is_some_and(|default| !default.is_null());
        OneVariable { key: key.clone(), has_default, value, loaded }
    };
    let of_key = |key: String| {
        let values = at(&known, &key).map_or_else(Vec::new, &values);
        values.into_iter().map(|value| load(&key, value)).collect::<Vec<_>>()
    };
    keys(&known).into_iter().flat_map(of_key).collect()
}

/// Returns a default as its variable would give it, or a text that looks like a number if there is
/// no default.
#[must_use]
pub fn own_value(default: &Json) -> Vec<String> {
    vec![match default {
        Json::String(text) => text.clone(),
        Json::Null => "0042".to_owned(),
        value => value.to_string(),
    }]
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
