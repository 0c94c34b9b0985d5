//! The configured API keys and the check of a request's key.
//!
//! The governor crate enforces the rate limits. The authorization layers of tower-http do not fit:
//! they compare one fixed header value and have no rate limits.

use std::num::NonZeroU32;
use std::sync::Arc;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::caller::Caller;
use super::text_quota::{TextQuota, wait};
use crate::{ApiError, InvalidSetting};

/// The header of an API key, besides `Authorization: Bearer`.
pub const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Settings of API keys.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthSettings {
    /// The accepted keys. If empty, every call is admitted.
    pub keys: Vec<ApiKeySettings>,
}

/// Settings of one API key.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKeySettings {
    /// The owner's name, for logs.
    pub name: String,
    /// SHA-256 of the key in 64 hexadecimal digits, as `printf %s KEY | sha256sum` prints it.
    pub sha256: String,
    /// Calls per second; 0 for no limit.
    #[serde(default)]
    pub requests_per_second: u32,
    /// Calls that may arrive at once; 0 allows one second's worth.
    #[serde(default)]
    pub burst: u32,
    /// Texts or movies per second, over all calls; 0 for no limit.
    #[serde(default)]
    pub texts_per_second: u32,
    /// Texts or movies that may arrive at once; 0 allows one second's worth.
    #[serde(default)]
    pub texts_burst: u32,
    /// Whether the client is a service that names its own callers, so that each of them gets a
    /// share of its own.
    #[serde(default)]
    pub forwards_callers: bool,
}

/// The accepted API keys and their rate limiters. Clones share the limiters.
#[derive(Clone)]
pub struct ApiKeys(Arc<Vec<ApiKey>>);

struct ApiKey {
    name: String,
    hash: [u8; 32],
    limiter: Option<DefaultDirectRateLimiter>,
    caller: Caller,
    forwards_callers: bool,
}

impl ApiKeys {
    /// Checks the settings. Returns `None` if they list no keys; then every client may call.
    pub fn new(settings: &AuthSettings) -> Result<Option<Self>, InvalidSetting> {
        let keys: Vec<ApiKey> = settings.keys.iter().map(ApiKey::new).collect::<Result<_, _>>()?;
        for (index, key) in keys.iter().enumerate() {
            if let Some(other) = keys[..index].iter().find(|other| other.hash == key.hash) {
                return Err(InvalidSetting {
                    key: "auth.keys.sha256",
                    expected: "another key for each name".to_owned(),
                    found: format!("the same for {:?} and {:?}", other.name, key.name),
                });
            }
        }
        Ok((!keys.is_empty()).then(|| Self(Arc::new(keys))))
    }

    /// Whether the headers have one of the keys.
    pub(crate) fn know(&self, headers: &HeaderMap) -> bool {
        self.find(headers).is_ok()
    }

    /// Returns the caller with the key in `Authorization: Bearer KEY` or `x-api-key: KEY`, and
    /// counts the call against the key's rate limit.
    pub fn check(&self, headers: &HeaderMap) -> Result<Caller, ApiError> {
        let key = self.find(headers)?;
        match key.limiter.as_ref().map(DefaultDirectRateLimiter::check) {
            None | Some(Ok(())) => {
                let caller = key.caller.clone();
                Ok(if key.forwards_callers { caller.on_behalf(headers) } else { caller })
            }
            Some(Err(too_soon)) => Err(ApiError::RateLimited { retry_after: wait(&too_soon) }),
        }
    }

    fn find(&self, headers: &HeaderMap) -> Result<&ApiKey, ApiError> {
        let given = key_in(headers).ok_or(ApiError::Unauthenticated { message: MISSING })?;
        let hash = Sha256::digest(given);
        // Compare with every key, each in constant time, so that the duration reveals nothing about
        // the keys.
        let mut found = None;
        for key in self.0.iter() {
            if bool::from(key.hash.ct_eq(hash.as_slice())) {
                found = Some(key);
            }
        }
        found.ok_or(ApiError::Unauthenticated { message: UNKNOWN })
    }
}

impl std::fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|key| &key.name)).finish()
    }
}

const MISSING: &str = "expected an API key in the header \"authorization: Bearer KEY\", found none";
const UNKNOWN: &str = "the API key is not one of the configured keys";

fn key_in(headers: &HeaderMap) -> Option<&[u8]> {
    let bearer = headers.get(AUTHORIZATION).and_then(|value| {
        let (scheme, key) = value.as_bytes().split_at_checked("bearer ".len())?;
        scheme.eq_ignore_ascii_case(b"bearer ").then_some(key)
    });
    let key = bearer.or_else(|| headers.get(API_KEY).map(http::HeaderValue::as_bytes))?;
    Some(key.trim_ascii()).filter(|key| !key.is_empty())
}

