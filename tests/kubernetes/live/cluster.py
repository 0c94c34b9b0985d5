"""kubectl, bound to one namespace of its own, and what the checks need from it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

KUBERNETES = Path(__file__).resolve().parents[3] / "deploy/kubernetes"
APPS = ("encoder", "classifier")

Manifest = dict[str, Any]


class CannotRun(Exception):
    """The cluster cannot be checked at all: no kubectl, no cluster, no permission."""


class Failed(Exception):
    """A check has failed."""


def require_cluster() -> str:
    """Returns the name of the cluster that KUBECONFIG names."""
    if shutil.which("kubectl") is None:
        raise CannotRun("kubectl is not in PATH: install it, in the version of the cluster or one beside it")
    config = os.environ.get("KUBECONFIG", "")
    if not config:
        raise CannotRun("KUBECONFIG is not set: name the file of the cluster to check, so that no other one is changed")
    if missing := [file for file in config.split(os.pathsep) if file and not Path(file).is_file()]:
        raise CannotRun(f"KUBECONFIG names {missing[0]}, which is no file")
    done = kubectl("version", "--output=json", "--request-timeout=10s", check=False)
    if done.returncode != 0:
        raise CannotRun(f"the cluster of {config} does not answer: {done.stderr.strip()}")
    version = json.loads(done.stdout)["serverVersion"]["gitVersion"]
    return f"Kubernetes {version} of {config}"


def kubectl(*arguments: str, stdin: str | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
    command = ["kubectl", *arguments]
    try:
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=300, check=False)
    except subprocess.TimeoutExpired:
        raise Failed(f"{' '.join(command)}: no answer within 300 s") from None
    if check and done.returncode != 0:
        raise Failed(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
    return done


class Cluster:
    """A namespace of the cluster. Every command names it, so nothing else is read or changed."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace

    def run(self, *arguments: str, stdin: str | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        return kubectl("--namespace", self.namespace, *arguments, stdin=stdin, check=check)

    def get(self, *arguments: str) -> Any:
        return json.loads(self.run("get", *arguments, "--output=json").stdout)

    def pods(self, app: str) -> list[Manifest]:
        """The pods of a service that are not being deleted."""
        found = self.get("pods", f"--selector=app.kubernetes.io/name={app}")["items"]
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def ready_pods(self, app: str) -> list[Manifest]:
        return [pod for pod in self.pods(app) if condition(pod, "Ready")["status"] == "True"]

    def apply(self, folder: str, kustomization: Manifest) -> None:
        self.run("apply", "--filename=-", stdin=self.render(folder, kustomization))

    def render(self, folder: str, kustomization: Manifest) -> str:
        """Renders an overlay in a temporary folder on top of `folder` of deploy/kubernetes. JSON is YAML, too."""
        with tempfile.TemporaryDirectory() as temporary:
            here = os.path.relpath(KUBERNETES, os.path.realpath(temporary))
            whole = {
                "resources": [f"{here}/{folder}"],
                "components": [f"{here}/components/small"],
                "namespace": self.namespace,
                **kustomization,
            }
            Path(temporary, "kustomization.yaml").write_text(json.dumps(whole), encoding="utf-8")
            return kubectl("kustomize", temporary).stdout

    def exists(self) -> bool:
        return kubectl("get", "namespace", self.namespace, "--output=name", check=False).returncode == 0

    def delete(self) -> None:
        """Deletes the namespace and waits until everything in it is gone."""
        kubectl("delete", "namespace", self.namespace, "--ignore-not-found", "--wait=true", "--timeout=180s")

    @contextmanager
    def background(self, *arguments: str, address: str) -> Iterator[int]:
        """Runs a kubectl that listens, for the duration of the block. Yields the port that it prints as `address`."""
        command = ["kubectl", "--namespace", self.namespace, *arguments]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
            try:
                assert process.stdout is not None
                line = process.stdout.readline()
                found = re.search(address, line)
                if found is None:
                    raise Failed(f"{' '.join(command)}: expected an address, found {line.strip()!r}")
                yield int(found[1])
            finally:
                process.send_signal(signal.SIGTERM)

    def proxy(self) -> Any:
        """`kubectl proxy`: reaches Services through the API server, and follows them through rollouts."""
        return self.background("proxy", "--port=0", address=r":(\d+)\s*$")

    def forward(self, pod: str, port: int) -> Any:
        """`kubectl port-forward`: reaches one pod, whatever network policies say."""
        return self.background("port-forward", f"pod/{pod}", f":{port}", address=r"127\.0\.0\.1:(\d+) ->")


def condition(manifest: Manifest, kind: str) -> Manifest:
    for found in manifest.get("status", {}).get("conditions", []):
        if found["type"] == kind:
            return dict(found)
    return {"status": "Unknown", "reason": "", "message": f"has no condition {kind}"}


def wait_for(is_true: Callable[[], bool], seconds: float, what: str) -> float:
    """Returns the seconds that it took."""
    begin = time.monotonic()
    while not is_true():
        if time.monotonic() > begin + seconds:
            raise Failed(f"expected within {seconds:.0f} s: {what}")
        time.sleep(min(1.0, seconds / 10))
    return time.monotonic() - begin
