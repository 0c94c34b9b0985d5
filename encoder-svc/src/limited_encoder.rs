//! An encoder behind the limits of a request. Every transport calls it, so all accept the same texts.

use std::sync::Arc;

use service_kit::{ApiError, Caller, CallerId, Deadline, FairLimit, FairPermit, check_text};

use crate::config::Limits;
use crate::encoder::Encoder;
use crate::scheduler::entry::{Class, Reply};

/// Checks texts, charges them to their caller and encodes them. Clones share the encoder and the
/// texts in flight.
#[derive(Clone)]
pub struct LimitedEncoder {
    encoder: Arc<Encoder>,
    limits: Limits,
    in_flight: Arc<FairLimit>,
}

impl LimitedEncoder {
    /// Puts `limits` around `encoder`.
    #[must_use]
    pub fn new(encoder: Arc<Encoder>, limits: Limits) -> Self {
        let in_flight = FairLimit::new(limits.texts_in_flight as u64);
        Self { encoder, limits, in_flight }
    }

    /// The limits of a request.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// The encoder.
    #[must_use]
    pub fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    /// Encodes all `texts`, in order, or none. `field` names them in the request, as errors do.
    ///
    /// # Errors
    /// Returns [`ApiError::Invalid`] if there are no texts, too many, or one of them is blank or
    /// too long; otherwise fails as [`Caller::charge`] and [`Encoder::encode_batch`].
    pub async fn encode(
        &self,
        field: &'static str,
        texts: Vec<String>,
        class: Class,
        caller: &Caller,
        deadline: Deadline,
    ) -> Result<Vec<Reply>, ApiError> {
        self.check_batch(field, &texts)?;
        caller.charge(field, texts.len())?;
        let _in_flight = self.admit(caller.id(), texts.len(), false, deadline).await?;
        self.encoder.encode_batch(texts, class, caller.id(), deadline).await
    }

    /// Encodes one text of a stream, which was charged when it was read. Waits where another call
    /// is rejected.
    pub async fn encode_item(
        &self,
        text: String,
        class: Class,
        caller: CallerId,
        deadline: Deadline,
    ) -> Result<Reply, ApiError> {
        if let Some(violation) = check_text("text", &text, self.limits.max_text_bytes) {
            return Err(ApiError::Invalid(vec![violation]));
        }
        let _in_flight = self.admit(caller, 1, true, deadline).await?;
        self.encoder.encode_waiting(text, class, caller, deadline).await
    }

    /// Checks the number of texts of a request, for transports that know it before the texts.
    ///
    /// # Errors
    /// Returns [`ApiError::Invalid`] if there are none or too many.
    pub fn check_count(&self, field: &'static str, texts: usize) -> Result<(), ApiError> {
        let max = self.limits.max_batch_size;
        let (reason, found) = match texts {
            0 => ("EMPTY_BATCH", "none".to_owned()),
            texts if texts > max => ("BATCH_TOO_LARGE", texts.to_string()),
            _ => return Ok(()),
        };
        Err(ApiError::invalid(field, reason, format!("expected 1 to {max} texts, found {found}")))
    }

    fn check_batch(&self, field: &'static str, texts: &[String]) -> Result<(), ApiError> {
        self.check_count(field, texts.len())?;
        let violations: Vec<_> = texts
            .iter()
            .enumerate()
            .filter_map(|(index, text)| {
                check_text(format!("{field}[{index}]"), text, self.limits.max_text_bytes)
            })
            .collect();
        if violations.is_empty() { Ok(()) } else { Err(ApiError::Invalid(violations)) }
    }

    async fn admit(
        &self,
        caller: CallerId,
        texts: usize,
        is_stream: bool,
        deadline: Deadline,
    ) -> Result<FairPermit, ApiError> {
        self.in_flight.admit(caller, texts as u64, is_stream, deadline, "texts").await
    }
}
