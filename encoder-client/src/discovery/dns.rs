//! Looks up the host names of all targets at regular intervals; each address is a replica.
//!
//! `tower::discover` and `tonic::transport::Channel::balance_channel` feed their own balancer,
//! which would hide the replicas from retries and hedges.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use service_kit::{Shutdown, Target};
use tokio::time::Instant;
use tower::retry::backoff::ExponentialBackoff;

use crate::attempts::Attempts;
use crate::config::ClientConfig;
use crate::discovery::members::{Found, Members};
use crate::policy;
use crate::replica::Place;

/// The first backoff of a name that cannot be looked up. The longest is the interval of lookups.
const FIRST_BACKOFF: Duration = Duration::from_millis(500);

/// Keeps the replicas of a client up to date.
pub(crate) struct Discovery {
    members: Members,
    interval: Duration,
    names: Vec<Name>,
}

/// The host name of a target.
struct Name {
    target: Target,
    /// When to look it up.
    next: Instant,
    /// Set while it cannot be looked up.
    failure: Option<Failure>,
}

/// The last failure of a name, and the time until the next lookup.
struct Failure {
    reason: String,
    backoff: ExponentialBackoff,
}

impl Name {
    /// Returns all addresses, or `None` if it is not time for a lookup, or if the lookup fails.
    async fn look_up(&mut self, interval: Duration) -> Option<Vec<SocketAddr>> {
        if Instant::now() < self.next {
            return None;
        }
        let found = self.target.resolve().await.and_then(|addresses| {
            if addresses.is_empty() {
                return Err(io::Error::other("the name has no address"));
            }
            Ok(addresses)
        });
        let target = &self.target;
        match found {
            Ok(addresses) => {
                if self.failure.take().is_some() {
                    tracing::info!(%target, "the encoder's name can be looked up again");
                }
                self.next = Instant::now() + interval;
                Some(addresses)
            }
            Err(error) => {
                if self.failure.is_none() {
                    tracing::warn!(%target, %error, "the encoder's name cannot be looked up; trying again");
                }
                let backoff = || policy::backoff(FIRST_BACKOFF, interval);
                let mut backoff = self.failure.take().map_or_else(backoff, |failure| failure.backoff);
                self.next = Instant::now() + policy::next(&mut backoff);
                self.failure = Some(Failure { reason: error.to_string(), backoff });
                None
            }
        }
    }
}

impl Discovery {
    pub(crate) fn new(attempts: Arc<Attempts>, config: &ClientConfig, interval: Duration) -> Self {
        let next = Instant::now();
        let name = |target: &Target| Name { target: target.clone(), next, failure: None };
        let names = config.targets.iter().map(name).collect();
        Self { members: Members::new(attempts, config), interval, names }
    }

    /// Looks up the names at regular intervals until shutdown.
    pub(crate) async fn follow(mut self, shutdown: Shutdown) {
        let follow = async {
            while let Some(next) = self.names.iter().map(|name| name.next).min() {
                tokio::time::sleep_until(next).await;
                self.refresh().await;
            }
        };
        shutdown.run_until_cancelled(follow).await;
    }

    /// Looks up the names whose time has come. If the lookup of a name fails, its replicas stay: a
    /// failing name server says nothing about encoders.
    pub(crate) async fn refresh(&mut self) {
        for (target, name) in self.names.iter_mut().enumerate() {
            if let Some(addresses) = name.look_up(self.interval).await {
                let found = addresses.into_iter().map(|address| Found { address, place: Place::default() });
                self.members.update(target, found.collect());
            }
        }
        let failures = self.names.iter().filter_map(|name| Some(name.failure.as_ref()?.reason.as_str()));
        self.members.publish(&failures.collect::<Vec<_>>());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use futures_util::future::BoxFuture;
    use service_kit::{Io, Metrics, Transport};

    use super::*;
    use crate::config::Source;
    use crate::policy::{OnlinePolicy, Policy};
    use crate::replicas::Replicas;

    const INTERVAL: Duration = Duration::from_secs(10);

    /// A name server that counts lookups and fails those before `fixed`.
    #[derive(Debug)]
    struct NameServer {
        fixed: Instant,
        lookups: Mutex<Vec<Instant>>,
    }

    impl Transport for NameServer {
        fn resolve<'a>(&'a self, _: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
            self.lookups.lock().unwrap().push(Instant::now());
            let found = if Instant::now() < self.fixed {
                Err(io::Error::other("unknown name"))
            } else {
                Ok(vec![SocketAddr::from(([192, 0, 2, 1], port))])
            };
            Box::pin(std::future::ready(found))
        }

        fn connect(&self, _: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Io>>> {
            Box::pin(std::future::ready(Err(io::ErrorKind::ConnectionRefused.into())))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_that_does_not_resolve_is_looked_up_ever_more_rarely() {
        let begin = Instant::now();
        let server =
            Arc::new(NameServer { fixed: begin + Duration::from_secs(100), lookups: Mutex::default() });
        let policy = Policy::Online(OnlinePolicy { timeout: INTERVAL, hedge_after: None });
        let config = ClientConfig {
            targets: vec![Target::parse("http://encoder:1").unwrap().over(server.clone())],
            source: Source::Dns { interval: INTERVAL },
            policy,
            tls: None,
            api_key: None,
        };
        let metrics = Metrics::default();
        let attempts = Arc::new(Attempts::new(Replicas::new(Vec::new(), String::new()), policy, &metrics));
        let gauge = |metrics: &Metrics, value: usize| {
            metrics.render().contains(&format!("encoder_unresolved_names {value}\n"))
        };
        tokio::spawn(Discovery::new(attempts.clone(), &config, INTERVAL).follow(Shutdown::new()));
        tokio::time::sleep(Duration::from_secs(90)).await;
        let waits: Vec<_> =
            server.lookups.lock().unwrap().windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()).collect();
        assert!(waits[0] <= 0.51, "{waits:?}");
        // Each backoff is random in its upper half.
        assert!(waits.iter().all(|wait| *wait <= 10.1), "{waits:?}");
        assert!((10..30).contains(&waits.len()), "{waits:?}");
        assert!(waits.iter().skip(6).all(|wait| *wait >= 4.9), "{waits:?}");
        assert!(gauge(&metrics, 1) && attempts.replicas.all().is_empty());
        let error = attempts.replicas.unreachable().to_string();
        assert!(error.contains("unknown name"), "{error}");
        tokio::time::sleep(Duration::from_secs(25)).await;
        assert!(gauge(&metrics, 0), "{}", metrics.render());
        assert_eq!(attempts.replicas.all().len(), 1);
    }
}
