"""Documentation: links, names and generated pages agree with the repository."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
LINK = re.compile(r"(?<!\!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
METRIC = re.compile(r"movieclassifier_[a-z_]+[a-z]")
SETTING = re.compile(r"`((?:encoder|limits|rest|http|tls|auth|log|trace)\.[a-z_.]+)(?: = [^`]*)?`")
PATH = re.compile(r"`((?:\.ci|clients|deploy|docs|models|proto|tests|tools|[a-z]+-[a-z]+)/[\w./-]*[\w/])`")
SOURCE = re.compile(r"`([\w/]+\.(?:rs|py))`")
# Pages that name what no longer exists.
HISTORY = ("CHANGELOG.md", "docs/glossary.md")


# Folders of what is built or downloaded, which hold many thousands of files.
OUTSIDE = {"target", ".runtime", ".git", "sbom", "bench-results", "node_modules"}


def listed(*endings: str) -> list[str]:
    """Files of the repository with these endings, by their paths in it."""
    found = []
    for folder, folders, names in os.walk(REPOSITORY):
        folders[:] = [name for name in folders if name not in OUTSIDE]
        paths = (Path(folder, name) for name in names if name.endswith(endings))
        found += [str(path.relative_to(REPOSITORY)) for path in paths]
    return sorted(found)


def pages() -> list[str]:
    return listed(".md")


def prose(page: str) -> str:
    """A page without its blocks of code."""
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    return re.sub(r"(?m)^ {4,}(?![-*\d]).*$", "", re.sub(r"(?ms)^```.*?^```$", "", text))


@cache
def anchors(page: Path) -> frozenset[str]:
    """The fragments by which GitHub links to a page's headings."""
    headings = re.findall(r"(?m)^#{1,6} (.+)$", page.read_text(encoding="utf-8"))
    plain = (re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)) for heading in headings)
    return frozenset(heading.strip().lower().replace(" ", "-") for heading in plain)


def dead_links(page: str) -> list[str]:
    found = [a or b for a, b in LINK.findall(prose(page))]
    dead = []
    for link in found:
        if re.match(r"[a-z]+:", link):
            continue
        path, _, fragment = link.partition("#")
        target = (REPOSITORY / page).parent / path if path else REPOSITORY / page
        is_there = target.exists()
        if not is_there or (fragment and target.suffix == ".md" and fragment not in anchors(target.resolve())):
            dead.append(link)
    return dead


@cache
def sources() -> tuple[str, ...]:
    return tuple(f"/{name}" for name in listed(".rs", ".py"))


def is_source(name: str) -> bool:
    """Whether a file of that name, or of a path that ends so, exists."""
    return any(path.endswith(f"/{name}") for path in sources())


def documented(text: str) -> set[str]:
    return set(METRIC.findall(text))


def current_metrics() -> set[str]:
    """Names in the table that tests/observability compares with the running services, and their series."""
    table = (REPOSITORY / "deploy/observability/METRICS.md").read_text(encoding="utf-8")
    names = set(re.findall(r"(?m)^\| `(movieclassifier_[a-z_]+)`", table))
    assert names
    return names | {f"{name}_{series}" for name in names for series in ("bucket", "sum", "count")}


def current_settings() -> set[str]:
    """Keys of both services, and the sections that hold them."""
    page = (REPOSITORY / "docs/configuration.md").read_text(encoding="utf-8")
    keys = {key.replace("[]", "") for key in re.findall(r"(?m)^\| `([a-z_.\[\]0-9]+)`", page)}
    return keys | {key.rpartition(".")[0] for key in keys}


