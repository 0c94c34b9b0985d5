//! Which endpoints of a Service are replicas.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};

use crate::discovery::members::Found;
use crate::replica::Place;

/// The label with the name of a slice's Service.
pub(super) const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// No port of a slice fits a target.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected endpoints with the port {expected} of the encoder's address, found {found:?}")]
pub(super) struct NoSuchPort {
    expected: u16,
    found: Vec<u16>,
}

/// What the slices say about an address, best first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Known {
    terminating: bool,
    unready: bool,
    /// Whether the hints leave out this zone; `None` without hints.
    far: Option<bool>,
}

impl Known {
    fn of(endpoint: &Endpoint, zone: Option<&str>) -> Self {
        let conditions = endpoint.conditions.as_ref();
        let zones = endpoint.hints.as_ref().and_then(|hints| hints.for_zones.as_ref());
        Self {
            terminating: conditions.and_then(|conditions| conditions.terminating) == Some(true),
            unready: conditions.and_then(|conditions| conditions.ready) == Some(false),
            far: zones.map(|zones| zones.iter().all(|hinted| Some(hinted.name.as_str()) != zone)),
        }
    }
}

/// Returns every endpoint, ready or not, because replicas report their own health. Of a dual-stack
/// Service, whose pods are in the slices of both families, only the IPv4 addresses.
///
/// A terminating endpoint is leaving. An endpoint is far if its hints leave out `zone`; as for
/// kube-proxy, hints count only if every ready endpoint has them and one of these names the zone.
pub(super) fn endpoints<'a>(
    slices: impl Iterator<Item = &'a EndpointSlice>,
    port: u16,
    zone: Option<&str>,
) -> Result<Vec<Found>, NoSuchPort> {
    // While the control plane moves an endpoint, it may be in two slices.
    let mut all: BTreeMap<SocketAddr, Known> = BTreeMap::new();
    for slice in slices.filter(|slice| !slice.endpoints.is_empty()) {
        let port = port_of(slice, port)?;
        for endpoint in &slice.endpoints {
            // All addresses of an endpoint are the same pod, and since Kubernetes 1.27 there is one.
            let Some(ip) = endpoint.addresses.first().and_then(|ip| ip.parse::<IpAddr>().ok()) else {
                continue;
            };
            let known = Known::of(endpoint, zone);
            all.entry((ip, port).into()).and_modify(|other| *other = known.min(*other)).or_insert(known);
        }
    }
    if all.keys().any(SocketAddr::is_ipv4) {
        all.retain(|address, _| address.is_ipv4());
    }
    let ready = || all.values().filter(|known| !known.terminating && !known.unready);
    let hints_count =
        ready().all(|known| known.far.is_some()) && ready().any(|known| known.far == Some(false));
    let found = all.iter().map(|(address, known)| {
        let is_far = hints_count && known.far != Some(false);
        Found { address: *address, place: Place { is_far, is_leaving: known.terminating } }
    });
    Ok(found.collect())
}

