"""movie_groups.py FILE.csv[.gz]... > groups.csv: the decade of each movie of Kaggle-like tables and the length of its overview, for
`trainer report --groups`."""

import csv
import gzip
import re
import sys
import zlib
from collections.abc import Iterator
from typing import TextIO

EXPECTED = "expected a CSV file with a column id, plain or gzipped"
# Words of an overview: the first count of each group.
LENGTHS = (1, 20, 40, 60, 80, 120)


class TableError(Exception):
    """A file whose movies cannot be grouped. The message names it."""


def decade(date: str) -> str:
    """`1990s` for 1994-05-01, `1994` and the like; nothing without a year."""
    year = re.match(r"(1[89]|20)\d\d\b", date.strip())
    return f"{year[0][:3]}0s" if year else ""


def length(overview: str) -> str:
    """The group of an overview by its words, such as `20 to 39`; nothing without words."""
    words = len(overview.split())
    for first, after in zip(LENGTHS, (*LENGTHS[1:], None), strict=True):
        if first <= words and (after is None or words < after):
            return f"{first} or more" if after is None else f"{first} to {after - 1}"
    return ""


def rows(name: str) -> Iterator[dict[str, str | None]]:
    """The rows of a file, with the names of columns in lower case because `trainer prepare` accepts any. Raises TableError."""
    csv.field_size_limit(1 << 26)
    try:
        with (gzip.open if name.endswith(".gz") else open)(name, "rt", encoding="utf-8-sig", newline="") as table:
            reader = csv.DictReader(table)
            header = [column.strip().lower() for column in reader.fieldnames or ()]
            if "id" not in header:
                raise TableError(f"{name}: {EXPECTED}, found the header {','.join(header)[:200]!r}")
            reader.fieldnames = header
            yield from reader
    except (OSError, EOFError, UnicodeDecodeError, csv.Error, zlib.error) as error:
        raise TableError(f"{name}: {EXPECTED}: {error}") from error


def write(names: list[str], output: TextIO) -> None:
    """Writes one row for each movie of the files. Rows without a whole number as the id are left out. Raises TableError."""
    writer = csv.writer(output, lineterminator="\n")
    writer.writerow(["id", "decade", "words of the overview"])
    for name in names:
        for row in rows(name):
            # Data frames write 862.0. The report rejects ids over 64 bits, and `prepare` drops them.
            movie = re.fullmatch(r"0*(\d{1,19})(\.0*)?", (row["id"] or "").strip(), re.ASCII)
            if movie:
                writer.writerow([movie[1], decade(row.get("release_date") or ""), length(row.get("overview") or "")])


if __name__ == "__main__":
    if len(sys.argv) == 1:
        sys.exit(__doc__)
    try:
        write(sys.argv[1:], sys.stdout)
    except TableError as error:
        sys.exit(f"error: {error}")
