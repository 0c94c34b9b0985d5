//! The health check of a running service, for orchestrators and scripts.

use std::time::Duration;

use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::{ClientTls, InvalidTarget, Target};

/// The timeout of one check.
const TIMEOUT: Duration = Duration::from_secs(2);
/// The pause between checks.
const PAUSE: Duration = Duration::from_millis(50);

/// Why a service is not healthy.
#[derive(Debug, thiserror::Error)]
pub enum HealthcheckError {
    /// The address is invalid.
    #[error(transparent)]
    Address(#[from] InvalidTarget),
    /// The service is not serving, or did not respond.
    #[error("{address}: {reason}")]
    NotServing {
        /// The address checked.
        address: String,
        /// The status, or why there is none.
        reason: String,
    },
}

/// Returns once the service at `address` reports that it serves. Retries until `wait` has passed.
pub async fn healthcheck(
    address: &str,
    wait: Duration,
    tls: Option<ClientTls>,
) -> Result<(), HealthcheckError> {
    let target = Target::parse(address)?;
    // `None` if the wait ends later than the clock can tell.
    let deadline = Instant::now().checked_add(wait);
    loop {
        let reason = match check(target.channel(None, tls.clone())).await {
            Ok(ServingStatus::Serving) => return Ok(()),
            Ok(status) => status.as_str_name().to_owned(),
            Err(status) => status.message().to_owned(),
        };
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(HealthcheckError::NotServing { address: address.to_owned(), reason });
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn check(channel: Channel) -> Result<ServingStatus, Status> {
    let mut request = Request::new(HealthCheckRequest::default());
    request.set_timeout(TIMEOUT);
    let check = async { HealthClient::new(channel).check(request).await };
    let response = tokio::time::timeout(TIMEOUT, check).await;
    Ok(response.map_err(|_| Status::deadline_exceeded("no response in time"))??.into_inner().status())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waits_for_ever_if_the_wait_is_too_long_for_the_clock() {
        let waiting = healthcheck("http://127.0.0.1:1", Duration::from_secs(u64::MAX), None);
        assert!(tokio::time::timeout(4 * PAUSE, waiting).await.is_err());
    }
}
