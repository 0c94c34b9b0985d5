"""WordPiece token ids (Wu et al., 2016, arXiv:1609.08144) in the graph's format: [CLS], the text, [SEP]."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer


@dataclass(frozen=True)
class Tokens:
    """The graph's input `ids`. `truncated` is true if the text had too many tokens."""

    ids: list[int]
    truncated: bool


def without_limits(tokenizer_json: Path) -> bytes:
    """Returns a published `tokenizer.json` without its truncation and padding. The service truncates by itself."""
    document = json.loads(tokenizer_json.read_text(encoding="utf-8"))
    document["truncation"] = None
    document["padding"] = None
    return serialise(document)


def serialise(document: dict[str, object]) -> bytes:
    """Returns `tokenizer.json` as bytes, with keys in the document's order."""
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()


def tokenize(tokenizer: Tokenizer, text: str, max_tokens: int) -> Tokens:
    """Returns at most `max_tokens` token ids of `text`. A longer text loses its end but keeps its [SEP]."""
    ids: list[int] = tokenizer.encode(text).ids
    if len(ids) <= max_tokens:
        return Tokens(ids, truncated=False)
    return Tokens(ids[: max_tokens - 1] + ids[-1:], truncated=True)
