//! The environment variables of settings, among the others that begin with the same prefix.

use std::collections::BTreeMap;
use std::ffi::OsString;

use serde_json::Value as Json;

use super::error::SettingsError;
use super::keys::{at, keys};

/// Returns the environment variable that sets a key.
pub(super) fn variable_of(prefix: &str, key: &str) -> String {
    format!("{prefix}_{}", key.replace('.', "__").to_uppercase())
}

/// Returns the variables of the process that are text. A variable of a setting must be.
pub(super) fn of_process(
    prefix: &str,
    all: impl Iterator<Item = (OsString, OsString)>,
) -> Result<BTreeMap<String, String>, SettingsError> {
    let mut variables = BTreeMap::new();
    for (name, value) in all {
        let Ok(variable) = name.into_string() else { continue };
        match value.into_string() {
            Ok(value) => drop(variables.insert(variable, value)),
            Err(_) if suffix(prefix, &variable).is_some() => {
                return Err(SettingsError::NotUtf8 { variable });
            }
            Err(_) => {}
        }
    }
    Ok(variables)
}

/// Returns the variables that set something. Leaves out empty ones, unless their setting is a text
/// that may be empty, and those with which Kubernetes describes a Service of the same name.
pub(super) fn of_settings(
    variables: &BTreeMap<String, String>,
    prefix: &str,
    known: &Json,
) -> BTreeMap<String, String> {
    let key_of: BTreeMap<_, _> =
        keys(known).into_iter().map(|key| (variable_of(prefix, &key), key)).collect();
    let sets = |name: &str, value: &str| match key_of.get(&name.to_uppercase()) {
        Some(key) => !value.is_empty() || at(known, key).is_some_and(Json::is_string),
        None => !suffix(prefix, name).is_some_and(|suffix| is_service_link(&suffix)),
    };
    let kept = variables.iter().filter(|(name, value)| sets(name, value));
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Returns what follows the prefix in the name of a variable.
fn suffix(prefix: &str, name: &str) -> Option<String> {
    let name = name.to_uppercase();
    name.strip_prefix(&prefix.to_uppercase())?.strip_prefix('_').map(str::to_owned)
}

/// Whether Kubernetes sets a variable with this end for each Service of a namespace
/// (<https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables>), such
/// as `PORT` or `PORT_50052_TCP_ADDR`. Words before it belong to the name of the Service.
fn is_service_link(suffix: &str) -> bool {
    let words: Vec<_> = suffix.split('_').collect();
    let is_number = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    let is_protocol = |word: &str| matches!(word, "TCP" | "UDP" | "SCTP");
    // The name of a port follows SERVICE_PORT, so anything may.
    (0..words.len()).any(|start| match words[start..] {
        ["SERVICE", "HOST"] | ["PORT"] | ["SERVICE", "PORT", ..] => true,
        ["PORT", number, protocol] | ["PORT", number, protocol, "PROTO" | "PORT" | "ADDR"] => {
            is_number(number) && is_protocol(protocol)
        }
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_the_variables_of_kubernetes_services() {
        for suffix in [
            "PORT",
            "SERVICE_HOST",
            "SERVICE_PORT",
            "SERVICE_PORT_GRPC_WEB",
            "PORT_50052_TCP",
            "PORT_50052_TCP_PROTO",
            "PORT_50052_TCP_PORT",
            "PORT_50052_UDP_ADDR",
            "HEADLESS_PORT_80_TCP",
            "HEADLESS_SERVICE_HOST",
        ] {
            assert!(is_service_link(suffix), "{suffix}");
        }
        for suffix in ["LISTEN", "PORTS", "PORT_TCP", "PORT_80", "PORT_80_TCP_NAME", "SERVICE", "IMPORT", ""]
        {
            assert!(!is_service_link(suffix), "{suffix}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn names_a_variable_that_is_no_text() {
        use std::os::unix::ffi::OsStringExt as _;
        let variables = |name: &str| [(OsString::from(name), OsString::from_vec(vec![0xff]))].into_iter();
        let error = of_process("P", variables("P_MODEL")).unwrap_err().to_string();
        assert_eq!(error, "environment variable P_MODEL: expected UTF-8, found other bytes");
        assert!(of_process("P", variables("PATH")).unwrap().is_empty());
    }
}
