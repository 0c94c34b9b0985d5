"""tools/scripts/movie_groups.py, whose groups the report of the default model shows."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from test_documentation import REPOSITORY

SCRIPT = REPOSITORY / "tools/scripts/movie_groups.py"
sys.path.insert(0, str(SCRIPT.parent))

import movie_groups  # noqa: E402


def groups(*tables: Path) -> list[str]:
    output = io.StringIO()
    movie_groups.write([str(table) for table in tables], output)
    header, *rows = output.getvalue().splitlines()
    assert header == "id,decade,words of the overview"
    return rows


def test_a_movie_has_its_decade_and_the_length_of_its_overview(tmp_path: Path):
    table = tmp_path / "movies.csv"
    table.write_text(
        "overview,id,release_date\n"
        f"{'word ' * 19},1,1999-12-31\n"
        f"{'word ' * 20},2,2000\n"
        f"{'word ' * 500},3,\n"
        ",4,unknown\n"
        "shifted,1997-08-20,1\n"
    )
    assert groups(table) == ["1,1990s,1 to 19", "2,2000s,20 to 39", "3,,120 or more", "4,,"]


def test_a_table_without_dates_has_no_decades(tmp_path: Path):
    table = tmp_path / "movies.csv.gz"
    table.write_bytes(
        gzip.compress(b"\xef\xbb\xbf ID,Overview\n007,a pilot\n862.0,\n\xd9\xa1,\n" + b"9" * 30 + b",a\n8\n")
    )
    assert groups(table) == ["7,,1 to 19", "862,,", "8,,"]


def test_other_tables_are_errors_that_name_the_file(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "movies.zip", "w") as archive:
        archive.writestr("movies.csv", "id,overview\n" + "1,a pilot\n" * 100, zipfile.ZIP_DEFLATED)
    (tmp_path / "movies.jsonl").write_text(json.dumps({"id": 1, "overview": "a pilot"}) + "\n")
    (tmp_path / "movies.tsv").write_text("id\toverview\n1\ta pilot\n")
    (tmp_path / "damaged.csv.gz").write_bytes(gzip.compress(b"id,overview\n")[:-4])
    (tmp_path / "empty.csv").write_text("")
    for table in [*tmp_path.iterdir(), tmp_path / "missing.csv"]:
        with pytest.raises(movie_groups.TableError) as error:
            groups(table)
        assert str(error.value).startswith(f"{table}: expected a CSV file with a column id"), error.value
    result = subprocess.run([sys.executable, SCRIPT, table], capture_output=True, text=True, check=False)
    assert result.returncode == 1 and result.stderr.startswith(f"error: {table}: expected a CSV file"), result.stderr
