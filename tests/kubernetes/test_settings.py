"""The services accept the settings of manifests, Compose and images. Unknown or invalid ones stop a service at once.

Each service starts with a runtime library or model that does not exist. If it reports the missing file, it has accepted
the settings. (`--print-config` would show unknown keys, but not invalid values.)
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("kubernetes_validate", reason="needs a separate environment: run `make test-deploy`")
import yaml  # noqa: E402
from manifests import ALL, BINARIES, ROOT, of_kind, pod, settings_file, variables_of  # noqa: E402
from tls_secrets import MOUNT, Authority  # noqa: E402

DISCOVERY = "CLASSIFIER_SVC_ENCODER__DISCOVERY"
NO_PORTS = {"encoder": ["--http-listen", ""], "classifier": ["--rest-listen", ""]}
# The error of a start with valid settings.
MISSING = {
    "encoder": (["--runtime-library", "/none"], "library /none"),
    "classifier": (["--model", "/none"], "model file /none"),
}


def error_of(service: str, file: Path | None, variables: dict[str, str]) -> str:
    """Returns the service's error about the settings, or an empty string if it accepts them."""
    flags, otherwise = MISSING[service]
    path = BINARIES / f"{service}-svc"
    if not path.is_file():
        pytest.skip(f"{path} is not built")
    command = [path, "serve", "--listen", "127.0.0.1:0", *NO_PORTS[service], *flags]
    command += ["--config", file] if file else []
    ours = ("ENCODER_SVC_", "CLASSIFIER_SVC_")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(ours)} | variables
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1, "expected the start to fail"
    return "" if otherwise in done.stderr else done.stderr


@pytest.fixture(scope="module")
def secret(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates in place of those that the component `tls` mounts."""
    folder = tmp_path_factory.mktemp("secret")
    Authority(folder / "authority").issue(folder / "mounted", "localhost")
    return folder / "mounted"


def test_accepts_the_settings_of_the_manifests(secret: Path, tmp_path: Path) -> None:
    # Most components change no settings, so many overlays have the same ones.
    seen: list[tuple[str, str, dict[str, str]]] = []
    for name in (name for name in ALL if name.startswith("overlays/")):
        for workload in of_kind(name, "Deployment"):
            (container,) = pod(workload)["containers"]
            variables = {key: value.replace(MOUNT, str(secret)) for key, value in variables_of(container).items()}
            # The tests' programs are built without this, and do not run in a pod; see below.
            variables.pop(DISCOVERY, None)
            case = (workload["metadata"]["name"], settings_file(name, workload), variables)
            if case not in seen:
                seen.append(case)
                file = tmp_path / "settings.toml"
                file.write_text(case[1], encoding="utf-8")
                assert error_of(case[0], file, variables) == "", name


def test_accepts_the_settings_of_compose() -> None:
    compose = yaml.safe_load((ROOT / "deploy/compose/compose.yaml").read_text(encoding="utf-8"))
    for service in ("encoder", "classifier"):
        assert error_of(service, None, compose["services"][service]["environment"]) == ""


@pytest.mark.parametrize("service", ["encoder", "classifier"])
def test_accepts_the_settings_of_the_images(service: str) -> None:
    assert error_of(service, ROOT / f"deploy/docker/{service}-svc.toml", {}) == ""


def test_discovery_by_kubernetes_needs_the_feature_and_a_pod() -> None:
    variables = {DISCOVERY: "kubernetes", "CLASSIFIER_SVC_ENCODER__URL": "http://encoder:50051"}
    error = error_of("classifier", None, variables)
    reasons = ("this program was built without the feature kubernetes", "in a pod with the token of a service account")
    assert "setting encoder.discovery: expected" in error and any(reason in error for reason in reasons), error
    assert "encoder.discovery" in error_of("classifier", None, {DISCOVERY: "consul"})


def test_rejects_an_unknown_setting() -> None:
    assert "sesions" in error_of("encoder", None, {"ENCODER_SVC_ENCODER__SESIONS": "2"})


def test_rejects_an_invalid_value() -> None:
    assert "drain_seconds" in error_of("classifier", None, {"CLASSIFIER_SVC_DRAIN_SECONDS": "-1"})
