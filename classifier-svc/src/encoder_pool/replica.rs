//! One encoder replica: its connection, who it is, how busy and how well.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use proto::encoder::v1::encoder_service_client::EncoderServiceClient;
use proto::encoder::v1::{EncodeRequest, EncodeResponse, GetEncoderRequest, GetEncoderResponse};
use service_kit::{Secret, propagate_trace};
use tokio::time::Instant;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Request, Status};
use tracing::Instrument as _;

use super::outlier::Outlier;

/// How long one look may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// Between looks at one that answers.
const FRESH: Duration = Duration::from_secs(5);
/// Vectors of 256 texts are half a mebibyte; what an encoder sends beyond this is none of ours.
const MAX_MESSAGE_BYTES: usize = 64 << 20;

pub(super) struct Replica {
    name: String,
    client: EncoderServiceClient<Channel>,
    authorization: Option<MetadataValue<Ascii>>,
    /// Texts that it has been given and has not answered.
    pending: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    outlier: Outlier,
    encoder: Option<Arc<GetEncoderResponse>>,
    looked_at: Option<Instant>,
    answered_look: bool,
    failure: Option<String>,
}

/// Texts that a replica has; until dropped.
pub(super) struct Pending {
    replica: Arc<Replica>,
    texts: usize,
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.replica.pending.fetch_sub(self.texts, Ordering::Relaxed);
    }
}

impl Replica {
    pub(super) fn new(name: String, channel: Channel, api_key: Option<&Secret>) -> Self {
        let authorization = api_key.and_then(|key| {
            let mut value = MetadataValue::try_from(format!("Bearer {}", key.expose())).ok()?;
            value.set_sensitive(true);
            Some(value)
        });
        let client = EncoderServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
        Self { name, client, authorization, pending: AtomicUsize::new(0), state: Mutex::default() }
    }

    /// Its address.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn pending(&self) -> usize {
        self.pending.load(Ordering::Relaxed)
    }

    pub(super) fn take(self: &Arc<Self>, texts: usize) -> Pending {
        self.pending.fetch_add(texts, Ordering::Relaxed);
        Pending { replica: self.clone(), texts }
    }

    /// One attempt, without any judgement of its outcome.
    pub(super) async fn encode(
        &self,
        request: EncodeRequest,
        timeout: Duration,
    ) -> Result<EncodeResponse, Status> {
        let span = tracing::debug_span!(
            "encode",
            otel.kind = "client",
            replica = self.name,
            texts = request.texts.len()
        );
        async {
            let mut client = self.client.clone();
            Ok(client.encode(self.request(request, timeout)).await?.into_inner())
        }
        .instrument(span)
        .await
    }

    fn request<T>(&self, message: T, timeout: Duration) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(timeout);
        propagate_trace(request.metadata_mut().as_mut());
        if let Some(value) = &self.authorization {
            request.metadata_mut().insert("authorization", value.clone());
        }
        request
    }

    /// Asks who it is, unless it answered a moment ago or is put aside.
    pub(super) async fn probe(&self) {
        {
            let state = self.state();
            let fresh = state.looked_at.is_some_and(|at| at.elapsed() < FRESH);
            if fresh && state.answered_look && !state.outlier.is_failing() {
                return;
            }
        }
        let mut client = self.client.clone();
        let question = client.get_encoder(self.request(GetEncoderRequest {}, PROBE_TIMEOUT));
        match tokio::time::timeout(PROBE_TIMEOUT, question).await {
            Ok(Ok(answer)) => self.answered(answer.into_inner()),
            Ok(Err(status)) => self.did_not_answer(status.message()),
            Err(_) => self.did_not_answer("no answer in time"),
        }
    }

    fn did_not_answer(&self, reason: &str) {
        self.failed(reason);
        let mut state = self.state();
        if state.answered_look || state.looked_at.is_none() {
            tracing::warn!(replica = self.name, reason, "encoder does not answer");
        }
        state.answered_look = false;
        state.looked_at = Some(Instant::now());
    }

    fn answered(&self, encoder: GetEncoderResponse) {
        let mut state = self.state();
        let known = state.encoder.as_ref();
        if known.is_none_or(|known| known.fingerprint != encoder.fingerprint) || state.outlier.is_failing() {
            let fingerprint: String = encoder.fingerprint.chars().take(12).collect();
            tracing::info!(
                replica = self.name,
                encoder = encoder.id,
                version = encoder.version,
                fingerprint,
                "encoder answers"
            );
        }
        state.outlier.succeeded();
        state.failure = None;
        state.encoder = Some(Arc::new(encoder));
        state.looked_at = Some(Instant::now());
        state.answered_look = true;
    }

    /// An attempt succeeded.
    pub(super) fn succeeded(&self) {
        let mut state = self.state();
        state.outlier.succeeded();
        state.failure = None;
    }

    /// An attempt failed for a reason that lies with the replica: it is asked soon who it is now.
    pub(super) fn failed(&self, reason: &str) {
        let mut state = self.state();
        let before = state.outlier.is_failing();
        state.outlier.failed();
        state.failure = Some(reason.to_owned());
        if !before && state.outlier.is_failing() {
            tracing::warn!(replica = self.name, reason, "encoder put aside");
        }
        if state.answered_look {
            state.looked_at = None;
        }
    }

    /// It has no room.
    pub(super) fn is_full_for(&self, retry_after: Duration) {
        self.state().outlier.is_full_for(retry_after);
    }

    /// It turned out to be another encoder than was known: it is asked again at the next look.
    pub(super) fn has_changed(&self, fingerprint: &str) {
        let mut state = self.state();
        let known = state.encoder.as_deref().cloned().unwrap_or_default();
        state.encoder = Some(Arc::new(GetEncoderResponse { fingerprint: fingerprint.to_owned(), ..known }));
        state.looked_at = None;
    }

    /// Whether it answered when it was last asked, and is not put aside.
    pub(super) fn answers(&self) -> bool {
        let state = self.state();
        state.answered_look && !state.outlier.is_failing()
    }

    /// Who it is, as far as is known.
    pub(super) fn encoder(&self) -> Option<Arc<GetEncoderResponse>> {
        self.state().encoder.clone()
    }

    pub(super) fn is_ejected(&self) -> bool {
        self.state().outlier.is_ejected()
    }

    pub(super) fn busy_for(&self) -> Duration {
        self.state().outlier.busy_for()
    }

    pub(super) fn last_failure(&self) -> String {
        let failure = self.state().failure.clone();
        format!("{}: {}", self.name, failure.as_deref().unwrap_or("not asked yet"))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
