//! One replica of an encoder: its connection, its identity, its load, and its recent outcomes.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use genre_model::EncoderIdentity;
use proto::encoder::v1::encoder_service_client::EncoderServiceClient;
use proto::encoder::v1::{EncodeRequest, EncodeResponse, GetEncoderRequest};
use service_kit::{CALLER_TAG, CallerId, Deadline, Secret, propagate_trace};
use tokio::time::Instant;
use tonic::Request;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tracing::Instrument as _;

use crate::circuit_breaker::CircuitBreaker;
use crate::error::{EncoderError, name_of_fingerprint};
use crate::failure::Failure;
use crate::status::Class;
use crate::verify::{self, EncoderDescription};

/// Time limit of a probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// A replica that answered a probe is not probed again for this long.
const FRESH: Duration = Duration::from_secs(5);
/// Limit of a response. The vectors of 256 texts take half a mebibyte.
const MAX_MESSAGE_BYTES: usize = 64 << 20;

/// What a replica reports about itself, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Health {
    /// It serves.
    Serving,
    /// It is about to stop, or not ready yet. It may still accept calls.
    NotServing,
    /// Nobody hears of it: it cannot be reached, or has not reported yet.
    Unknown,
}

/// What the source of a replica's address says about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Place {
    /// In another zone: those of this zone come first.
    pub(crate) is_far: bool,
    /// About to stop, whatever it reports itself.
    pub(crate) is_leaving: bool,
}

pub(crate) struct Replica {
    name: String,
    client: EncoderServiceClient<Channel>,
    authorization: Option<MetadataValue<Ascii>>,
    /// Texts of the attempts in flight.
    pending: AtomicUsize,
    /// A [`Health`].
    health: AtomicU8,
    /// Of a [`Place`].
    is_far: AtomicBool,
    is_leaving: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    breaker: CircuitBreaker,
    encoder: Option<Known>,
    probed_at: Option<Instant>,
    answered_probe: bool,
    /// The last response to a call, also one that asks for a pause.
    responded_at: Option<Instant>,
    last_failure: Option<String>,
}

/// The encoder behind a replica, as last seen in a description or in a reply.
struct Known {
    fingerprint: String,
    /// For error messages.
    name: String,
    /// Floats in a vector; known once the encoder has described itself.
    dimension: Option<usize>,
}

impl State {
    fn runs(&self, expected: &EncoderIdentity) -> bool {
        self.encoder.as_ref().is_some_and(|known| known.fingerprint == expected.fingerprint.as_str())
    }
}

/// Counts the texts of an attempt as pending until dropped.
pub(crate) struct Pending {
    replica: Arc<Replica>,
    texts: usize,
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.replica.pending.fetch_sub(self.texts, Ordering::Relaxed);
    }
}

impl Replica {
    pub(crate) fn new(name: String, channel: Channel, api_key: Option<&Secret>, health: Health) -> Self {
        let authorization = api_key.and_then(|key| {
            let mut value = MetadataValue::try_from(format!("Bearer {}", key.expose())).ok()?;
            value.set_sensitive(true);
            Some(value)
        });
        let client = EncoderServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let (pending, health) = (AtomicUsize::new(0), AtomicU8::new(health as u8));
        let (is_far, is_leaving) = Default::default();
        let state = Mutex::default();
        Self { name, client, authorization, pending, health, is_far, is_leaving, state }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn pending(&self) -> usize {
        self.pending.load(Ordering::Relaxed)
    }

    /// Returns what the replica reports, or less if its source says that it is about to stop.
    pub(crate) fn health(&self) -> Health {
        let reported = match self.health.load(Ordering::Relaxed) {
            0 => Health::Serving,
            1 => Health::NotServing,
            _ => Health::Unknown,
        };
        if self.is_leaving.load(Ordering::Relaxed) { reported.max(Health::NotServing) } else { reported }
    }

    pub(crate) fn is_far(&self) -> bool {
        self.is_far.load(Ordering::Relaxed)
    }

    pub(crate) fn set_place(&self, place: Place) {
        self.is_far.store(place.is_far, Ordering::Relaxed);
        self.is_leaving.store(place.is_leaving, Ordering::Relaxed);
    }

    /// Records the health that the replica reports.
    pub(crate) fn reports(&self, health: Health) {
        let before = self.health.swap(health as u8, Ordering::Relaxed);
        if before != health as u8 {
            tracing::info!(replica = self.name, ?health, "encoder health changed");
        }
    }

    pub(crate) fn take(self: &Arc<Self>, texts: usize) -> Pending {
        self.pending.fetch_add(texts, Ordering::Relaxed);
        Pending { replica: self.clone(), texts }
    }

    /// Makes one attempt. Neither verifies the response nor records the outcome.
    pub(crate) async fn encode(
        &self,
        request: EncodeRequest,
        caller: Option<CallerId>,
        deadline: Deadline,
    ) -> Result<EncodeResponse, Failure> {
        let texts = request.texts.len();
        let span = tracing::debug_span!("encode", otel.kind = "client", replica = self.name, texts);
        async {
            let mut request = self.request(request, deadline.remaining());
            if let Some(caller) = caller {
                request.metadata_mut().as_mut().insert(CALLER_TAG, caller.tag());
            }
            Ok(self.client.clone().encode(request).await?.into_inner())
        }
        .instrument(span)
        .await
    }

    /// Asks the encoder to describe itself.
    pub(crate) async fn describe(&self, timeout: Option<Duration>) -> Result<EncoderDescription, Failure> {
        let request = self.request(GetEncoderRequest {}, timeout);
        verify::description(self.client.clone().get_encoder(request).await?.into_inner())
    }

    fn request<T>(&self, message: T, timeout: Option<Duration>) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(timeout) = timeout {
            request.set_timeout(timeout);
        }
        propagate_trace(request.metadata_mut().as_mut());
        if let Some(value) = &self.authorization {
            request.metadata_mut().insert("authorization", value.clone());
        }
        request
    }

