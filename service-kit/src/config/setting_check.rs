//! From a setting as it is written to a value that can be used.

use std::net::SocketAddr;
use std::time::Duration;

/// A setting that makes no sense.
#[derive(Debug, thiserror::Error)]
#[error("setting {key}: expected {expected}, found {found}")]
pub struct InvalidSetting {
    /// Which one, such as `limits.max_batch_size`.
    pub key: &'static str,
    /// What it must be.
    pub expected: String,
    /// What it is.
    pub found: String,
}

/// A count between `from` and `to`, both included.
pub fn in_range(key: &'static str, found: usize, from: usize, to: usize) -> Result<usize, InvalidSetting> {
    if (from..=to).contains(&found) {
        return Ok(found);
    }
    Err(InvalidSetting { key, expected: format!("{from} to {to}"), found: found.to_string() })
}

/// A duration in seconds.
pub fn seconds(key: &'static str, found: f64) -> Result<Duration, InvalidSetting> {
    Duration::try_from_secs_f64(found).map_err(|_| InvalidSetting {
        key,
        expected: "a number of seconds, 0 or more".to_owned(),
        found: found.to_string(),
    })
}

/// An address to listen on.
pub fn listen_address(key: &'static str, found: &str) -> Result<SocketAddr, InvalidSetting> {
    found.parse().map_err(|_| InvalidSetting {
        key,
        expected: "an address and port such as 127.0.0.1:50051".to_owned(),
        found: format!("{found:?}"),
    })
}

/// The same, or nothing where the setting is empty.
pub fn optional_listen_address(key: &'static str, found: &str) -> Result<Option<SocketAddr>, InvalidSetting> {
    if found.trim().is_empty() { Ok(None) } else { listen_address(key, found).map(Some) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_out_of_range_is_named_with_its_bounds() {
        let message = in_range("limits.a", 0, 1, 9).unwrap_err().to_string();
        assert_eq!(message, "setting limits.a: expected 1 to 9, found 0");
        assert!(seconds("drain_seconds", -1.0).is_err());
        assert!(seconds("drain_seconds", f64::NAN).is_err());
        assert!(listen_address("listen", "localhost").is_err());
    }
}
