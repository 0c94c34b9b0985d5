"""The logic of `make test-kubernetes-live`, with a fake kubectl in place of a cluster.

The real commands and a real cluster are not tested here.
"""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

pytest.importorskip("kubernetes_validate", reason="needs a separate environment: run `make test-deploy`")
import kubernetes_validate  # noqa: E402
import yaml  # noqa: E402
import fake_kubectl  # noqa: E402
from manifests import KUBECTL, Manifest, kustomize, pod  # noqa: E402

LIVE = Path(__file__).parent / "live"
sys.path.insert(0, str(LIVE))
import checks  # noqa: E402
import cluster  # noqa: E402
import run  # noqa: E402
import traffic  # noqa: E402

CHECKS = ["apply", "ready", "cold start", "second apply", "balance", "rollout", "eviction", "job", "claim", "autoscaler"]


class Fake:
    """A fake cluster and the calls that it has recorded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def calls(self) -> list[tuple[list[str], str]]:
        lines = (self.folder / "calls").read_text(encoding="utf-8").splitlines()
        return [(arguments, text) for arguments, text in map(json.loads, lines)]

    def applied(self) -> list[Manifest]:
        found: list[Manifest] = []
        for arguments, text in self.calls():
            if "apply" in arguments:
                found += yaml.safe_load_all(text)
        return found


def environment(folder: Path) -> dict[str, str]:
    """Makes the fake kubectl and returns the variables that select it."""
    (folder / "bin").mkdir()
    program = folder / "bin" / "kubectl"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{Path(__file__).with_name("fake_kubectl.py")}" "$@"\n')
    program.chmod(0o755)
    (folder / "config").write_text("apiVersion: v1\nkind: Config\n")
    return {
        "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "KUBECONFIG": str(folder / "config"),
        "FAKE_CLUSTER": str(folder),
        "REAL_KUBECTL": str(KUBECTL),
        "BALANCE_SECONDS": "1",
    }


@dataclass(frozen=True)
class Finished:
    """A run of the program with the fake kubectl in PATH."""

    status: int
    printed: str
    fake: Fake


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("good")
    command = [sys.executable, LIVE / "run.py"]
    done = subprocess.run(command, env=os.environ | environment(folder), capture_output=True, text=True, check=False)
    return Finished(done.returncode, done.stdout + done.stderr, Fake(folder))


@cache
def kustomized(text: str) -> str:
    """Renders each kustomization once."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "kustomization.yaml").write_text(text, encoding="utf-8")
        return kustomize(Path(folder))


