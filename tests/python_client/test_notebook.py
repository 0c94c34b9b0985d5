"""The example notebook runs against the real services, and its plot shows what its data says."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Services

built_package = pytest.importorskip("built_package", reason="needs its own environment: run `make test-python-client`")
nbclient = pytest.importorskip("nbclient", reason="run `make test-python-client`, which installs it")
import nbformat
from nbformat import NotebookNode

NOTEBOOK = built_package.CLIENT / "examples" / "warehouse.ipynb"


def read() -> NotebookNode:
    notebook = nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]
    nbformat.validate(notebook)
    assert isinstance(notebook, NotebookNode)
    return notebook


@pytest.fixture
def environment(services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What the kernel inherits: the package, the service, and folders that the test removes."""
    folders = {name: str(tmp_path) for name in ("HOME", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "MPLCONFIGDIR", "TMPDIR")}
    path = os.pathsep.join([str(built_package.BUILT.installed), os.environ.get("PYTHONPATH", "")])
    for name, value in {**folders, "PYTHONPATH": path, "MOVIECLASSIFIER_ADDRESS": services.classifier}.items():
        monkeypatch.setenv(name, value)
    yield


def test_it_is_committed_without_outputs() -> None:
    assert [cell.outputs for cell in read().cells if cell.cell_type == "code" and cell.outputs] == []


def test_it_runs_and_plots_the_shares(environment: None, tmp_path: Path) -> None:
    notebook = read()
    nbclient.NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    errors = [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
    assert errors == []
    printed = "".join(output.text for output in outputs if output.output_type == "stream")
    assert printed.startswith("600 movies, of these ")
    (picture,) = (output.data["image/png"] for output in outputs if "image/png" in output.get("data", {}))
    png = base64.b64decode(picture)
    assert png.startswith(b"\x89PNG") and len(png) > 10_000
    if kept := os.environ.get("KEEP_PLOT"):
        Path(kept).write_bytes(png)

    import pandas as pd

    (file,) = tmp_path.glob("warehouse-*/genres.parquet")
    genres = pd.read_parquet(file)
    assert len(genres) == 600 and list(genres["id"]) == list(range(600))
    unexpected = genres[genres["error"].notna() != genres["overview"].isna()]
    assert unexpected[["overview", "error"]].to_dict("records") == []
    assert 0 < genres["error"].count() < 60

    def share(label: str, decade: int) -> float:
        of_decade = genres[genres["error"].isna() & (genres["year"] // 10 * 10 == decade)]
        return float(of_decade["labels"].map(lambda labels: label in labels).mean())

    assert share("Western", 1950) > share("Western", 2020) + 0.1
    assert share("Science Fiction", 2020) > share("Science Fiction", 1950) + 0.1
