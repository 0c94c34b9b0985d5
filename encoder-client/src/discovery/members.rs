//! The replicas of each target, made from the addresses that a source found.

use std::net::SocketAddr;
use std::sync::Arc;

use service_kit::{ClientTls, Secret, Target};
use tokio_util::task::AbortOnDropHandle;

use crate::attempts::Attempts;
use crate::config::ClientConfig;
use crate::discovery::health;
use crate::replica::{Health, Place, Replica};

/// An address that a source found, and what the source says about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) address: SocketAddr,
    pub(super) place: Place,
}

/// The replicas of each target. Every change is published to the calls of the client.
pub(super) struct Members {
    attempts: Arc<Attempts>,
    tls: Option<ClientTls>,
    api_key: Option<Secret>,
    targets: Vec<(Target, Vec<Member>)>,
}

/// A replica and the task that watches its health.
struct Member {
    replica: Arc<Replica>,
    _watch: AbortOnDropHandle<()>,
}

impl Members {
    pub(super) fn new(attempts: Arc<Attempts>, config: &ClientConfig) -> Self {
        let targets = config.targets.iter().map(|target| (target.clone(), Vec::new())).collect();
        Self { attempts, tls: config.tls.clone(), api_key: config.api_key.clone(), targets }
    }

    /// Replaces the addresses of a target. Replicas that are still listed keep their state. Calls
    /// in flight to the others go on.
    pub(super) fn update(&mut self, target: usize, addresses: Vec<Found>) {
        // Nothing is known about the first replicas, so that one is as good as another. Later ones
        // join when they report that they serve: a name server with older answers may list a
        // replica anew that has stopped.
        let are_first = self.attempts.replicas.all().is_empty();
        let (target, members) = &mut self.targets[target];
        let mut old = std::mem::take(members);
        for Found { address, place } in addresses {
            let name = format!("{target} at {address}");
            if let Some(known) = old.iter().position(|member| member.replica.name() == name) {
                let known = old.swap_remove(known);
                known.replica.set_place(place);
                members.push(known);
                continue;
            }
            tracing::info!(replica = name, "encoder found");
            let channel = target.channel(Some(address), self.tls.clone());
            let health = if are_first { Health::Serving } else { Health::Unknown };
            let replica = Arc::new(Replica::new(name, channel.clone(), self.api_key.as_ref(), health));
            replica.set_place(place);
            let watch = AbortOnDropHandle::new(tokio::spawn(health::watch(replica.clone(), channel)));
            members.push(Member { replica, _watch: watch });
        }
        for gone in old {
            tracing::info!(replica = gone.replica.name(), "encoder gone");
        }
    }

    /// Publishes the replicas of all targets. `failures` are the reasons why some targets cannot be
    /// looked up or watched.
    pub(super) fn publish(&self, failures: &[&str]) {
        let members = self.targets.iter().flat_map(|(_, members)| members);
        let replicas = members.map(|member| member.replica.clone()).collect();
        self.attempts.replicas.replace(replicas, failures.join("; "));
        self.attempts.metrics.set_unresolved(failures.len());
    }
}
