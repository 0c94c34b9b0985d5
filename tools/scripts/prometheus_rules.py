#!/usr/bin/env python3
"""Writes the rules of deploy/observability as PrometheusRules, which the Prometheus Operator reads.

    python3 tools/scripts/prometheus_rules.py [--check]

kustomize cannot insert a file into a manifest. Run it after an edit of the rules. `--check` only compares.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "deploy/observability/rules"
MANIFEST = ROOT / "deploy/kubernetes/components/monitoring-operator/rules.yaml"
HEAD = "# Written by tools/scripts/prometheus_rules.py from deploy/observability/rules; edit those files instead.\n"


def manifest(name: str) -> str:
    """Returns one PrometheusRule. Group names are unique in a file of rules only, so each file becomes one."""
    lines = (RULES / f"{name}.yaml").read_text(encoding="utf-8").splitlines(keepends=True)
    groups = textwrap.indent("".join(line for line in lines if not line.startswith("#")), "  ")
    head = f"apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: movieclassifier-{name}\n"
    return f"{head}spec:\n{groups}"


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the rules as PrometheusRules.")
    parser.add_argument("--check", action="store_true", help="only compare; exit with 1 if the manifest is outdated")
    arguments = parser.parse_args()
    text = HEAD + "---\n".join(manifest(name) for name in ("recording", "alerts"))
    if not arguments.check:
        MANIFEST.write_text(text, encoding="utf-8")
    elif not MANIFEST.is_file() or MANIFEST.read_text(encoding="utf-8") != text:
        print(f"{MANIFEST.relative_to(ROOT)} is outdated: run python3 tools/scripts/prometheus_rules.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