    /// Asks for the description, unless the replica answered a probe a moment ago and has not
    /// failed since.
    pub(crate) async fn probe(&self) {
        {
            let state = self.state();
            let is_fresh = state.probed_at.is_some_and(|at| at.elapsed() < FRESH);
            if is_fresh && state.answered_probe && !state.breaker.is_open() {
                return;
            }
        }
        let begin = Instant::now();
        match tokio::time::timeout(PROBE_TIMEOUT, self.describe(Some(PROBE_TIMEOUT))).await {
            Ok(Ok(description)) => self.answered(&description),
            // It answers, and asks for a pause.
            Ok(Err(failure)) if matches!(failure.class(), Some(Class::Busy(_))) => {}
            Ok(Err(Failure::Status(status))) => self.did_not_answer(status.message()),
            Ok(Err(failure)) => self.did_not_answer(&EncoderError::from(failure).to_string()),
            // The probe waits behind calls that are answered: the replica is busy, not gone.
            Err(_) if self.state().responded_at.is_some_and(|at| at > begin) => {}
            Err(_) => self.did_not_answer("no answer in time"),
        }
    }

    fn did_not_answer(&self, reason: &str) {
        self.failed(reason);
        let mut state = self.state();
        if state.answered_probe || state.probed_at.is_none() {
            tracing::warn!(replica = self.name, reason, "encoder does not answer");
        }
        state.answered_probe = false;
        state.probed_at = Some(Instant::now());
    }

    fn answered(&self, description: &EncoderDescription) {
        let encoder = &description.identity;
        let mut state = self.state();
        let fingerprint = encoder.fingerprint.as_str();
        let is_known = state.encoder.as_ref().is_some_and(|known| known.fingerprint == fingerprint);
        if !is_known || state.breaker.is_open() {
            tracing::info!(
                replica = self.name,
                encoder = encoder.id,
                version = encoder.version,
                fingerprint = encoder.fingerprint.short(),
                "encoder answers"
            );
        }
        // A replica describes itself even while its queue is full, so its pause goes on.
        state.breaker.close();
        state.last_failure = None;
        state.encoder = Some(Known {
            fingerprint: fingerprint.to_owned(),
            name: encoder.to_string(),
            dimension: Some(description.dimension),
        });
        state.probed_at = Some(Instant::now());
        state.answered_probe = true;
    }

    /// Records a successful attempt. It also counts as an answered probe if the replica is known to
    /// run the `expected` encoder: a busy replica that serves calls may not answer a probe in time.
    pub(crate) fn succeeded(&self, expected: Option<&EncoderIdentity>) {
        let mut state = self.state();
        state.breaker.succeeded();
        state.responded_at = Some(Instant::now());
        state.last_failure = None;
        if expected.is_some_and(|expected| state.runs(expected)) {
            state.probed_at = Some(Instant::now());
            state.answered_probe = true;
        }
    }

    /// Records a failure of the replica, and lets the next round of probes ask it again.
    pub(crate) fn failed(&self, reason: &str) {
        let mut state = self.state();
        let was_open = state.breaker.is_open();
        state.breaker.failed();
        state.last_failure = Some(reason.to_owned());
        if !was_open && state.breaker.is_open() {
            tracing::warn!(replica = self.name, reason, "encoder ejected");
        }
        if state.answered_probe {
            state.probed_at = None;
        }
    }

