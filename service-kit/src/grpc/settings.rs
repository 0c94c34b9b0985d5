//! The settings of a gRPC listener's connections.

use serde::{Deserialize, Serialize};

use crate::InvalidSetting;
use crate::config::setting_check::{in_range, seconds_between};
use crate::http2::{ConnectionAge, ConnectionRules};

/// The longest time that a setting here may have, in seconds.
const LONGEST: f64 = 7.0 * 86_400.0;

/// Settings of the connections of a gRPC listener.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GrpcSettings {
    /// The most open calls of a connection. A client with more waits or opens another connection.
    pub max_concurrent_streams: usize,
    /// Seconds between HTTP/2 pings to the client.
    pub keepalive_interval_seconds: f64,
    /// Seconds that the client has to answer a ping. After that, its connection is closed.
    pub keepalive_timeout_seconds: f64,
    /// Seconds after which a connection accepts no new calls, so that its client connects anew;
    /// 0 for no limit.
    pub max_connection_age_seconds: f64,
    /// Seconds that open calls then have to finish; 0 for no limit.
    pub max_connection_age_grace_seconds: f64,
}

impl Default for GrpcSettings {
    fn default() -> Self {
        let rules = ConnectionRules::default();
        Self {
            max_concurrent_streams: rules.max_streams as usize,
            keepalive_interval_seconds: rules.keepalive_interval.as_secs_f64(),
            keepalive_timeout_seconds: rules.keepalive_timeout.as_secs_f64(),
            max_connection_age_seconds: 0.0,
            max_connection_age_grace_seconds: 0.0,
        }
    }
}

impl GrpcSettings {
    /// Checks the settings.
    pub fn to_rules(&self) -> Result<ConnectionRules, InvalidSetting> {
        let age = seconds_between(
            "grpc.max_connection_age_seconds",
            self.max_connection_age_seconds,
            0.0,
            LONGEST,
        )?;
        let grace = seconds_between(
            "grpc.max_connection_age_grace_seconds",
            self.max_connection_age_grace_seconds,
            0.0,
            LONGEST,
        )?;
        Ok(ConnectionRules {
            max_streams: in_range(
                "grpc.max_concurrent_streams",
                self.max_concurrent_streams,
                1,
                ConnectionRules::MAX_STREAMS,
            )? as u32,
            keepalive_interval: seconds_between(
                "grpc.keepalive_interval_seconds",
                self.keepalive_interval_seconds,
                1.0,
                LONGEST,
            )?,
            keepalive_timeout: seconds_between(
                "grpc.keepalive_timeout_seconds",
                self.keepalive_timeout_seconds,
                1.0,
                LONGEST,
            )?,
            max_age: (!age.is_zero())
                .then_some(ConnectionAge { limit: age, grace: (!grace.is_zero()).then_some(grace) }),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_defaults_are_those_of_a_server_without_settings() {
        assert_eq!(GrpcSettings::default().to_rules().unwrap(), ConnectionRules::default());
    }

    #[test]
    fn rejects_values_that_cannot_work() {
        let check = |change: fn(&mut GrpcSettings)| {
            let mut settings = GrpcSettings::default();
            change(&mut settings);
            settings.to_rules()
        };
        assert!(check(|settings| settings.max_concurrent_streams = 0).is_err());
        assert!(check(|settings| settings.max_concurrent_streams = 1 << 20).is_err());
        assert!(check(|settings| settings.keepalive_interval_seconds = 0.0).is_err());
        assert!(check(|settings| settings.keepalive_timeout_seconds = f64::NAN).is_err());
        assert!(check(|settings| settings.max_connection_age_seconds = -1.0).is_err());
        let rules = check(|settings| settings.max_connection_age_seconds = 60.0).unwrap();
        assert_eq!(rules.max_age, Some(ConnectionAge { limit: Duration::from_secs(60), grace: None }));
    }
}