def kubectl_in_process(
    *arguments: str, stdin: str | None = None, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """`cluster.kubectl` without a process for each call."""
    out, err, status = io.StringIO(), io.StringIO(), 0
    if arguments[0] == "kustomize":
        out.write(kustomized(Path(arguments[1], "kustomization.yaml").read_text(encoding="utf-8")))
    else:
        with redirect_stdout(out), redirect_stderr(err):
            try:
                fake_kubectl.answer(list(arguments), stdin or "")
            except SystemExit as error:
                status = int(str(error.code))
    if check and status != 0:
        raise cluster.Failed(err.getvalue().strip())
    return subprocess.CompletedProcess(list(arguments), status, out.getvalue(), err.getvalue())


@contextmanager
def background_in_process(_: cluster.Cluster, *arguments: str, address: str) -> Iterator[int]:
    with fake_kubectl.listening(list(arguments)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield int(server.server_address[1])
        server.shutdown()
        thread.join()


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    for key, value in environment(tmp_path).items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr(cluster, "kubectl", kubectl_in_process)
    monkeypatch.setattr(cluster.Cluster, "background", background_in_process)
    monkeypatch.setattr(run.signal, "signal", lambda *_: None)
    # Equal names let a kustomization be rendered once for all tests.
    monkeypatch.setattr(run.secrets, "token_hex", lambda _: "000000")
    # What takes a cluster minutes takes the fake one a moment.
    patient = checks.wait_for
    monkeypatch.setattr(checks, "wait_for", lambda is_true, seconds, what: patient(is_true, min(seconds, 0.2), what))
    return Fake(tmp_path)


def outcomes(printed: str) -> dict[str, str]:
    """The outcome of each check, by its name."""
    lines = [line for line in printed.splitlines() if line.startswith(("ok ", "skipped ", "FAILED  "))]
    return {line[8:22].strip(): line[:8].strip() for line in lines}


def test_all_checks_hold_on_a_good_cluster(good: Finished) -> None:
    assert (good.status, outcomes(good.printed)) == (0, dict.fromkeys(CHECKS, "ok")), good.printed


def test_every_command_is_bound_to_the_namespace_which_is_deleted_last(good: Finished) -> None:
    calls = [arguments for arguments, _ in good.fake.calls()]
    (namespace,) = {arguments[1] for arguments in calls if arguments[0] == "--namespace"}
    assert namespace.startswith("movieclassifier-check-")
    others = [arguments[:3] for arguments in calls if arguments[0] != "--namespace"]
    assert [arguments[0] for arguments in others] == ["version", "get", "delete"]
    assert others[1:] == [["get", "namespace", namespace], ["delete", "namespace", namespace]]
    assert calls[-1][:3] == others[-1]
    for manifest in good.fake.applied():
        kind, metadata = manifest["kind"], manifest["metadata"]
        assert namespace == (metadata["name"] if kind == "Namespace" else metadata.get("namespace", namespace))


def test_the_applied_manifests_are_valid_and_small(good: Finished) -> None:
    applied = good.fake.applied()
    for manifest in applied:
        kubernetes_validate.validate(manifest, "1.36", strict=True)
    cpu = {"encoder": "200m", "classifier": "100m", "encode-movies": "100m"}
    workloads = [manifest for manifest in applied if manifest["kind"] in {"Deployment", "Job"}]
    assert {workload["metadata"]["name"] for workload in workloads} == cpu.keys()
    for workload in workloads:
        (container,) = pod(workload)["containers"]
        assert container["resources"]["requests"]["cpu"] == cpu[workload["metadata"]["name"]]
        assert container["image"].endswith(":latest")
    (job,) = (workload for workload in workloads if workload["kind"] == "Job")
    assert job["spec"]["completions"] == job["spec"]["parallelism"] == int(pod(job)["containers"][0]["env"][0]["value"])
    (table,) = (manifest for manifest in applied if manifest.get("data", {}).keys() == {"movies.csv"})
    mounted = {mount["name"]: mount["mountPath"] for mount in pod(job)["containers"][0]["volumeMounts"]}
    assert f"{mounted['films']}/movies.csv" in pod(job)["containers"][0]["args"]
    rows = list(csv.DictReader(io.StringIO(table["data"]["movies.csv"])))
    assert len(rows) == 40 and all(None not in row and row["genres"].startswith("[{'id': ") for row in rows)


@pytest.mark.parametrize(
    ("broken", "check", "reason"),
    [
        ("apply", "apply", "the server refuses"),
        ("unready", "ready", "encoder-1: ImagePullBackOff"),
        ("slow_start", "cold start", "classifiers took 39 s, expected at most 15 s"),
        ("configured", "second apply", "changed: deployment.apps/encoder configured"),
        ("unbalanced", "balance", "expected about"),
        ("rollout", "rollout", "timed out"),
        ("lost_calls", "rollout", "calls failed"),
        ("eviction", "eviction", "the eviction of encoder-3 is allowed"),
        ("job", "job", "timed out waiting for the condition on jobs/encode-movies"),
        ("worker", "job", "1 of 2 workers succeeded"),
        ("claim", "claim", 'persistentvolumeclaims "movies" not found'),
        ("autoscaler", "autoscaler", "ScalingActive of encoder; FailedGetPodsMetric: no adapter"),
    ],
)
def test_a_broken_cluster_fails_its_check_and_is_cleaned_up(
    broken: str, check: str, reason: str, fake: Fake, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAKE_BREAK", broken)
    # A rollout that takes no time would see few calls.
    if broken == "lost_calls":
        monkeypatch.setattr(traffic.Load, "__exit__", after(1, traffic.Load.__exit__))
    assert run.main() == 1
    printed = capsys.readouterr().out
    found = outcomes(printed)
    assert list(found.items())[-1] == (check, "FAILED"), printed
    assert set(list(found.values())[:-1]) <= {"ok"}
    assert reason in printed
    assert fake.calls()[-1][0][:2] == ["delete", "namespace"]


def after(seconds: float, function: object) -> object:
    def waiting(*arguments: object) -> object:
        time.sleep(seconds)
        return function(*arguments)  # type: ignore[operator]

    return waiting


def test_a_namespace_that_stays_is_a_failure(
    fake: Fake, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAKE_BREAK", "delete")
    assert run.main() == 1
    assert "not deleted" in capsys.readouterr().out


def test_a_cluster_without_metrics_server_skips_the_autoscaler(
    fake: Fake, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAKE_BREAK", "no_metrics")
    assert run.main() == 0
    assert outcomes(capsys.readouterr().out)["autoscaler"] == "skipped"


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"PATH": "/nonexistent"}, "kubectl is not in PATH"),
        ({"KUBECONFIG": ""}, "KUBECONFIG is not set"),
        ({"KUBECONFIG": "/no/such/file"}, "/no/such/file, which is no file"),
        ({"FAKE_BREAK": "no_cluster"}, "does not answer: The connection to the server"),
        ({"ENCODER_IMAGE": "registry:5000/encoder"}, "ENCODER_IMAGE is registry:5000/encoder, expected NAME:TAG"),
    ],
)
def test_says_why_it_cannot_check(
    variables: dict[str, str],
    reason: str,
    fake: Fake,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for key, value in variables.items():
        monkeypatch.setenv(key, value)
    assert run.main() == 2
    assert reason in capsys.readouterr().err
    # Nothing was created.
    assert not (fake.folder / "calls").exists() or not fake.applied()


def test_an_interrupted_run_cleans_up(tmp_path: Path) -> None:
    variables = os.environ | environment(tmp_path) | {"BALANCE_SECONDS": "60"}
    command = [sys.executable, LIVE / "run.py"]
    with subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "ready" in line:
                break
        process.send_signal(signal.SIGTERM)
        rest = process.stdout.read()
    assert (process.returncode, "interrupted" in rest) == (1, True)
    assert Fake(tmp_path).calls()[-1][0][:2] == ["delete", "namespace"]