impl ApiKey {
    fn new(settings: &ApiKeySettings) -> Result<Self, InvalidSetting> {
        let mut hash = [0; 32];
        hex::decode_to_slice(settings.sha256.trim(), &mut hash).map_err(|_| InvalidSetting {
            key: "auth.keys.sha256",
            expected: "64 hexadecimal digits, as `printf %s KEY | sha256sum` prints".to_owned(),
            // The value is not shown, because it may be the key itself.
            found: format!("something else for {:?}", settings.name),
        })?;
        let invalid = |key, expected: &str| InvalidSetting {
            key,
            expected: expected.to_owned(),
            found: format!("none for {:?}", settings.name),
        };
        if settings.name.trim().is_empty() {
            return Err(invalid("auth.keys.name", "the name of the key's owner"));
        }
        if settings.burst > 0 && settings.requests_per_second == 0 {
            return Err(invalid("auth.keys.requests_per_second", "a rate, because burst is set"));
        }
        if settings.texts_burst > 0 && settings.texts_per_second == 0 {
            return Err(invalid("auth.keys.texts_per_second", "a rate, because texts_burst is set"));
        }
        let limiter = quota(settings.requests_per_second, settings.burst).map(RateLimiter::direct);
        let texts = quota(settings.texts_per_second, settings.texts_burst).map(TextQuota::new);
        let caller = Caller::of_key(&settings.name, texts.map(Arc::new));
        let forwards_callers = settings.forwards_callers;
        Ok(Self { name: settings.name.clone(), hash, limiter, caller, forwards_callers })
    }
}

/// Returns the quota of a rate and a burst, where 0 means their defaults.
fn quota(per_second: u32, burst: u32) -> Option<Quota> {
    let rate = NonZeroU32::new(per_second)?;
    Some(Quota::per_second(rate).allow_burst(NonZeroU32::new(burst).unwrap_or(rate)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::HeaderValue;

    use super::*;
    use crate::CallerId;

    fn keys(requests_per_second: u32) -> ApiKeys {
        let key = |name: &str, key: &str| ApiKeySettings {
            name: name.to_owned(),
            sha256: hex::encode(Sha256::digest(key)),
            requests_per_second,
            ..ApiKeySettings::default()
        };
        let settings = AuthSettings { keys: vec![key("first", "one"), key("second", "two")] };
        ApiKeys::new(&settings).unwrap().unwrap()
    }

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(http::HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn finds_a_key_in_either_header() {
        let keys = keys(0);
        let caller = |name, value| keys.check(&headers(name, value)).unwrap().id();
        assert_eq!(caller("authorization", "Bearer two"), CallerId::of_key("second"));
        assert_eq!(caller("authorization", "bearer  one "), CallerId::of_key("first"));
        assert_eq!(caller("x-api-key", "one"), CallerId::of_key("first"));
    }

    #[test]
    fn rejects_missing_and_unknown_keys() {
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
    fn limits_the_rate_of_each_key_and_says_when_to_retry() {
        let keys = keys(2);
        let first = headers("x-api-key", "one");
        let results: Vec<_> = (0..3).map(|_| keys.check(&first)).collect();
        assert!(results[..2].iter().all(Result::is_ok));
        let Err(ApiError::RateLimited { retry_after }) = &results[2] else { panic!("{results:?}") };
        assert!(*retry_after <= Duration::from_millis(500), "{retry_after:?}");
        assert!(keys.check(&headers("x-api-key", "two")).is_ok());
    }

    #[test]
    fn only_a_key_that_forwards_callers_may_name_them() {
        let key = |name: &str, forwards_callers| ApiKeySettings {
            name: name.to_owned(),
            sha256: hex::encode(Sha256::digest(name)),
            forwards_callers,
            ..ApiKeySettings::default()
        };
        let settings = AuthSettings { keys: vec![key("service", true), key("person", false)] };
        let keys = ApiKeys::new(&settings).unwrap().unwrap();
        let caller = |key, tag| {
            let mut headers = headers("x-api-key", key);
            headers.insert(crate::CALLER_TAG, HeaderValue::from_static(tag));
            keys.check(&headers).unwrap().id()
        };
        assert_ne!(caller("service", "a"), caller("service", "b"));
        assert_eq!(caller("person", "a"), CallerId::of_key("person"));
    }

    #[test]
    fn rejects_one_key_under_two_names() {
        let key = |name: &str| ApiKeySettings {
            name: name.to_owned(),
            sha256: hex::encode(Sha256::digest("one")),
            ..ApiKeySettings::default()
        };
        let settings = AuthSettings { keys: vec![key("first"), key("second")] };
        let error = ApiKeys::new(&settings).err().unwrap();
        assert!(error.found.contains("first") && error.found.contains("second"), "{error:?}");
    }

    #[test]
    fn rejects_a_key_in_place_of_its_hash_without_showing_it() {
        let settings = AuthSettings {
            keys: vec![ApiKeySettings {
                name: "ci".to_owned(),
                sha256: "my-secret".to_owned(),
                ..ApiKeySettings::default()
            }],
        };
        let message = ApiKeys::new(&settings).err().unwrap().to_string();
        assert!(message.contains("ci") && !message.contains("my-secret"), "{message}");
        assert!(ApiKeys::new(&AuthSettings::default()).unwrap().is_none());
    }
}
