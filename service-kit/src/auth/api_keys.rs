//! The configured keys, and the check that a request's key passes.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::{ApiError, InvalidSetting};

/// Who may call.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthSettings {
    /// The keys; empty lets everybody in.
    pub keys: Vec<ApiKeySettings>,
}

/// One key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKeySettings {
    /// Whose it is, for logs.
    pub name: String,
    /// SHA-256 of the key, 64 hexadecimal digits: `printf %s KEY | sha256sum`.
    pub sha256: String,
    /// Calls a second; 0 for no limit.
    #[serde(default)]
    pub requests_per_second: u32,
    /// Calls that may come at once; 0 for as many as a second's.
    #[serde(default)]
    pub burst: u32,
}

/// The checked keys. Clones share their counts.
#[derive(Clone)]
pub struct ApiKeys(Arc<Vec<ApiKey>>);

struct ApiKey {
    name: String,
    hash: [u8; 32],
    limiter: Option<DefaultDirectRateLimiter>,
}

impl ApiKeys {
    /// `None` where everybody may call.
    pub fn new(settings: &AuthSettings) -> Result<Option<Self>, InvalidSetting> {
        let keys: Vec<_> = settings.keys.iter().map(ApiKey::new).collect::<Result<_, _>>()?;
        Ok((!keys.is_empty()).then(|| Self(Arc::new(keys))))
    }

    /// The name of the key that `headers` carry, as `Authorization: Bearer KEY` or `x-api-key: KEY`.
    pub fn check(&self, headers: &HeaderMap) -> Result<&str, ApiError> {
        let given = key_in(headers).ok_or(ApiError::Unauthenticated { message: MISSING })?;
        let hash = Sha256::digest(given);
        // Every key is compared, and each in constant time: how long this takes says nothing about any of them.
        let mut found = None;
        for key in self.0.iter() {
            if bool::from(key.hash.ct_eq(hash.as_slice())) {
                found = Some(key);
            }
        }
        let key = found.ok_or(ApiError::Unauthenticated { message: UNKNOWN })?;
        match key.limiter.as_ref().map(DefaultDirectRateLimiter::check) {
            None | Some(Ok(())) => Ok(&key.name),
            Some(Err(too_soon)) => {
                let retry_after = too_soon.wait_time_from(DefaultClock::default().now());
                // A hint of nothing would be taken as none at all.
                Err(ApiError::RateLimited { retry_after: retry_after.max(Duration::from_millis(1)) })
            }
        }
    }
}

impl std::fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|key| &key.name)).finish()
    }
}

const MISSING: &str = "expected an API key in the header \"authorization: Bearer KEY\", found none";
const UNKNOWN: &str = "the API key is not one of those configured here";

fn key_in(headers: &HeaderMap) -> Option<&[u8]> {
    let bearer = headers.get(AUTHORIZATION).and_then(|value| {
        let (scheme, key) = value.as_bytes().split_at_checked("bearer ".len())?;
        scheme.eq_ignore_ascii_case(b"bearer ").then_some(key)
    });
    let key = bearer.or_else(|| headers.get("x-api-key").map(http::HeaderValue::as_bytes))?;
    Some(key.trim_ascii()).filter(|key| !key.is_empty())
}

impl ApiKey {
    fn new(settings: &ApiKeySettings) -> Result<Self, InvalidSetting> {
        let mut hash = [0; 32];
        hex::decode_to_slice(settings.sha256.trim(), &mut hash).map_err(|_| InvalidSetting {
            key: "auth.keys.sha256",
            expected: "64 hexadecimal digits, as `printf %s KEY | sha256sum` prints".to_owned(),
            // Not what was found: somebody may have written the key itself.
            found: format!("something else for {:?}", settings.name),
        })?;
        let limiter = NonZeroU32::new(settings.requests_per_second).map(|rate| {
            let burst = NonZeroU32::new(settings.burst).unwrap_or(rate);
            RateLimiter::direct(Quota::per_second(rate).allow_burst(burst))
        });
        Ok(Self { name: settings.name.clone(), hash, limiter })
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn keys(requests_per_second: u32) -> ApiKeys {
        let key = |name: &str, key: &str| ApiKeySettings {
            name: name.to_owned(),
            sha256: hex::encode(Sha256::digest(key)),
            requests_per_second,
            burst: 0,
        };
        let settings = AuthSettings { keys: vec![key("first", "one"), key("second", "two")] };
        ApiKeys::new(&settings).unwrap().unwrap()
    }

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(http::HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn a_key_is_taken_from_either_header_and_known_by_its_name() {
        let keys = keys(0);
        assert_eq!(keys.check(&headers("authorization", "Bearer two")), Ok("second"));
        assert_eq!(keys.check(&headers("authorization", "bearer  one ")), Ok("first"));
        assert_eq!(keys.check(&headers("x-api-key", "one")), Ok("first"));
    }

    #[test]
    fn no_key_and_another_key_are_refused() {
        let keys = keys(0);
        let wrong = [
            HeaderMap::new(),
            headers("authorization", "Bearer three"),
            headers("authorization", "Basic one"),
            headers("authorization", "Bearer "),
            headers("authorization", "on"),
            headers("x-api-key", ""),
        ];
        for headers in wrong {
            assert!(matches!(keys.check(&headers), Err(ApiError::Unauthenticated { .. })), "{headers:?}");
        }
    }

    #[test]
    fn a_key_over_its_rate_is_told_when_to_come_back_and_the_other_is_not() {
        let keys = keys(2);
        let first = headers("x-api-key", "one");
        let answers: Vec<_> = (0..3).map(|_| keys.check(&first)).collect();
        assert!(answers[..2].iter().all(Result::is_ok));
        let Err(ApiError::RateLimited { retry_after }) = &answers[2] else { panic!("{answers:?}") };
        assert!(*retry_after <= Duration::from_millis(500), "{retry_after:?}");
        assert!(keys.check(&headers("x-api-key", "two")).is_ok());
    }

    #[test]
    fn a_key_in_place_of_its_hash_is_refused_without_being_shown() {
        let settings = AuthSettings {
            keys: vec![ApiKeySettings {
                name: "ci".to_owned(),
                sha256: "my-secret".to_owned(),
                requests_per_second: 0,
                burst: 0,
            }],
        };
        let message = ApiKeys::new(&settings).err().unwrap().to_string();
        assert!(message.contains("ci") && !message.contains("my-secret"), "{message}");
        assert!(ApiKeys::new(&AuthSettings::default()).unwrap().is_none());
    }
}
