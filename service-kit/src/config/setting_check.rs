//! Checks that turn a setting as written into a usable value.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::de::value::StringDeserializer;
use serde::de::{Deserialize, Deserializer, IntoDeserializer as _};

/// The longest duration of a setting, 30 years. Longer ones would not fit into the system's clock.
const MAX_SECONDS: f64 = 1e9;

/// An invalid setting.
#[derive(Debug, thiserror::Error)]
#[error("setting {key}: expected {expected}, found {found}")]
pub struct InvalidSetting {
    /// The key, such as `limits.max_batch_size`.
    pub key: &'static str,
    /// The expected value.
    pub expected: String,
    /// The value found.
    pub found: String,
}

/// Returns `found` if it is between `from` and `to`, both included.
pub fn in_range(key: &'static str, found: usize, from: usize, to: usize) -> Result<usize, InvalidSetting> {
    if (from..=to).contains(&found) {
        return Ok(found);
    }
    Err(InvalidSetting { key, expected: format!("{from} to {to}"), found: found.to_string() })
}

/// Checks the most open connections of a listener.
pub fn connections(key: &'static str, found: usize) -> Result<usize, InvalidSetting> {
    in_range(key, found, 1, 1 << 20)
}

/// Converts a number of seconds, which may be 0.
pub fn seconds(key: &'static str, found: f64) -> Result<Duration, InvalidSetting> {
    seconds_from(key, found, 0.0)
}

/// Converts a number of seconds that must not be 0: the time between repetitions, or a limit that
/// nothing could keep.
pub fn positive_seconds(key: &'static str, found: f64) -> Result<Duration, InvalidSetting> {
    seconds_from(key, found, 0.001)
}

fn seconds_from(key: &'static str, found: f64, least: f64) -> Result<Duration, InvalidSetting> {
    if (least..=MAX_SECONDS).contains(&found) {
        return Ok(Duration::from_secs_f64(found));
    }
    let expected = format!("a number of seconds from {least} to {MAX_SECONDS}");
    Err(InvalidSetting { key, expected, found: found.to_string() })
}

/// Checks that a path is not empty.
pub fn path(key: &'static str, found: PathBuf) -> Result<PathBuf, InvalidSetting> {
    if found.as_os_str().is_empty() {
        return Err(InvalidSetting { key, expected: "a path".to_owned(), found: "none".to_owned() });
    }
    Ok(found)
}

/// Deserializes one of several words in any case; for `deserialize_with`.
pub fn word<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    let word = String::deserialize(deserializer)?.trim().to_ascii_lowercase();
    let word: StringDeserializer<D::Error> = word.into_deserializer();
    T::deserialize(word)
}

/// Converts a number of seconds between `from` and `to`, both included.
pub(crate) fn seconds_between(
    key: &'static str,
    found: f64,
    from: f64,
    to: f64,
) -> Result<Duration, InvalidSetting> {
    if (from..=to).contains(&found) {
        return seconds(key, found);
    }
    Err(InvalidSetting { key, expected: format!("{from} to {to} seconds"), found: found.to_string() })
}

/// Parses an address to listen on.
pub fn listen_address(key: &'static str, found: &str) -> Result<SocketAddr, InvalidSetting> {
    found.parse().map_err(|_| InvalidSetting {
        key,
        expected: "an address and port such as 127.0.0.1:50051".to_owned(),
        found: format!("{found:?}"),
    })
}

/// Parses an address to listen on, or returns `None` if the setting is empty.
pub fn optional_listen_address(key: &'static str, found: &str) -> Result<Option<SocketAddr>, InvalidSetting> {
    if found.trim().is_empty() { Ok(None) } else { listen_address(key, found).map(Some) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_setting_and_its_bounds() {
        let message = in_range("limits.a", 0, 1, 9).unwrap_err().to_string();
        assert_eq!(message, "setting limits.a: expected 1 to 9, found 0");
        assert!(seconds("drain_seconds", -1.0).is_err());
        assert!(seconds("drain_seconds", f64::NAN).is_err());
        assert!(seconds("drain_seconds", f64::INFINITY).is_err());
        assert!(seconds("drain_seconds", 0.0).is_ok() && seconds("drain_seconds", 1e9).is_ok());
        let message = positive_seconds("rest.timeout_seconds", 0.0).unwrap_err().to_string();
        assert_eq!(
            message,
            "setting rest.timeout_seconds: expected a number of seconds from 0.001 to 1000000000, found 0"
        );
        assert!(path("model", PathBuf::new()).is_err());
        assert!(listen_address("listen", "localhost").is_err());
    }
}
