"""WordPiece token ids (Wu et al., 2016, arXiv:1609.08144) as the graph takes them: [CLS], the text, [SEP]."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer


@dataclass(frozen=True)
class Tokens:
    """`ids` as fed to the graph; `truncated` when the text had more tokens than fit."""

    ids: list[int]
    truncated: bool


def without_limits(tokenizer_json: Path) -> bytes:
    """A published `tokenizer.json` with its truncation and padding taken out; the service truncates by itself."""
    document = json.loads(tokenizer_json.read_text(encoding="utf-8"))
    document["truncation"] = None
    document["padding"] = None
    return serialise(document)


def serialise(document: dict[str, object]) -> bytes:
    """`tokenizer.json` as bytes, in the document's own order of keys."""
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()


def tokenize(tokenizer: Tokenizer, text: str, max_tokens: int) -> Tokens:
    """Token ids of `text`, at most `max_tokens` of them; a text that is too long loses its end and keeps its [SEP]."""
    ids: list[int] = tokenizer.encode(text).ids
    if len(ids) <= max_tokens:
        return Tokens(ids, truncated=False)
    return Tokens(ids[: max_tokens - 1] + ids[-1:], truncated=True)
