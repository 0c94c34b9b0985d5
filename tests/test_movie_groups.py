"""tools/scripts/movie_groups.py, whose groups the report of the default model shows."""

from __future__ import annotations

import io
import sys

from test_documentation import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "tools/scripts"))

import movie_groups  # noqa: E402


def test_a_movie_has_its_decade_and_the_length_of_its_overview():
    table = io.StringIO(
        "overview,id,release_date\n"
        f"{'word ' * 19},1,1999-12-31\n"
        f"{'word ' * 20},2,2000\n"
        f"{'word ' * 500},3,\n"
        ",4,unknown\n"
        "shifted,1997-08-20,1\n"
    )
    output = io.StringIO()
    movie_groups.write([table], output)
    assert output.getvalue().splitlines() == [
        "id,decade,words of the overview",
        "1,1990s,1 to 19",
        "2,2000s,20 to 39",
        "3,,120 or more",
        "4,,",
    ]
