//! Asks a running service for its health, as an orchestrator or a script does.

use std::time::Duration;

use tokio::time::Instant;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

/// How long one question may take.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Between questions while waiting.
const PAUSE: Duration = Duration::from_millis(50);

/// The service is not ready.
#[derive(Debug, thiserror::Error)]
pub enum HealthcheckError {
    /// What was given as address is none.
    #[error("expected a URL such as http://127.0.0.1:50051, found {0:?}")]
    Address(String),
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
pub async fn healthcheck(address: &str, wait: Duration) -> Result<(), HealthcheckError> {
    let endpoint = Endpoint::from_shared(address.to_owned())
        .map_err(|_| HealthcheckError::Address(address.to_owned()))?
        .connect_timeout(TIMEOUT);
    let give_up = Instant::now() + wait;
    loop {
        let reason = match ask(&endpoint).await {
            Ok(ServingStatus::Serving) => return Ok(()),
            Ok(status) => status.as_str_name().to_owned(),
            Err(reason) => reason,
        };
        if Instant::now() >= give_up {
            return Err(HealthcheckError::NotServing { address: address.to_owned(), reason });
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn ask(endpoint: &Endpoint) -> Result<ServingStatus, String> {
    let channel = endpoint.connect().await.map_err(|_| "no connection".to_owned())?;
    let mut request = tonic::Request::new(HealthCheckRequest::default());
    request.set_timeout(TIMEOUT);
    let answer = HealthClient::new(channel).check(request).await.map_err(|status| status.to_string())?;
    Ok(answer.into_inner().status())
}
