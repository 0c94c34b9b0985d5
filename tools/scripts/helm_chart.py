#!/usr/bin/env python3
"""Writes the templates of the Helm chart from the kustomize base and its components.

    python3 tools/scripts/helm_chart.py [--check] [--kubectl PROGRAM]

kustomize renders every combination of the components that the chart can enable, with marks in place of the chart's values.
Each manifest becomes a template that selects the text of its combination, and the marks become references to values. So the
chart has no content of its own: with its default values it equals the base. Run it after an edit of base or components.
`--check` only compares.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KUBERNETES = ROOT / "deploy/kubernetes"
TEMPLATES = ROOT / "deploy/helm/movieclassifier/templates"
HEAD = "{{/* Written by tools/scripts/helm_chart.py from deploy/kubernetes; edit that instead. */}}\n"
APPS = ("encoder", "classifier")
# The components by the values that enable them.
FLAGS = {"tls.enabled": "tls", "apiKeys.enabled": "api-keys", "monitoring.enabled": "monitoring-operator"}
NAMESPACE = "namespace-of-the-release"
Combination = tuple[bool, ...]


def marks() -> dict[str, str]:
    """What replaces each mark in the rendered text."""
    found = {NAMESPACE: "{{ .Release.Namespace }}"}
    for number, app in enumerate(APPS):
        image = f".Values.images.{app}"
        found[f"image-of-{app}:tag"] = f"'{{{{ {image}.repository }}}}:{{{{ {image}.tag }}}}'"
        found[f"resources-of-{app}"] = f"{{{{ toJson .Values.resources.{app} }}}}"
        for offset, bound in enumerate(("min", "max")):
            found[str(900_000 + 10 * number + offset)] = f"{{{{ .Values.replicas.{app}.{bound} }}}}"
    return found


def kustomization(here: str, combination: Combination) -> dict[str, object]:
    """The base with marks and with the components of this combination."""
    patches: list[dict[str, object]] = []
    for number, app in enumerate(APPS):
        resources = {"path": "/spec/template/spec/containers/0/resources", "value": f"resources-of-{app}"}
        bounds = [
            {"op": "replace", "path": f"/spec/{key}", "value": 900_000 + 10 * number + offset}
            for offset, key in enumerate(("minReplicas", "maxReplicas"))
        ]
        patches.append({"target": {"kind": "HorizontalPodAutoscaler", "name": app}, "patch": json.dumps(bounds)})
        patch = json.dumps([{"op": "replace", **resources}])
        patches.append({"target": {"kind": "Deployment", "name": app}, "patch": patch})
    chosen = itertools.compress(FLAGS.values(), combination)
    return {
        "namespace": NAMESPACE,
        "resources": [f"{here}/base"],
        "components": [f"{here}/components/{component}" for component in chosen],
        "images": [{"name": f"movieclassifier/{app}", "newName": f"image-of-{app}", "newTag": "tag"} for app in APPS],
        "patches": patches,
    }


def rendered(kubectl: str, combination: Combination) -> dict[tuple[str, str], str]:
    """The manifests of a combination by kind and name, except the Namespace, which Helm creates."""
    with tempfile.TemporaryDirectory() as folder:
        here = os.path.relpath(KUBERNETES, os.path.realpath(folder))
        # JSON is YAML, too.
        Path(folder, "kustomization.yaml").write_text(json.dumps(kustomization(here, combination)), encoding="utf-8")
        command = [kubectl, "kustomize", folder]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = {}
    for manifest in text.split("\n---\n"):
        kind = re.search(r"(?m)^kind: (\S+)$", manifest)
        name = re.search(r"(?m)^metadata:\n(?:  .*\n)*?  name: (\S+)$", manifest)
        assert kind and name, manifest
        if kind[1] != "Namespace":
            found[kind[1], name[1]] = template_of(manifest)
    return found


def template_of(manifest: str) -> str:
    """A manifest with references to values in place of marks, and with its own braces kept from Helm."""
    text = re.sub(r"\{\{|\}\}", lambda braces: f'{{{{ "{braces[0]}" }}}}', manifest.strip("\n") + "\n")
    for mark, reference in marks().items():
        text = re.sub(rf"(?<![\w-]){mark}(?![\w-])", lambda _, to=reference: to, text)
    return text


def conditional(variants: dict[Combination, str | None]) -> str:
    """A template that selects the text of the enabled combination, by as few values as possible."""
    names = list(FLAGS)
    for count in range(len(names) + 1):
        for used in itertools.combinations(range(len(names)), count):
            chosen: dict[Combination, set[str | None]] = {}
            for combination, text in variants.items():
                chosen.setdefault(tuple(combination[at] for at in used), set()).add(text)
            if all(len(texts) == 1 for texts in chosen.values()):
                return branches({part: texts.pop() for part, texts in chosen.items()}, [names[at] for at in used])
    raise AssertionError("all values together determine the text")


def common_lines(texts: list[list[str]]) -> int:
    """How many lines all texts begin with."""
    return len(list(itertools.takewhile(lambda lines: len(set(lines)) == 1, zip(*texts, strict=False))))


def branches(texts: dict[Combination, str | None], names: list[str]) -> str:
    """Writes what all texts begin and end with once, and selects the lines between."""
    if not names:
        return str(texts[()])
    if None in texts.values():
        return selection(texts, names)
    lines = {part: str(text).splitlines(keepends=True) for part, text in texts.items()}
    first = common_lines(list(lines.values()))
    last = common_lines([of_text[first:][::-1] for of_text in lines.values()])
    of_any = next(iter(lines.values()))
    between = {part: "".join(of_text[first : len(of_text) - last]) for part, of_text in lines.items()}
    return "".join(of_any[:first]) + selection(dict(between), names) + "".join(of_any[len(of_any) - last :])


def selection(texts: dict[Combination, str | None], names: list[str]) -> str:
    written = ""
    for part, text in texts.items():
        if text is not None:
            terms = [f".Values.{name}" if is_on else f"(not .Values.{name})" for name, is_on in zip(names, part, strict=True)]
            condition = terms[0] if len(terms) == 1 else f"and {' '.join(terms)}"
            written += f"{{{{- {'else if' if written else 'if'} {condition} }}}}\n{text}"
    return written + "{{- end }}\n"


def file_of(kind: str, name: str) -> str:
    if kind in {"PodMonitor", "PrometheusRule"}:
        return "monitoring.yaml"
    app = name.split("-")[0]
    if app not in APPS:
        return "network.yaml"
    return f"{app}-deployment.yaml" if kind == "Deployment" else f"{app}.yaml"


def chart(kubectl: str) -> dict[str, str]:
    """The templates by their file names."""
    combinations = list(itertools.product((False, True), repeat=len(FLAGS)))
    by_combination = {combination: rendered(kubectl, combination) for combination in combinations}
    keys = dict.fromkeys(key for manifests in by_combination.values() for key in manifests)
    files: dict[str, str] = {}
    for key in keys:
        text = conditional({combination: manifests.get(key) for combination, manifests in by_combination.items()})
        files[file_of(*key)] = files.get(file_of(*key), HEAD) + "---\n" + text
    return files


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the templates of the Helm chart.")
    parser.add_argument("--check", action="store_true", help="only compare; exit with 1 if a template is outdated")
    parser.add_argument("--kubectl", default="kubectl", help="the program that renders")
    arguments = parser.parse_args()
    files = chart(arguments.kubectl)
    present = {path.name: path.read_text(encoding="utf-8") for path in TEMPLATES.glob("*.yaml")}
    if arguments.check:
        if present != files:
            print("the Helm chart is outdated: run python3 tools/scripts/helm_chart.py")
        return int(present != files)
    TEMPLATES.mkdir(parents=True, exist_ok=True)
    for name in present.keys() - files.keys():
        (TEMPLATES / name).unlink()
    for name, text in files.items():
        (TEMPLATES / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
