//! Watches the `EndpointSlices` of the Services that the targets name; each endpoint is a replica.
//!
//! kube's watcher lists once, watches from there, resumes a watch that breaks, and lists anew if the
//! API server has forgotten where it was (410).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::{BoxStream, SelectAll, unfold};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt as _};
use service_kit::{Shutdown, Target};
use tokio::time::Instant;

use crate::attempts::Attempts;
use crate::cluster::Kubernetes;
use crate::config::ClientConfig;
use crate::discovery::endpoints::{SERVICE_NAME, endpoints};
use crate::discovery::members::Members;
use crate::policy;

/// The backoff after a failed list or watch. Listing anew resets nothing, because a server may allow
/// lists and no watches.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const LONGEST_BACKOFF: Duration = Duration::from_secs(10);
/// The length of a watch in seconds, after which the next one begins where it ended. A connection
/// that breaks without notice is noticed 5 s later.
const WATCH_SECONDS: u32 = 30;
/// The longest silence of the API server, also in a list.
const READ_TIMEOUT: Duration = Duration::from_secs(40);
/// The longest wait for the first list when a client starts.
const FIRST_LIST: Duration = Duration::from_secs(5);
/// The Role that grants the permission, for error messages.
const ROLE: &str = "deploy/kubernetes/components/endpointslice-discovery";

/// The Service of a target.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Service {
    name: String,
    namespace: String,
}

impl Service {
    /// Reads `NAME`, `NAME.NAMESPACE` or `NAME.NAMESPACE.svc…`.
    fn of(target: &Target, own_namespace: &str) -> Self {
        let mut parts = target.host().split('.');
        let name = parts.next().unwrap_or_default().to_owned();
        Self { name, namespace: parts.next().unwrap_or(own_namespace).to_owned() }
    }
}

/// What is known of a target's Service.
struct Watched {
    target: Target,
    service: Service,
    slices: BTreeMap<String, EndpointSlice>,
    /// The slices of a list that has not ended.
    listing: BTreeMap<String, EndpointSlice>,
    is_listed: bool,
    failure: Option<String>,
}

type Outcome = Result<Event<EndpointSlice>, watcher::Error>;
type Events = BoxStream<'static, (usize, Outcome)>;

/// Keeps the replicas of a client up to date.
pub(crate) struct Discovery {
    members: Members,
    watched: Vec<Watched>,
    events: SelectAll<Events>,
    zone: Option<String>,
}

impl Discovery {
    /// Begins to watch the Services of all targets. Within a runtime.
    pub(crate) fn new(attempts: Arc<Attempts>, config: &ClientConfig, cluster: &Kubernetes) -> Self {
        let mut access = cluster.access.clone();
        access.read_timeout = Some(READ_TIMEOUT);
        let own_namespace = access.default_namespace.clone();
        let client = Client::try_from(access);
        let mut events = SelectAll::new();
        let mut watched = Vec::new();
        for (index, target) in config.targets.iter().enumerate() {
            let service = Service::of(target, &own_namespace);
            if let Ok(client) = &client {
                events.push(watch(index, client.clone(), &service));
            }
            watched.push(Watched {
                target: target.clone(),
                service,
                slices: BTreeMap::new(),
                listing: BTreeMap::new(),
                is_listed: false,
                failure: None,
            });
        }
        let members = Members::new(attempts, config);
        let mut discovery = Self { members, watched, events, zone: cluster.zone.clone() };
        if let Err(error) = client {
            let reason = format!("no access to the API server: {error}");
            (0..discovery.watched.len()).for_each(|index| discovery.fails(index, reason.clone()));
        }
        discovery
    }

    /// Waits for the first list of every Service, or for its failure. What takes longer goes on in
    /// [`follow`](Self::follow).
    pub(crate) async fn begin(&mut self) {
        let begin = async {
            while self.watched.iter().any(|watched| !watched.is_listed && watched.failure.is_none()) {
                let Some((index, outcome)) = self.events.next().await else { return };
                self.apply(index, outcome);
            }
        };
        let _ = tokio::time::timeout(FIRST_LIST, begin).await;
    }

    /// Follows the Services until shutdown.
    pub(crate) async fn follow(mut self, shutdown: Shutdown) {
        let follow = async {
            while let Some((index, outcome)) = self.events.next().await {
                self.apply(index, outcome);
            }
        };
        shutdown.run_until_cancelled(follow).await;
    }

    fn apply(&mut self, index: usize, outcome: Outcome) {
        let watched = &mut self.watched[index];
        match outcome {
            Ok(Event::Init) => return watched.listing.clear(),
            Ok(Event::InitApply(slice)) => {
                watched.listing.insert(slice.name_any(), slice);
                return;
            }
            Ok(Event::InitDone) => {
                watched.slices = std::mem::take(&mut watched.listing);
                watched.is_listed = true;
            }
            Ok(Event::Apply(slice)) => drop(watched.slices.insert(slice.name_any(), slice)),
            Ok(Event::Delete(slice)) => drop(watched.slices.remove(&slice.name_any())),
            Err(error) if ends_a_watch(&error) => {
                return tracing::debug!(target = %watched.target, %error, "the watch of the encoders' Service resumes");
            }
            Err(error) => {
                let reason = explained(&error, &watched.service);
                return self.fails(index, reason);
            }
        }
        let Service { name, namespace } = &watched.service;
        match endpoints(watched.slices.values(), watched.target.port(), self.zone.as_deref()) {
            Ok(found) if found.is_empty() => {
                let reason = format!("the Service {name} in namespace {namespace} has no endpoints");
                self.members.update(index, found);
                self.fails(index, reason);
            }
            Ok(found) => {
                if watched.failure.take().is_some() {
                    tracing::info!(target = %watched.target, "the encoders' Service is watched");
                }
                self.members.update(index, found);
                self.publish();
            }
            Err(error) => {
                let reason = format!("the Service {name} in namespace {namespace}: {error}");
                self.fails(index, reason);
            }
        }
    }

