//! The replicas of each target, made from the addresses that a source found.

use std::net::SocketAddr;
use std::sync::Arc;

use service_kit::{ClientTls, Secret, Target};
use tokio_util::task::AbortOnDropHandle;

use crate::attempts::Attempts;
use crate::config::ClientConfig;
use crate::discovery::health;
use crate::replica::{Health, Replica};

/// The replicas of each target. Every change is published to the calls of the client.
pub(super) struct Members {
    pub(super) attempts: Arc<Attempts>,
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
    pub(super) fn update(&mut self, target: usize, addresses: Vec<SocketAddr>) {
        // Nothing is known about the first replicas, so that one is as good as another. Later ones
        // join when they report that they serve: a name server with older answers may list a
        // replica anew that has stopped.
        let are_first = self.attempts.replicas.all().is_empty();
        let (target, members) = &mut self.targets[target];
        let mut old = std::mem::take(members);
        for address in addresses {
            let name = format!("{target} at {address}");
            if let Some(known) = old.iter().position(|member| member.replica.name() == name) {
                members.push(old.swap_remove(known));
                continue;
            }
            tracing::info!(replica = name, "encoder found");
            let channel = target.channel(Some(address), self.tls.clone());
            let health = if are_first { Health::Serving } else { Health::Unknown };
            let replica = Arc::new(Replica::new(name, channel.clone(), self.api_key.as_ref(), health));
            let watch = AbortOnDropHandle::new(tokio::spawn(health::watch(replica.clone(), channel)));
            members.push(Member { replica, _watch: watch });
        }
        for gone in old {
            tracing::info!(replica = gone.replica.name(), "encoder gone");
        }
    }

    /// Publishes the replicas of all targets.
    pub(super) fn publish(&self) {
        let members = self.targets.iter().flat_map(|(_, members)| members);
        self.attempts.replicas.replace(members.map(|member| member.replica.clone()).collect());
    }
}
