//! `grpc.health.v1`: the health that load balancers and orchestrators ask for.

use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use futures_util::stream::poll_fn;
use futures_util::{Stream, StreamExt as _};
use tonic::{Request, Response, Status};
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::{Health as HealthRpcs, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_health::server::{HealthReporter, HealthService};

use crate::memory::Call;
use crate::{ApiError, Readiness, Shutdown};

/// The most `Watch` calls of a connection. A client needs one for each service that it calls.
const MAX_WATCHES: usize = 8;

/// The health of a server: one status for the whole server (the empty name) and for each of its
/// services.
#[derive(Clone)]
pub struct Health {
    reporter: HealthReporter,
    names: Vec<&'static str>,
    readiness: Readiness,
}

impl Health {
    /// Returns the health of a server without services, and the handlers that report it until
    /// `closing`.
    pub(super) fn new(closing: Shutdown) -> (Self, HealthServer<impl HealthRpcs>) {
        let reporter = HealthReporter::new();
        let service = HealthService::from_health_reporter(reporter.clone());
        let handlers = HealthServer::new(BoundedWatches { service, closing });
        (Self { reporter, names: vec![""], readiness: Readiness::default() }, handlers)
    }

    pub(super) fn add_service(&mut self, name: &'static str) {
        self.names.push(name);
    }

    /// Reports the server and all its services as serving, or as not serving.
    pub async fn set_serving(&self, serving: bool) {
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        self.readiness.set(serving);
        for name in &self.names {
            self.reporter.set_service_status(*name, status).await;
        }
    }

    /// Returns the same status for `/readyz`.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }
}

/// Whether a path is a health RPC. Orchestrators have no API key, so health RPCs require none.
pub(super) fn is_health(path: &str) -> bool {
    path.starts_with("/grpc.health.v1.Health/")
}

/// The health RPCs, with bounds on `Watch`, which needs no API key and has no end of its own: few
/// calls a connection, and none once the server closes, which would wait for them.
struct BoundedWatches {
    service: HealthService,
    closing: Shutdown,
}

#[tonic::async_trait]
impl HealthRpcs for BoundedWatches {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        self.service.check(request).await
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let watch = match request.extensions().get::<Arc<Call>>() {
            // Within a process, the call has no connection.
            None => None,
            Some(call) => {
                Some(call.watch(MAX_WATCHES).ok_or_else(|| ApiError::too_many_watches(MAX_WATCHES))?)
            }
        };
        let mut statuses = self.service.watch(request).await?.into_inner();
        let mut closing = Box::pin(self.closing.clone().cancelled_owned());
        let until_closing = poll_fn(move |context| {
            let _ = &watch;
            match statuses.poll_next_unpin(context) {
                // Only once the last status has been sent.
                Poll::Pending => closing.as_mut().poll(context).map(|()| None),
                status @ Poll::Ready(_) => status,
            }
        });
        Ok(Response::new(Box::pin(until_closing)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;
    use tonic::Code;
    use tonic_health::pb::health_check_response as pb;
    use tonic_health::pb::health_client::HealthClient;

    use super::*;
    use crate::{Drain, GrpcServer, Metrics, Shutdown};

    #[tokio::test]
    async fn a_connection_has_few_watches() {
        let server = GrpcServer::new(&[], Drain::default(), Metrics::default()).unwrap();
        let mut health = HealthClient::new(server.in_memory(Shutdown::new()));
        let request = HealthCheckRequest::default;
        let mut open = Vec::new();
        for _ in 0..MAX_WATCHES {
            open.push(health.watch(request()).await.unwrap());
        }
        assert_eq!(health.watch(request()).await.unwrap_err().code(), Code::Unavailable);
        assert!(health.check(request()).await.is_ok());
        open.pop();
        while health.watch(request()).await.is_err() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_reports_that_the_server_leaves_and_ends_when_it_closes() {
        for removal in [Duration::ZERO, Duration::from_secs(5)] {
            let drain = Drain { removal, finish: Duration::from_secs(20) };
            let server = GrpcServer::new(&[], drain, Metrics::default()).unwrap();
            server.health().await.set_serving(true).await;
            let shutdown = Shutdown::new();
            let mut health = HealthClient::new(server.in_memory(shutdown.clone()));
            let mut statuses = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
            let mut next = async || statuses.message().await.unwrap().map(|response| response.status());
            assert_eq!(next().await, Some(pb::ServingStatus::Serving));
            let begin = Instant::now();
            shutdown.cancel();
            assert_eq!(next().await, Some(pb::ServingStatus::NotServing));
            assert!(begin.elapsed() < Duration::from_millis(10));
            assert_eq!(next().await, None);
            let took = begin.elapsed();
            assert!(took >= removal && took < removal + Duration::from_millis(10), "{took:?}");
        }
    }
}