def test_the_readme_is_one_page() -> None:
    assert len((REPOSITORY / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_the_architecture_is_two_screens() -> None:
    assert len((REPOSITORY / "ARCHITECTURE.md").read_text(encoding="utf-8").splitlines()) <= 150


@pytest.mark.parametrize("page", pages())
def test_relative_links_lead_somewhere(page: str) -> None:
    assert dead_links(page) == []


@pytest.mark.parametrize("page", [page for page in pages() if page not in HISTORY])
def test_named_metrics_settings_and_files_exist(page: str) -> None:
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    files = (".crt", ".json", ".rs", ".toml", ".yaml")
    named = {key for key in SETTING.findall(text) if not key.endswith(files)}
    assert documented(text) - current_metrics() == set()
    assert named - current_settings() == set()
    missing = [path for path in PATH.findall(text) if not (REPOSITORY / path).exists()]
    assert [path for path in missing if (REPOSITORY / path.split("/")[0]).is_dir()] == []
    assert [name for name in SOURCE.findall(text) if not is_source(name)] == []


def test_the_configuration_page_is_generated() -> None:
    script = REPOSITORY / "tools/scripts/configuration_page.py"
    result = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_the_configuration_page_has_every_key_of_the_settings_files() -> None:
    def keys(value: dict[str, object], prefix: str = "") -> set[str]:
        nested = [keys(v, f"{prefix}{k}.") if isinstance(v, dict) and v else {f"{prefix}{k}"} for k, v in value.items()]
        return set().union(*nested)

    for service in ("encoder-svc", "classifier-svc"):
        text = (REPOSITORY / f"deploy/config/{service}.toml").read_text(encoding="utf-8")
        assert keys(tomllib.loads(text)) <= current_settings() | {""}


def test_renamed_settings_and_metrics_are_gone() -> None:
    renamed = (REPOSITORY / "docs/glossary.md").read_text(encoding="utf-8").split("\n## Renamed\n")[1]
    rows = re.findall(r"(?m)^\| `([^`]+)` \| `([^`]+)`", renamed)
    metrics = [(old, new) for old, new in rows if old.startswith("movieclassifier_") and "{" not in old]
    settings = [(old, new) for old, new in rows if re.fullmatch(r"[a-z]+\.[a-z_]+", old)]
    assert metrics and settings
    assert [new for _, new in metrics if new not in current_metrics()] == []
    assert [new for _, new in settings if new not in current_settings()] == []
    assert [old for old, _ in settings if old in current_settings()] == []


# Upper-case words in the code of the services that are no reasons, or none that an answer can have.
NO_REASONS = {"INVALID_INPUT", "CLASSIFIER_SVC", "ENCODER_SVC", "ORT_DYLIB_PATH", "OTEL_EXPORTER_OTLP_ENDPOINT"}
NO_REASONS |= {"CARGO_CRATE_NAME", "SERVICE", "PROTO"}
# Tensors of the Open Inference Protocol, and what Cargo calls a package.
NO_REASONS |= {"TITLE", "OVERVIEW", "PROBABILITY", "LABELS", "PREDICTED", "VECTOR", "TOKENS", "TRUNCATED", "BYTES", "TYPE_STRING"}
NO_REASONS |= {"CARGO_PKG_NAME", "CARGO_PKG_VERSION"}


def reasons_in_code() -> set[str]:
    """The reasons of errors in the code of the services, without its tests."""
    found = set()
    for path in sources():
        if re.match(r"/(service-kit|open-inference|encoder-client|encoder-svc|classifier-svc)/src/.*\.rs$", path):
            if "/cli/" in path or path.endswith(("/tests.rs", "/grpc/metrics.rs", "/main.rs", "/command_line.rs")):
                continue
            code = (REPOSITORY / path[1:]).read_text(encoding="utf-8").split("#[cfg(test)]")[0]
            found |= set(re.findall(r'"([A-Z][A-Z_]{4,})"', code))
    return found - NO_REASONS


def reasons_in_table(page: str, heading: str) -> set[str]:
    """The reasons in the rows of a section."""
    text = (REPOSITORY / page).read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [line for line in text.splitlines() if line.startswith("|")]
    column = 3 if heading == "Errors" else 1
    return {reason for row in rows for reason in re.findall(r"`([A-Z][A-Z_]{4,})`", row.split("|")[column])}


def test_every_reason_of_an_error_is_documented_with_its_remedy() -> None:
    reasons = reasons_in_code()
    assert {"EMPTY_TEXT", "QUEUE_FULL", "NOT_FOUND", "INTERNAL"} <= reasons
    assert reasons_in_table("docs/api.md", "Errors") == reasons
    assert reasons_in_table("docs/operations.md", "Troubleshooting") == reasons


@pytest.mark.parametrize("page", sorted((REPOSITORY / "docs/decisions").glob("0*.md")), ids=lambda page: page.stem)
def test_a_decision_has_its_four_parts_and_is_listed(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"# {page.name[:4]}. ")
    parts = re.findall(r"(?m)^## (.+)$", text)
    assert parts == ["Context", "Decision", "Measurement", "Consequences"]
    assert len(text.splitlines()) <= 60
    assert f"({page.name})" in (page.parent / "README.md").read_text(encoding="utf-8")
