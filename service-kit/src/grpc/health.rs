//! `grpc.health.v1`: the health that load balancers and orchestrators ask for.

use tonic_health::ServingStatus;
use tonic_health::pb::health_server::{Health as HealthRpcs, HealthServer};
use tonic_health::server::HealthReporter;

use crate::Readiness;

/// The health of a server: one status for the whole server (the empty name) and for each of its
/// services.
#[derive(Clone)]
pub struct Health {
    reporter: HealthReporter,
    names: Vec<&'static str>,
    readiness: Readiness,
}

impl Health {
    /// Returns the health of a server without services, and the handlers that report it.
    pub(super) fn new() -> (Self, HealthServer<impl HealthRpcs>) {
        let (reporter, handlers) = tonic_health::server::health_reporter();
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
