//! Whose call it is: the identity by which services share their work fairly, and its text quota.
//!
//! A caller is an API key or, without one, a connection. A service that calls another one on behalf
//! of its own callers names each by a tag in the header [`CALLER_TAG`], so that they stay separate
//! callers there.

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use http::{Extensions, HeaderMap, HeaderValue};
use sha2::{Digest as _, Sha256};

use super::text_quota::TextQuota;
use crate::{ApiError, Deadline};

/// The header in which a service names its own caller to the service that it calls.
pub const CALLER_TAG: &str = "x-caller-tag";
/// The longest tag that is read; a longer one is ignored.
const MAX_TAG_BYTES: usize = 64;

/// The identity of a caller. Equal ids share one share of the work.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallerId(u64);

impl CallerId {
    /// The one caller of calls without a key and a connection, such as those within a process.
    pub const UNKNOWN: Self = Self(0);

    /// The caller with an API key of this name; the same in every process.
    #[must_use]
    pub fn of_key(name: &str) -> Self {
        Self::of(&[b"key", name.as_bytes()])
    }

    /// A new caller for a connection that was just opened.
    pub(crate) fn of_new_connection() -> Self {
        // Two processes that forward their callers to a third must not use the same ids.
        static NEXT: LazyLock<AtomicU64> = LazyLock::new(|| AtomicU64::new(RandomState::new().hash_one(0)));
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// The caller that this one names by `tag`.
    fn forwarded(self, tag: &[u8]) -> Self {
        Self::of(&[b"tag", &self.0.to_be_bytes(), tag])
    }

    /// Returns the tag by which this caller is named to another service.
    #[must_use]
    pub fn tag(self) -> HeaderValue {
        HeaderValue::from_str(&self.to_string()).expect("hexadecimal digits are a valid header")
    }

    /// A cryptographic hash, so that no client can choose a tag that makes it another caller.
    fn of(parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let hash: [u8; 32] = hash.finalize().into();
        Self(hash.into_iter().take(8).fold(0, |id, byte| id << 8 | u64::from(byte)))
    }
}

impl fmt::Display for CallerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for CallerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The caller of a request, in the extensions of every request that passed
/// [`require_api_key`](crate::require_api_key). Clones share the quota.
#[derive(Debug, Clone)]
pub struct Caller {
    id: CallerId,
    quota: Option<Arc<TextQuota>>,
}

impl Caller {
    /// The caller of calls within a process, without a quota.
    pub const UNKNOWN: Self = Self { id: CallerId::UNKNOWN, quota: None };

    pub(super) fn of_key(name: &str, quota: Option<Arc<TextQuota>>) -> Self {
        Self { id: CallerId::of_key(name), quota }
    }

    /// A caller for a connection that was just opened. A server puts it into the extensions of the
    /// connection's requests.
    #[must_use]
    pub fn of_new_connection() -> Self {
        Self { id: CallerId::of_new_connection(), quota: None }
    }

    /// The caller that the extensions of a request name.
    #[must_use]
    pub fn in_extensions(extensions: &Extensions) -> Self {
        extensions.get().cloned().unwrap_or(Self::UNKNOWN)
    }

    /// The caller of a request.
    #[must_use]
    pub fn of<T>(request: &tonic::Request<T>) -> Self {
        Self::in_extensions(request.extensions())
    }

    /// Returns the caller on whose behalf this one calls, if a header names it. The quota stays
    /// that of this caller.
    pub(super) fn on_behalf(self, headers: &HeaderMap) -> Self {
        match headers.get(CALLER_TAG).map(HeaderValue::as_bytes) {
            Some(tag) if !tag.is_empty() && tag.len() <= MAX_TAG_BYTES => {
                Self { id: self.id.forwarded(tag), ..self }
            }
            _ => self,
        }
    }

    /// The identity.
    #[must_use]
    pub fn id(&self) -> CallerId {
        self.id
    }

    /// The same caller for work that was charged before.
    #[must_use]
    pub fn charged(&self) -> Self {
        Self { id: self.id, quota: None }
    }

    /// Charges `texts` texts to the quota of the API key, all or none. `field` names them in the
    /// request.
    ///
    /// # Errors
    /// Returns [`ApiError::RateLimited`] if the quota is used up for now, and [`ApiError::Invalid`]
    /// if its burst is smaller than `texts`.
    pub fn charge(&self, field: &str, texts: usize) -> Result<(), ApiError> {
        self.quota.as_ref().map_or(Ok(()), |quota| quota.charge(field, texts))
    }

    /// Charges one text to the quota of the API key, and waits until the quota allows it. Texts of
    /// one key wait in order.
    ///
    /// # Errors
    /// Returns [`ApiError::DeadlineExceeded`] if the deadline passes first.
    pub async fn charge_waiting(&self, deadline: Deadline) -> Result<(), ApiError> {
        match &self.quota {
            None => Ok(()),
            Some(quota) => deadline.bound(quota.charge_waiting()).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_behalf(tag: &str) -> CallerId {
        let headers = HeaderMap::from_iter([(
            http::HeaderName::from_static(CALLER_TAG),
            HeaderValue::from_str(tag).unwrap(),
        )]);
        Caller::of_key("classifier", None).on_behalf(&headers).id()
    }

    #[test]
    fn connections_keys_and_tags_are_different_callers() {
        let key = CallerId::of_key("classifier");
        let connections = [(); 2].map(|()| CallerId::of_new_connection());
        let all = [key, connections[0], connections[1], on_behalf("a"), on_behalf("b"), CallerId::UNKNOWN];
        let distinct: std::collections::BTreeSet<_> = all.into_iter().collect();
        assert_eq!(distinct.len(), all.len(), "{all:?}");
        assert_eq!(key, CallerId::of_key("classifier"));
        assert_eq!(on_behalf("a"), on_behalf("a"));
        assert_eq!(on_behalf(""), key);
        assert_eq!(on_behalf(&"a".repeat(MAX_TAG_BYTES + 1)), key);
    }

    #[test]
    fn a_tag_names_the_same_caller_each_time() {
        let tag = CallerId::of_key("website").tag();
        assert_eq!(on_behalf(tag.to_str().unwrap()), on_behalf(tag.to_str().unwrap()));
        assert_eq!(tag.len(), 16);
    }
}
