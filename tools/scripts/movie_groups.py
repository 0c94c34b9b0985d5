"""movie_groups.py FILE.csv[.gz]... > groups.csv: the decade of each movie of Kaggle-like tables and the length of its overview, for
`trainer report --groups`."""

import csv
import gzip
import re
import sys
from typing import TextIO

# Words of an overview: the first count of each group.
LENGTHS = (1, 20, 40, 60, 80, 120)


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


def write(tables: list[TextIO], output: TextIO) -> None:
    """Writes one row for each movie. Rows whose id is no number, which `trainer prepare` drops, are left out."""
    writer = csv.writer(output, lineterminator="\n")
    writer.writerow(["id", "decade", "words of the overview"])
    for table in tables:
        for row in csv.DictReader(table):
            if (row["id"] or "").isdecimal():
                writer.writerow([row["id"], decade(row["release_date"] or ""), length(row["overview"] or "")])


if __name__ == "__main__":
    if len(sys.argv) == 1:
        sys.exit(__doc__)
    openers = [gzip.open if name.endswith(".gz") else open for name in sys.argv[1:]]
    tables = zip(openers, sys.argv[1:], strict=True)
    write([opener(name, "rt", encoding="utf-8", newline="") for opener, name in tables], sys.stdout)
