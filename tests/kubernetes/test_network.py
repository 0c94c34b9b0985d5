"""Which pods may connect to which, according to all network policies together."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address, ip_network

import pytest

pytest.importorskip("kubernetes_validate", reason="needs a separate environment: run `make test-deploy`")
from manifests import Manifest, of_kind  # noqa: E402

OURS = "movieclassifier"


@dataclass(frozen=True)
class Peer:
    """A pod, or a host outside the cluster if it has no name."""

    name: str = ""
    namespace: str = OURS
    namespace_labels: frozenset[tuple[str, str]] = frozenset()
    address: str = ""

    def labels(self) -> dict[str, str]:
        return {"app.kubernetes.io/name": self.name, "k8s-app": self.name} if self.name else {}


ENCODER, CLASSIFIER, TRAINER, STRANGER = (Peer(name) for name in ("encoder", "classifier", "trainer", "stranger"))
PROMETHEUS = Peer("prometheus", "monitoring")
COLLECTOR = Peer("collector", "monitoring")
NAMES = Peer("kube-dns", "kube-system")
FRONT = Peer("proxy", "front", frozenset({("movieclassifier/client", "true")}))
ELSEWHERE = Peer("classifier", "elsewhere")
OUTSIDE = Peer(namespace="")
# The servers of GKE, EKS and instances that give pods credentials.
CREDENTIALS = [Peer(namespace="", address=f"169.254.{rest}") for rest in ("169.252", "169.254", "170.23")]


def selects(selector: Manifest, labels: dict[str, str]) -> bool:
    by_value = selector.get("matchLabels", {}).items() <= labels.items()
    expressions = selector.get("matchExpressions", [])
    assert all(expression["operator"] == "In" for expression in expressions)
    return by_value and all(labels.get(expression["key"]) in expression["values"] for expression in expressions)


def is_peer(rule: Manifest, peer: Peer) -> bool:
    if "ipBlock" in rule:
        assert "except" not in rule["ipBlock"]
        return bool(peer.address) and ip_address(peer.address) in ip_network(rule["ipBlock"]["cidr"])
    if "namespaceSelector" in rule:
        labels = {"kubernetes.io/metadata.name": peer.namespace, **dict(peer.namespace_labels)}
        namespace = selects(rule["namespaceSelector"], labels)
    else:
        namespace = peer.namespace == OURS
    return namespace and selects(rule.get("podSelector", {}), peer.labels())


def allowed_one_way(policies: list[Manifest], direction: str, pod: Peer, other: Peer, port: int) -> bool:
    """Applies the rules of https://kubernetes.io/docs/concepts/services-networking/network-policies/."""
    rules_key, peers_key = {"Ingress": ("ingress", "from"), "Egress": ("egress", "to")}[direction]
    here = [
        policy["spec"]
        for policy in policies
        if direction in policy["spec"]["policyTypes"] and selects(policy["spec"]["podSelector"], pod.labels())
    ]
    return not here or any(
        any(allowed["port"] == port for allowed in rule["ports"])
        and (peers_key not in rule or any(is_peer(peer, other) for peer in rule[peers_key]))
        for spec in here
        for rule in spec.get(rules_key, [])
    )


def allowed(policies: list[Manifest], client: Peer, server: Peer, port: int) -> bool:
    out = client.namespace != OURS or allowed_one_way(policies, "Egress", client, server, port)
    return out and (server.namespace != OURS or allowed_one_way(policies, "Ingress", server, client, port))


@pytest.fixture(scope="module")
def production() -> list[Manifest]:
    return of_kind("overlays/production", "NetworkPolicy") + of_kind("trainer/encode", "NetworkPolicy")


@pytest.mark.parametrize(
    ("client", "server", "port"),
    [
        (CLASSIFIER, ENCODER, 50051),
        (TRAINER, ENCODER, 50051),
        (PROMETHEUS, ENCODER, 9464),
        (PROMETHEUS, CLASSIFIER, 8081),
        (FRONT, CLASSIFIER, 50052),
        (FRONT, CLASSIFIER, 8081),
        *((client, NAMES, 53) for client in (ENCODER, CLASSIFIER, TRAINER)),
        *((client, COLLECTOR, 4317) for client in (ENCODER, CLASSIFIER, TRAINER)),
    ],
)
def test_required_connections_are_allowed(production: list[Manifest], client: Peer, server: Peer, port: int) -> None:
    assert allowed(production, client, server, port)


@pytest.mark.parametrize(
    ("client", "server", "port"),
    [
        (STRANGER, ENCODER, 50051),
        (ELSEWHERE, ENCODER, 50051),
        (FRONT, ENCODER, 50051),
        (CLASSIFIER, ENCODER, 9464),
        (COLLECTOR, ENCODER, 9464),
        (ELSEWHERE, CLASSIFIER, 8081),
        (OUTSIDE, CLASSIFIER, 8081),
        (ENCODER, CLASSIFIER, 50052),
        (CLASSIFIER, OUTSIDE, 443),
        (ENCODER, OUTSIDE, 443),
        (TRAINER, OUTSIDE, 443),
        (TRAINER, CLASSIFIER, 50052),
        (FRONT, TRAINER, 50051),
    ],
)
def test_other_connections_are_denied(production: list[Manifest], client: Peer, server: Peer, port: int) -> None:
    assert not allowed(production, client, server, port)


def test_base_exposes_only_the_classifier() -> None:
    policies = of_kind("overlays/dev", "NetworkPolicy")
    assert allowed(policies, OUTSIDE, CLASSIFIER, 8081)
    assert not allowed(policies, OUTSIDE, ENCODER, 50051)


def test_only_classifiers_that_watch_endpointslices_call_the_api_server() -> None:
    policies = of_kind("overlays/production+endpointslice-discovery", "NetworkPolicy")
    for port in (443, 6443):
        assert allowed(policies, CLASSIFIER, OUTSIDE, port)
        assert not allowed(policies, ENCODER, OUTSIDE, port)
    assert not allowed(policies, CLASSIFIER, OUTSIDE, 80)
    assert allowed(policies, CLASSIFIER, ENCODER, 50051)


def test_only_jobs_over_a_bucket_call_the_object_store(production: list[Manifest]) -> None:
    policies = production + of_kind("trainer/classify-bucket", "NetworkPolicy")
    (job,) = of_kind("trainer/classify-bucket", "Job")
    labels = job["spec"]["template"]["metadata"]["labels"]
    (policy,) = (policy for policy in policies if policy["metadata"]["name"] == "trainer-object-store")
    assert selects(policy["spec"]["podSelector"], labels) and not selects(policy["spec"]["podSelector"], TRAINER.labels())
    anywhere, node = policy["spec"]["egress"]
    assert "to" not in anywhere and [port["port"] for port in anywhere["ports"]] == [443]
    assert [port["port"] for port in node["ports"]] == [80, 988]
    assert all(any(is_peer(peer, server) for peer in node["to"]) for server in CREDENTIALS)
    assert not any(is_peer(peer, other) for peer in node["to"] for other in (OUTSIDE, CLASSIFIER, ENCODER))
    assert TRAINER.labels().items() & labels.items(), "the encoders' policy admits the job"
    assert not allowed(policies, TRAINER, OUTSIDE, 443)