    /// Records that the replica must not be asked again before `pause` has passed.
    pub(crate) fn is_busy_for(&self, pause: Duration) {
        let mut state = self.state();
        state.breaker.is_busy_for(pause);
        state.responded_at = Some(Instant::now());
    }

    /// Records that a reply came from another encoder, and lets the next round of probes ask for
    /// its description.
    pub(crate) fn has_changed(&self, fingerprint: &str) {
        let name = name_of_fingerprint(fingerprint);
        let mut state = self.state();
        state.encoder = Some(Known { fingerprint: fingerprint.to_owned(), name, dimension: None });
        state.probed_at = None;
    }

    /// Whether the replica answered its last probe and the breaker is closed.
    pub(crate) fn answers(&self) -> bool {
        let state = self.state();
        state.answered_probe && !state.breaker.is_open()
    }

    /// Whether calls go to the replica as a first choice.
    pub(crate) fn is_available(&self) -> bool {
        self.health() == Health::Serving && self.answers()
    }

    /// Whether the replica is known to run the expected encoder.
    pub(crate) fn matches(&self, expected: &EncoderIdentity) -> bool {
        self.state().runs(expected)
    }

    /// An error if the replica is known to run another encoder than the expected one.
    pub(crate) fn mismatch(&self, expected: &EncoderIdentity) -> Option<EncoderError> {
        let state = self.state();
        let other =
            state.encoder.as_ref().filter(|known| known.fingerprint != expected.fingerprint.as_str())?;
        Some(EncoderError::WrongEncoder { expected: expected.clone(), found: other.name.clone() })
    }

    /// Fails if the vectors of the replica's encoder are known to have another dimension.
    pub(crate) fn check_dimension(
        &self,
        encoder: &EncoderIdentity,
        expected: usize,
    ) -> Result<(), EncoderError> {
        match self.state().encoder.as_ref().and_then(|known| known.dimension) {
            Some(found) if found != expected => {
                Err(EncoderError::WrongDimension { encoder: encoder.clone(), expected, found })
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn is_ejected(&self) -> bool {
        self.state().breaker.is_ejected()
    }

    pub(crate) fn busy_for(&self) -> Duration {
        self.state().breaker.busy_for()
    }

    pub(crate) fn last_failure(&self) -> String {
        let failure = self.state().last_failure.clone();
        format!("{}: {}", self.name, failure.as_deref().unwrap_or("not asked yet"))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use genre_model::Fingerprint;
    use tonic::transport::Endpoint;

    use super::*;

    fn encoder(digits: &str) -> EncoderIdentity {
        EncoderIdentity {
            id: "fake".to_owned(),
            version: "1".to_owned(),
            fingerprint: Fingerprint::parse(digits.repeat(32)).unwrap(),
        }
    }

    fn description() -> EncoderDescription {
        EncoderDescription { identity: encoder("ab"), dimension: 2, max_batch_size: 1, max_text_bytes: 1 }
    }

    /// A replica that answered a probe and then no other, because its address is closed.
    fn replica() -> Replica {
        let channel = Endpoint::from_static("http://127.0.0.1:1").connect_lazy();
        let replica = Replica::new("test".to_owned(), channel, None, Health::Serving);
        replica.answered(&description());
        replica
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_to_a_probe_closes_the_breaker_and_ends_no_pause() {
        let replica = replica();
        let pause = Duration::from_secs(20);
        replica.is_busy_for(pause);
        for _ in 0..10 {
            replica.failed("broken");
        }
        assert!(replica.is_ejected());
        replica.answered(&description());
        assert!(!replica.is_ejected());
        assert_eq!(replica.busy_for(), pause);
        replica.succeeded(None);
        assert_eq!(replica.busy_for(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_replica_that_serves_calls_is_ready_without_a_probe() {
        let replica = replica();
        for _ in 0..10 {
            tokio::time::advance(FRESH / 2).await;
            replica.succeeded(Some(&encoder("ab")));
            replica.probe().await;
            assert!(replica.answers());
        }
        tokio::time::advance(FRESH).await;
        replica.probe().await;
        assert!(!replica.answers());
    }

    #[tokio::test(start_paused = true)]
    async fn a_vector_of_another_encoder_than_the_known_one_is_no_answer_to_a_probe() {
        let replica = replica();
        tokio::time::advance(FRESH).await;
        replica.succeeded(Some(&encoder("cd")));
        replica.probe().await;
        assert!(!replica.answers());
    }
}
