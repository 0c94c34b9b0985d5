//! An encoder behind the limits of a request. Every transport calls it, so all accept the same texts.

use std::sync::Arc;

use service_kit::{ApiError, Caller, CallerId, Deadline, FairLimit, FairPermit, amount_of, check_text};

use crate::config::Limits;
use crate::encoder::Encoder;
use crate::scheduler::entry::{Class, Reply};

/// What is counted in flight, as errors name it.
const TEXTS: &str = "texts (one for each 4 KiB)";

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
    /// too long, and [`ApiError::DeadlineExceeded`] once the deadline passes; otherwise fails as
    /// [`Caller::charge`] and [`Encoder::encode_batch`]. Only admitted texts are charged.
    pub async fn encode(
        &self,
        field: &'static str,
        texts: Vec<String>,
        class: Class,
        caller: &Caller,
        deadline: Deadline,
    ) -> Result<Vec<Reply>, ApiError> {
        self.check_batch(field, &texts)?;
        let (id, count) = (caller.id(), texts.len());
        let amount: u64 = texts.iter().map(|text| amount_of(text.len())).sum();
        let _in_flight = self.in_flight.admit(id, amount, false, deadline, TEXTS).await?;
        let charge = || caller.charge(field, count);
        let encoding = self.encoder.encode_charged(texts, class, id, deadline, charge);
        deadline.bound(encoding).await?
    }

    /// Charges one text of a stream to its caller and counts it in flight. Waits where another call
    /// is rejected, so a stream that reads no further meanwhile holds one such text at most.
    ///
    /// # Errors
    /// Returns [`ApiError::Invalid`] if the text is blank or too long, and
    /// [`ApiError::DeadlineExceeded`] if the deadline passes first.
    pub async fn admit_item(
        &self,
        text: &str,
        caller: &Caller,
        deadline: Deadline,
    ) -> Result<FairPermit, ApiError> {
        caller.charge_waiting(deadline).await?;
        if let Some(violation) = check_text("text", text, self.limits.max_text_bytes) {
            return Err(ApiError::Invalid(vec![violation]));
        }
        self.in_flight.admit(caller.id(), amount_of(text.len()), true, deadline, TEXTS).await
    }

    /// Encodes one text of a stream, which is in flight by `in_flight` until its reply. Waits where
    /// another call is rejected.
    pub async fn encode_item(
        &self,
        text: String,
        class: Class,
        caller: CallerId,
        deadline: Deadline,
        in_flight: FairPermit,
    ) -> Result<Reply, ApiError> {
        let result = self.encoder.encode_waiting(text, class, caller, deadline).await;
        drop(in_flight);
        result
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
}
