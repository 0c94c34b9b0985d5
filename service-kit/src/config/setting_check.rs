//! Checks that turn a setting as written into a usable value.

use std::net::SocketAddr;
use std::time::Duration;

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

/// Converts a number of seconds.
pub fn seconds(key: &'static str, found: f64) -> Result<Duration, InvalidSetting> {
    Duration::try_from_secs_f64(found).map_err(|_| InvalidSetting {
        key,
        expected: "a number of seconds, 0 or more".to_owned(),
        found: found.to_string(),
    })
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
        assert!(listen_address("listen", "localhost").is_err());
    }
}
