"""A table of made-up movies in Kaggle's format."""

from __future__ import annotations

from pathlib import Path

GENRES = (("Drama", 18), ("Comedy", 35), ("War", 10752))


def write_movies(path: Path, count: int) -> None:
    """Writes movies 1 to `count` with three alternating genres."""
    rows = ["id,title,overview,genres"]
    for number in range(1, count + 1):
        name, id_of_genre = GENRES[number % 3]
        genres = f"[{{'id': {id_of_genre}, 'name': '{name}'}}]"
        rows.append(f'{number},Movie {number},What happens in the flooded mine on day {number}.,"{genres}"')
    path.write_text("\n".join(rows) + "\n")
