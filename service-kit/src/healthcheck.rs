//! Asks a running service for its health, as an orchestrator or a script does.

use std::time::Duration;

use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::{ClientTls, InvalidTarget, Target};

/// How long one question may take.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Between questions while waiting.
const PAUSE: Duration = Duration::from_millis(50);

/// The service is not ready.
#[derive(Debug, thiserror::Error)]
pub enum HealthcheckError {
    /// What was given as address is none.
    #[error(transparent)]
    Address(#[from] InvalidTarget),
    /// The last answer, or why there was none.
    #[error("{address}: {reason}")]
    NotServing {
        /// Where was asked.
        address: String,
        /// What came back.
        reason: String,
    },
}

/// Returns once the service at `address` reports that it serves; asks again until `wait` has passed.
pub async fn healthcheck(
    address: &str,
    wait: Duration,
    tls: Option<ClientTls>,
) -> Result<(), HealthcheckError> {
    let target = Target::parse(address)?;
    let give_up = Instant::now() + wait;
    loop {
        let reason = match ask(target.channel(None, tls.clone())).await {
            Ok(ServingStatus::Serving) => return Ok(()),
            Ok(status) => status.as_str_name().to_owned(),
            Err(status) => status.message().to_owned(),
        };
        if Instant::now() >= give_up {
            return Err(HealthcheckError::NotServing { address: address.to_owned(), reason });
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn ask(channel: Channel) -> Result<ServingStatus, Status> {
    let mut request = Request::new(HealthCheckRequest::default());
    request.set_timeout(TIMEOUT);
    let question = async { HealthClient::new(channel).check(request).await };
    let answer = tokio::time::timeout(TIMEOUT, question).await;
    Ok(answer.map_err(|_| Status::deadline_exceeded("no answer in time"))??.into_inner().status())
}
