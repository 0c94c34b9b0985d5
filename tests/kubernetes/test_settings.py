"""The services take the settings that manifests, Compose and images give them: unknown or bad ones end them at once.

Each is started with a runtime library or model that does not exist, so that settings in order end it by that, and others
before. (`--print-config` would show unknown keys, but not values that cannot be.)
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("kubernetes_validate", reason="it has an environment of its own: run `make test-deploy`")
import yaml  # noqa: E402
from manifests import ALL, ROOT, Manifest, of_kind, pod, settings_file  # noqa: E402

BINARIES = Path(os.environ.get("BINARIES", ROOT / "target" / "debug"))
NO_PORTS = {"encoder": ["--http-listen", ""], "classifier": ["--rest-listen", ""]}
# What ends a start whose settings are in order.
MISSING = {
    "encoder": (["--runtime-library", "/none"], "library /none"),
    "classifier": (["--model", "/none"], "model file /none"),
}


def refusal(service: str, file: Path | None, variables: dict[str, str]) -> str:
    """What `service` says of the settings; empty where it takes them."""
    flags, otherwise = MISSING[service]
    path = BINARIES / f"{service}-svc"
    if not path.is_file():
        pytest.skip(f"{path} is not built")
    command = [path, "serve", "--listen", "127.0.0.1:0", *NO_PORTS[service], *flags]
    command += ["--config", file] if file else []
    ours = ("ENCODER_SVC_", "CLASSIFIER_SVC_")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(ours)} | variables
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1, "it cannot have started"
    return "" if otherwise in done.stderr else done.stderr


def variables_of(container: Manifest) -> dict[str, str]:
    limit = container["resources"]["limits"]["cpu"]
    return {
        variable["name"]: variable["value"] if "value" in variable else limit for variable in container.get("env", [])
    }


@pytest.mark.parametrize("name", [name for name in ALL if name.startswith("overlays/")])
def test_the_manifests_settings_are_taken(name: str, tmp_path: Path) -> None:
    for workload in of_kind(name, "Deployment"):
        file = tmp_path / "settings.toml"
        file.write_text(settings_file(name, workload), encoding="utf-8")
        (container,) = pod(workload)["containers"]
        assert refusal(workload["metadata"]["name"], file, variables_of(container)) == ""


def test_composes_settings_are_taken() -> None:
    compose = yaml.safe_load((ROOT / "deploy/compose/compose.yaml").read_text(encoding="utf-8"))
    for service in ("encoder", "classifier"):
        assert refusal(service, None, compose["services"][service]["environment"]) == ""


@pytest.mark.parametrize("service", ["encoder", "classifier"])
def test_the_images_settings_are_taken(service: str) -> None:
    assert refusal(service, ROOT / f"deploy/docker/{service}-svc.toml", {}) == ""


def test_an_unknown_setting_is_refused() -> None:
    assert "sesions" in refusal("encoder", None, {"ENCODER_SVC_ENCODER__SESIONS": "2"})


def test_a_value_that_cannot_be_is_refused() -> None:
    assert "drain_seconds" in refusal("classifier", None, {"CLASSIFIER_SVC_DRAIN_SECONDS": "-1"})