    /// Records a failure. The replicas stay: a failing API server says nothing about encoders.
    fn fails(&mut self, index: usize, reason: String) {
        let watched = &mut self.watched[index];
        if watched.failure.as_ref() != Some(&reason) {
            tracing::error!(target = %watched.target, reason, "the encoders' Service cannot be watched; trying again");
            watched.failure = Some(reason);
        }
        self.publish();
    }

    fn publish(&self) {
        let failures: Vec<_> = self.watched.iter().filter_map(|watched| watched.failure.as_deref()).collect();
        self.members.publish(&failures);
    }
}

/// Watches the slices of a Service, with a pause after each failure.
///
/// A watch that breaks resumes. After any other failure a new watcher begins with a list: the old
/// one would not say when it can watch again.
fn watch(index: usize, client: Client, service: &Service) -> Events {
    let slices: Api<EndpointSlice> = Api::namespaced(client, &service.namespace);
    let selector = format!("{SERVICE_NAME}={}", service.name);
    let config = watcher::Config::default().labels(&selector).timeout(WATCH_SECONDS);
    let begin = move || watcher(slices.clone(), config.clone()).boxed();
    let backoff = || policy::backoff(FIRST_BACKOFF, LONGEST_BACKOFF);
    let state = (begin(), backoff(), Instant::now(), None);
    let events = unfold(state, move |(mut events, mut pauses, mut failed_at, pause)| {
        let begin = begin.clone();
        async move {
            if let Some(pause) = pause {
                tokio::time::sleep(pause).await;
            }
            let outcome = events.next().await?;
            let mut pause = None;
            if let Err(error) = &outcome {
                if !matches!(error, watcher::Error::WatchFailed(_)) {
                    events = begin();
                }
                if failed_at.elapsed() > 2 * LONGEST_BACKOFF {
                    pauses = backoff();
                }
                pause = Some(policy::next(&mut pauses));
                failed_at = Instant::now();
            }
            Some(((index, outcome), (events, pauses, failed_at, pause)))
        }
    });
    events.boxed()
}

/// Whether a watch has ended that worked until now. If the next one fails as well, that is an error
/// of its own.
fn ends_a_watch(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::WatchFailed(_) => true,
        watcher::Error::WatchError(status) => status.code == 410,
        _ => false,
    }
}

/// Names the missing permission, if that is why a list or a watch failed.
fn explained(error: &watcher::Error, service: &Service) -> String {
    let (verb, status) = match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status)) => ("list", status),
        watcher::Error::WatchStartFailed(kube::Error::Api(status)) | watcher::Error::WatchError(status) => {
            ("watch", status)
        }
        other => return format!("the API server: {}", causes(other)),
    };
    match status.code {
        401 => format!("the API server rejects the token of the service account: {}", status.message),
        403 => format!(
            "the service account may not {verb} endpointslices.discovery.k8s.io in namespace {}; apply the Role \
             in {ROLE}: {}",
            service.namespace, status.message
        ),
        code => format!("the API server answers {code} to {verb} endpointslices: {}", status.message),
    }
}

/// An error with its causes. The messages of kube's errors repeat some of them.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    #[test]
    fn a_service_is_named_with_or_without_its_namespace() {
        let service = |url: &str| Service::of(&Target::parse(url).unwrap(), "own");
        let expected =
            |name: &str, namespace: &str| Service { name: name.to_owned(), namespace: namespace.to_owned() };
        assert_eq!(service("http://encoder:50051"), expected("encoder", "own"));
        assert_eq!(service("http://encoder.films:50051"), expected("encoder", "films"));
        assert_eq!(service("https://encoder.films.svc.cluster.local"), expected("encoder", "films"));
    }

    #[test]
    fn a_missing_permission_to_watch_is_named() {
        let status = Status::failure("cannot watch resource", "Forbidden").with_code(403);
        let service = Service { name: "encoder".to_owned(), namespace: "films".to_owned() };
        let error = watcher::Error::WatchStartFailed(kube::Error::Api(Box::new(status)));
        let text = explained(&error, &service);
        assert!(text.contains("may not watch endpointslices.discovery.k8s.io in namespace films"), "{text}");
        assert!(text.contains(ROLE) && text.contains("cannot watch resource"), "{text}");
    }

    #[test]
    fn the_role_of_the_error_message_exists() {
        assert!(
            std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("..")
                .join(ROLE)
                .join("role.yaml")
                .is_file()
        );
    }
}
