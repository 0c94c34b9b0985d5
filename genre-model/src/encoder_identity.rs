//! The identity of the encoder that computed a vector.

use std::fmt;

/// SHA-256 over an encoder bundle, in 64 lowercase hexadecimal digits. Vectors of different
/// fingerprints must not be mixed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Fingerprint(String);

/// A text that is not a fingerprint.
#[derive(Debug, thiserror::Error)]
#[error("expected a fingerprint of 64 lowercase hexadecimal digits, found {found:?}")]
pub struct InvalidFingerprint {
    found: String,
}

impl Fingerprint {
    /// Parses 64 lowercase hexadecimal digits.
    pub fn parse(text: impl Into<String>) -> Result<Self, InvalidFingerprint> {
        let text = text.into();
        let is_lower_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() == 64 && text.bytes().all(is_lower_hex) {
            Ok(Self(text))
        } else {
            Err(InvalidFingerprint { found: text.chars().take(80).collect() })
        }
    }

    /// Returns all 64 digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the first 12 digits, for messages.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The encoder bundle that computed vectors, as recorded with them and with the models fitted on
/// them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncoderIdentity {
    /// The bundle's name, such as `minilm-512`.
    pub id: String,
    /// The bundle's version.
    pub version: String,
    /// The hash over the bundle, which alone decides whether two encoders are the same.
    pub fingerprint: Fingerprint,
}

impl fmt::Display for EncoderIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({})", self.id, self.version, self.fingerprint.short())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_only_64_lowercase_hexadecimal_digits() {
        assert!(Fingerprint::parse("0123456789abcdef".repeat(4)).is_ok());
        for wrong in [String::new(), "A".repeat(64), "a".repeat(63), "g".repeat(64), "é".repeat(32)] {
            assert!(Fingerprint::parse(wrong).is_err());
        }
    }
}
