"""The checks, in the order in which they run. Each returns what it measured, or raises `Failed`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from cluster import APPS, Cluster, Failed, Manifest, condition, wait_for
from traffic import Load, encoded

REPLICAS = 2
WORKERS = 2
# The additional time of a classifier that starts with its encoders. Before, it waited for cached DNS: 18 to 33 s.
MOST_COLD_START_SECONDS = 15
# A pod's part of the calls, in relation to an equal one.
LEAST_SHARE = 0.7
CLAIM = "movies"


class Skipped(Exception):
    """The cluster lacks what a check needs."""


@dataclass(frozen=True)
class Options:
    images: dict[str, tuple[str, str]]
    storage_class: str | None
    calls_per_second: float
    seconds: float
    """How long the balance is measured."""


@dataclass
class Checks:
    cluster: Cluster
    port: int
    """Where `kubectl proxy` listens."""
    options: Options

    def all(self) -> list[tuple[str, Callable[[], str]]]:
        return [
            ("apply", self.apply),
            ("ready", self.ready),
            ("cold start", self.cold_start),
            ("second apply", self.second_apply),
            ("balance", self.balance),
            ("rollout", self.rollout),
            ("eviction", self.eviction),
            ("job", self.job),
            ("claim", self.claim),
            ("autoscaler", self.autoscaler),
        ]

    def load(self) -> Load:
        return Load(self.port, self.cluster.namespace, self.options.calls_per_second)

    def services(self) -> Manifest:
        """The base for a small node, with two pods of each service. The autoscalers stay, but may not add pods."""
        bound = json.dumps([{"op": "replace", "path": "/spec/maxReplicas", "value": REPLICAS}])
        return {
            "images": self.images("encoder", "classifier"),
            "replicas": [{"name": app, "count": REPLICAS} for app in APPS],
            "patches": [{"target": {"kind": "HorizontalPodAutoscaler"}, "patch": bound}],
        }

    def images(self, *names: str) -> list[Manifest]:
        return [
            {"name": f"movieclassifier/{name}", "newName": self.options.images[name][0], "newTag": self.options.images[name][1]}
            for name in names
        ]

    def apply(self) -> str:
        self.cluster.apply("base", self.services())
        return f"namespace {self.cluster.namespace}"

    def second_apply(self) -> str:
        """A second apply changes nothing."""
        done = self.cluster.run("apply", "--filename=-", stdin=self.cluster.render("base", self.services()))
        changed = [line for line in done.stdout.splitlines() if not line.endswith(" unchanged")]
        if changed:
            raise Failed(f"a second apply changed: {'; '.join(changed)}")
        return "all unchanged"

    def ready(self) -> str:
        def are_ready() -> bool:
            return all(len(self.cluster.ready_pods(app)) == REPLICAS for app in APPS)

        try:
            seconds = wait_for(are_ready, 120, f"{REPLICAS} ready pods of each service")
        except Failed as error:
            raise Failed(f"{error}; {self.why_not_ready()}") from None
        return f"{REPLICAS} pods of each service after {seconds:.0f} s, images included"

    def why_not_ready(self) -> str:
        reasons = []
        for app in APPS:
            for pod in self.cluster.pods(app):
                states = [status.get("state", {}) for status in pod["status"].get("containerStatuses", [])]
                waiting = [state["waiting"].get("reason", "") for state in states if "waiting" in state]
                scheduled = condition(pod, "PodScheduled")
                if scheduled["status"] == "False":
                    waiting.append(scheduled.get("message", ""))
                if condition(pod, "Ready")["status"] != "True":
                    reasons.append(f"{pod['metadata']['name']}: {', '.join(waiting) or 'runs, but is not ready'}")
        return "; ".join(reasons)

    def cold_start(self) -> str:
        """From the start of the last container to the last ready classifier, without pulling images."""
        pods = [pod for app in APPS for pod in self.cluster.ready_pods(app)]
        states = [status["state"] for pod in pods for status in pod["status"]["containerStatuses"]]
        begin = max(parsed(state["running"]["startedAt"]) for state in states)
        end = max(parsed(condition(pod, "Ready")["lastTransitionTime"]) for pod in self.cluster.ready_pods("classifier"))
        seconds = (end - begin).total_seconds()
        if seconds > MOST_COLD_START_SECONDS:
            raise Failed(f"classifiers took {seconds:.0f} s, expected at most {MOST_COLD_START_SECONDS} s")
        return f"{max(seconds, 0):.0f} s"

    def balance(self) -> str:
        before = encoded(self.cluster)
        with self.load() as load:
            time.sleep(self.options.seconds)
        after = encoded(self.cluster)
        counts = {pod: after[pod] - before.get(pod, 0) for pod in after}
        equal = sum(counts.values()) / REPLICAS
        summary = load.require_all()
        if len(counts) != REPLICAS or equal == 0 or min(counts.values()) < LEAST_SHARE * equal:
            raise Failed(f"encoders answered {sorted(counts.values())} calls, expected about {equal:.0f} each")
        return f"{' and '.join(f'{count:.0f}' for count in counts.values())} calls; {summary}"

    def rollout(self) -> str:
        with self.load() as load:
            self.cluster.run("rollout", "restart", *(f"deployment/{app}" for app in APPS))
            for app in APPS:
                self.cluster.run("rollout", "status", f"deployment/{app}", "--timeout=240s")
        return f"both services; {load.require_all()}"

    def eviction(self) -> str:
        with self.load() as load:
            for app in APPS:
                name = self.cluster.ready_pods(app)[0]["metadata"]["name"]
                self.evict(name)
                wait_for(lambda app=app, name=name: self.is_replaced(app, name), 60, f"a new pod in place of {name}")
        return f"a pod of each service; {load.require_all()}"

    def evict(self, pod: str) -> None:
        eviction = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": pod, "namespace": self.cluster.namespace},
        }
        path = f"/api/v1/namespaces/{self.cluster.namespace}/pods/{pod}/eviction"
        body = json.dumps(eviction)
        # A disruption budget may still count a pod that has just become ready.
        wait_for(
            lambda: self.cluster.run("create", f"--raw={path}", "--filename=-", stdin=body, check=False).returncode == 0,
            90,
            f"the eviction of {pod} is allowed",
        )

    def is_replaced(self, app: str, old: str) -> bool:
        ready = [pod["metadata"]["name"] for pod in self.cluster.ready_pods(app)]
        return old not in ready and len(ready) == REPLICAS

    def job(self) -> str:
        """Two workers encode a table of made-up movies, which a ConfigMap puts into the claim's folder."""
        table = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "films"}, "data": {"movies.csv": movies(40)}}
        self.cluster.run("apply", "--filename=-", stdin=json.dumps(table))
        size = [{"op": "replace", "path": "/spec/accessModes", "value": ["ReadWriteOnce"]}]
        if self.options.storage_class:
            size.append({"op": "add", "path": "/spec/storageClassName", "value": self.options.storage_class})
        patch = {"target": {"kind": "PersistentVolumeClaim"}, "patch": json.dumps(size)}
        self.cluster.apply("trainer/claim", {"patches": [patch]})
        self.cluster.apply("trainer/encode", self.encode())
        self.cluster.run("wait", "--for=condition=Complete", "--timeout=180s", "job/encode-movies")
        status = self.cluster.get("job/encode-movies")["status"]
        if status.get("succeeded") != WORKERS:
            raise Failed(f"{status.get('succeeded', 0)} of {WORKERS} workers succeeded")
        return f"{WORKERS} workers"

    def encode(self) -> Manifest:
        container = "/spec/template/spec/containers/0"
        mount = {"name": "films", "mountPath": "/films", "readOnly": True}
        patch = [
            {"op": "replace", "path": "/spec/completions", "value": WORKERS},
            {"op": "replace", "path": "/spec/parallelism", "value": WORKERS},
            {"op": "replace", "path": f"{container}/env/0/value", "value": str(WORKERS)},
            {"op": "replace", "path": f"{container}/args/2", "value": "/films/movies.csv"},
            {"op": "add", "path": f"{container}/volumeMounts/-", "value": mount},
            {"op": "add", "path": "/spec/template/spec/volumes/-", "value": {"name": "films", "configMap": {"name": "films"}}},
        ]
        patches = [{"target": {"kind": "Job"}, "patch": json.dumps(patch)}]
        return {"images": self.images("trainer"), "patches": patches}

    def claim(self) -> str:
        """Deleting what the job's kustomization applied keeps the claim."""
        self.cluster.run("delete", "--filename=-", "--timeout=60s", stdin=self.cluster.render("trainer/encode", self.encode()))
        found = self.cluster.get(f"persistentvolumeclaim/{CLAIM}")
        if "deletionTimestamp" in found["metadata"] or found["status"]["phase"] != "Bound":
            raise Failed(f"the claim {CLAIM} is {found['status']['phase']} after its job was deleted, expected Bound")
        return "kept after its job was deleted"

    def autoscaler(self) -> str:
        """Both autoscalers have their metrics. One that misses a metric never scales down."""
        missing = self.cluster.run("get", "--raw=/apis/metrics.k8s.io/v1beta1", check=False).returncode != 0
        if missing:
            raise Skipped("the cluster has no metrics-server")

        def scaling(app: str) -> Manifest:
            return condition(self.cluster.get(f"horizontalpodautoscaler/{app}"), "ScalingActive")

        for app in APPS:
            try:
                wait_for(lambda app=app: scaling(app)["status"] == "True", 60, f"ScalingActive of {app}")
            except Failed as error:
                found = scaling(app)
                raise Failed(f"{error}; {found.get('reason', '')}: {found.get('message', '')}") from None
        return "ScalingActive of both services"


def parsed(timestamp: str) -> datetime:
    return datetime.fromisoformat(timestamp.replace("Z", "+00:00"))


def movies(count: int) -> str:
    """A table in Kaggle's format."""
    genres = ((18, "Drama"), (35, "Comedy"), (10752, "War"))
    rows = ["id,title,overview,genres"]
    for number in range(1, count + 1):
        code, name = genres[number % 3]
        overview = f"On day {number} the miners find {number * 7} coins in the flooded shaft."
        rows.append(f"{number},Shaft {number},{overview},\"[{{'id': {code}, 'name': '{name}'}}]\"")
    return "\n".join(rows) + "\n"