/// The pods' port behind the `port` of a Service: the same number, or the only one. A Service
/// without ports leaves it to its clients.
fn port_of(slice: &EndpointSlice, port: u16) -> Result<u16, NoSuchPort> {
    let ports = slice.ports.iter().flatten().filter_map(|port| u16::try_from(port.port?).ok());
    let found: Vec<u16> = ports.collect();
    match found.as_slice() {
        [] => Ok(port),
        [only] => Ok(*only),
        several if several.contains(&port) => Ok(port),
        _ => Err(NoSuchPort { expected: port, found }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn slice(endpoints: &[Value]) -> EndpointSlice {
        serde_json::from_value(json!({
            "addressType": "IPv4", "metadata": {"name": "encoder-x"}, "endpoints": endpoints,
            "ports": [{"name": "grpc", "port": 50051}, {"name": "metrics", "port": 9464}],
        }))
        .unwrap()
    }

    /// An endpoint as in a Service that publishes addresses that are not ready.
    fn endpoint(address: &str, terminating: bool, zone: Option<&str>) -> Value {
        let hints = zone.map(|zone| json!({"forZones": [{"name": zone}]}));
        let conditions = json!({"ready": true, "serving": !terminating, "terminating": terminating});
        json!({"addresses": [address], "conditions": conditions, "hints": hints})
    }

    fn found(slices: &[EndpointSlice], zone: Option<&str>) -> Vec<Found> {
        endpoints(slices.iter(), 50051, zone).unwrap()
    }

    fn at(address: &str) -> Found {
        Found { address: (address.parse::<IpAddr>().unwrap(), 50051).into(), place: Place::default() }
    }

    fn far(address: &str) -> Found {
        Found { place: Place { is_far: true, is_leaving: false }, ..at(address) }
    }

    #[test]
    fn every_endpoint_is_a_replica_and_a_terminating_one_is_leaving() {
        let mut slice = slice(&[
            endpoint("10.0.0.1", false, None),
            endpoint("10.0.0.2", true, None),
            json!({"addresses": ["10.0.0.3"], "conditions": {"ready": false, "serving": false}}),
            json!({"addresses": ["10.0.0.4"]}),
        ]);
        let leaving = Found { place: Place { is_far: false, is_leaving: true }, ..at("10.0.0.2") };
        let expected = [at("10.0.0.1"), leaving, at("10.0.0.3"), at("10.0.0.4")];
        assert_eq!(found(std::slice::from_ref(&slice), None), expected);
        slice.endpoints.clear();
        assert_eq!(found(&[slice], None), []);
    }

    #[test]
    fn an_endpoint_in_two_slices_is_one_replica() {
        let terminating = slice(&[endpoint("10.0.0.1", true, None)]);
        let serving = slice(&[endpoint("10.0.0.1", false, None)]);
        assert_eq!(found(&[terminating.clone(), serving.clone()], None), [at("10.0.0.1")]);
        assert_eq!(found(&[serving, terminating], None), [at("10.0.0.1")]);
    }

    #[test]
    fn a_dual_stack_pod_is_one_replica() {
        let slices =
            [slice(&[endpoint("fd00::1", false, None)]), slice(&[endpoint("10.0.0.1", false, None)])];
        assert_eq!(found(&slices, None), [at("10.0.0.1")]);
        assert_eq!(found(&slices[..1], None), [at("fd00::1")]);
    }

    #[test]
    fn hints_count_if_every_ready_endpoint_has_them_and_one_names_the_zone() {
        let (a, b) = (endpoint("10.0.0.1", false, Some("a")), endpoint("10.0.0.2", false, Some("b")));
        let of = |endpoints: &[&Value], zone| {
            found(&[slice(&endpoints.iter().copied().cloned().collect::<Vec<_>>())], zone)
        };
        assert_eq!(of(&[&a, &b], Some("b")), [far("10.0.0.1"), at("10.0.0.2")]);
        assert_eq!(of(&[&a, &b], Some("c")), [at("10.0.0.1"), at("10.0.0.2")]);
        assert_eq!(of(&[&a, &b], None), [at("10.0.0.1"), at("10.0.0.2")]);
        let unhinted = endpoint("10.0.0.3", false, None);
        assert_eq!(of(&[&a, &b, &unhinted], Some("b")), [at("10.0.0.1"), at("10.0.0.2"), at("10.0.0.3")]);
        let unready = json!({"addresses": ["10.0.0.3"], "conditions": {"ready": false}});
        assert_eq!(of(&[&a, &b, &unready], Some("b")), [far("10.0.0.1"), at("10.0.0.2"), far("10.0.0.3")]);
    }

    #[test]
    fn the_port_is_that_of_the_address_or_the_only_one() {
        let mut slice = slice(&[endpoint("10.0.0.1", false, None)]);
        let port = |slice: &EndpointSlice| {
            endpoints([slice].into_iter(), 80, None).map(|found| found[0].address.port())
        };
        assert_eq!(port(&slice), Err(NoSuchPort { expected: 80, found: vec![50051, 9464] }));
        slice.ports.as_mut().unwrap().pop();
        assert_eq!(port(&slice), Ok(50051));
        slice.ports = None;
        assert_eq!(port(&slice), Ok(80));
    }
}
