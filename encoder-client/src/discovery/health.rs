//! Watches the health that a replica reports, so that it leaves the pool before it stops.
//!
//! A name server may list a replica for as long as its answers are cached. `NOT_SERVING` comes with
//! the replica's SIGTERM, before it closes its connections. tonic's channels have no client-side
//! health checks ([gRFC A17](https://github.com/grpc/proposal/blob/master/A17-client-side-health-checking.md)).

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::policy;
use crate::replica::{Health, Replica};
use crate::status::has_transport_cause;

/// The first backoff after a watch has ended. A connection that becomes too old ends its watch as
/// well, and its replica still serves.
const FIRST_BACKOFF: Duration = Duration::from_millis(10);
const LONGEST_BACKOFF: Duration = Duration::from_secs(1);
/// Time between attempts to watch a replica that reports no health.
const UNWATCHED: Duration = Duration::from_secs(30);

/// Keeps the health of `replica` current, over its own connection, until dropped.
pub(super) async fn watch(replica: Arc<Replica>, channel: Channel) {
    let mut client = HealthClient::new(channel);
    let mut backoff = policy::backoff(FIRST_BACKOFF, LONGEST_BACKOFF);
    loop {
        let begin = Instant::now();
        match client.watch(HealthCheckRequest::default()).await {
            Ok(statuses) => {
                let mut statuses = statuses.into_inner();
                while let Ok(Some(response)) = statuses.message().await {
                    replica.reports(match response.status() {
                        ServingStatus::Serving => Health::Serving,
                        _ => Health::NotServing,
                    });
                }
                replica.reports(Health::Unknown);
                if begin.elapsed() > LONGEST_BACKOFF {
                    backoff = policy::backoff(FIRST_BACKOFF, LONGEST_BACKOFF);
                }
            }
            Err(status) if reports_no_health(&status) => {
                replica.reports(Health::Serving);
                tokio::time::sleep(UNWATCHED).await;
                continue;
            }
            Err(status) if has_transport_cause(&status) => replica.reports(Health::Unknown),
            // The server is there, and says nothing about its health.
            Err(_) => {}
        }
        tokio::time::sleep(policy::next(&mut backoff)).await;
    }
}

/// Whether a server, or a proxy before it, has no health to watch. Such a replica counts as
/// serving.
fn reports_no_health(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unimplemented | Code::NotFound | Code::PermissionDenied | Code::Unauthenticated
    )
}
