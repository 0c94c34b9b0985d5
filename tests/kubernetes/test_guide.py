"""docs/kubernetes.md says what the manifests say."""

from __future__ import annotations

import os
import re
import textwrap
from pathlib import Path

import pytest

pytest.importorskip("kubernetes_validate", reason="needs a separate environment: run `make test-deploy`")
import yaml  # noqa: E402
from manifests import COMPONENTS, KUBERNETES, ROOT, kustomize, named, pod, workloads  # noqa: E402

GUIDE = (ROOT / "docs/kubernetes.md").read_text(encoding="utf-8")


def section(heading: str) -> str:
    return GUIDE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def test_named_files_exist() -> None:
    named_in_text = set(re.findall(r"\bdeploy/kubernetes/[\w./-]*\w", GUIDE))
    assert len(named_in_text) >= 8
    assert [name for name in named_in_text if not (ROOT / name).exists()] == []


def test_each_component_has_a_paragraph() -> None:
    bold = re.findall(r"(?m)^- \*\*(.+?)\*\*", section("Components"))
    assert sorted(re.findall(r"`([\w-]+)`", " ".join(bold))) == COMPONENTS


def asked(name: str, workload: str) -> tuple[str, str]:
    (found,) = (w for w in workloads(name) if w["metadata"]["name"] == workload)
    (container,) = pod(found)["containers"]
    requests = container["resources"]["requests"]
    return requests["cpu"], re.sub(r"([MG])i$", r" \1iB", requests["memory"])


@pytest.mark.parametrize(
    ("row", "name", "workload"),
    [
        ("`production`: at least 3 encoders", "overlays/production", "encoder"),
        ("`production`: at least 3 classifiers", "overlays/production", "classifier"),
        ("`base`: at least 2 encoders", "base", "encoder"),
        ("`base`: at least 2 classifiers", "base", "classifier"),
        ("`dev`, and `components/small`: an encoder", "overlays/dev", "encoder"),
        ("`dev`, and `components/small`: a classifier", "overlays/dev", "classifier"),
        ("`trainer/encode`: 4 workers", "trainer/encode", "encode-movies"),
        ("`trainer/classify`: 4 workers", "trainer/classify", "classify-movies"),
        ("`trainer/fit`", "trainer/fit", "fit-model"),
    ],
)
def test_sizes_are_those_of_the_manifests(row: str, name: str, workload: str) -> None:
    cpu, memory = re.findall(rf"(?m)^\| {re.escape(row)} \| (.+) \| (.+) \|$", section("Size"))[0]
    assert (cpu.replace(" each", "").split("; ")[0], memory.replace(" each", "").split("; ")[0]) == asked(name, workload)
    small_cpu, small_memory = asked(f"{name}+small", workload)
    if "; " in cpu:
        assert cpu.split("; ")[1].removesuffix(" with `small`") == small_cpu
    if "; " in memory:
        assert memory.split("; ")[1].removesuffix(" with `small`").removesuffix(" each") == small_memory
    pods = re.search(r"at least (\d)", row)
    if pods:
        autoscaler = named(name, "HorizontalPodAutoscaler", workload)
        assert autoscaler["spec"]["minReplicas"] == int(pods[1])
    workers = re.search(r"(\d) workers", row)
    if workers:
        assert named(name, "Job", workload)["spec"]["parallelism"] == int(workers[1])


def test_the_overlay_of_the_example_renders(tmp_path: Path) -> None:
    block = re.search(r"(?m)^    # kustomization\.yaml\n((?:    .*\n)+)", GUIDE)
    assert block
    here = os.path.relpath(KUBERNETES, tmp_path.resolve())
    text = textwrap.dedent(block[1]).replace("deploy/kubernetes", here)
    (tmp_path / "kustomization.yaml").write_text(text, encoding="utf-8")
    manifests = list(yaml.safe_load_all(kustomize(tmp_path)))
    assert {m["metadata"].get("namespace", "films") for m in manifests} == {"films"}
    images = {m["metadata"]["name"]: pod(m)["containers"][0]["image"] for m in manifests if m["kind"] == "Deployment"}
    assert images == {"encoder": "my.registry/encoder:0.1.0", "classifier": "my.registry/classifier:0.1.0"}
