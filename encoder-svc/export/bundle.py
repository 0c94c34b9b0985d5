"""The encoder bundle: a folder that pins, by hash, everything needed to turn a text into a vector.

    encoder.json     the manifest: a description of the encoder, and the sha256 of each file below
    model.onnx       the graph
    tokenizer.json   the tokenizer, without truncation or padding
    reference.json   texts with their expected vectors

The fingerprint of a bundle is the sha256, in hex, of the exact bytes of `encoder.json`, which pins all other files.
This module uses only the standard library, so a Python without packages can check a bundle.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from export.precision import Bound

FORMAT = 1
DIMENSION = 512
MANIFEST = "encoder.json"
MODEL = "model.onnx"
TOKENIZER = "tokenizer.json"
REFERENCE = "reference.json"


class BundleError(Exception):
    """The folder is not a bundle, or a file differs from the one its manifest pins."""


@dataclass(frozen=True)
class ReferenceText:
    """A text with its expected result.

    `token_count` is the count after truncation, including [CLS] and [SEP] if the tokenizer adds them. `vector` is `[512]`.
    """

    text: str
    token_count: int
    truncated: bool
    vector: list[float]


@dataclass(frozen=True)
class BundleContents:
    """The contents of a bundle."""

    encoder_id: str
    version: str
    description: str
    licence: str
    max_tokens: int
    model: bytes
    tokenizer: bytes
    reference: list[ReferenceText]
    reference_bound: Bound
    tokenizer_kind: str = "wordpiece"
    inputs: dict[str, str] = field(default_factory=lambda: {"ids": "input_ids", "mask": "attention_mask"})
    """The service's name of each input -> the graph's name of it."""


def write_bundle(folder: Path, contents: BundleContents) -> str:
    """Writes a bundle at `folder`, replacing an older one, and returns its fingerprint.

    The files are written to a temporary folder that is then renamed, so `folder` never holds part of a bundle.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        files = {
            MODEL: contents.model,
            TOKENIZER: contents.tokenizer,
            REFERENCE: _reference_bytes(contents.reference),
        }
        files[MANIFEST] = _manifest_bytes(contents, files)
        for name, data in files.items():
            _write_synced(temporary / name, data)
        temporary.chmod(0o755)
        _replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return fingerprint(folder)


def fingerprint(folder: Path) -> str:
    """Returns the bundle's identity without checking its files. Raises BundleError if there is no manifest."""
    return hashlib.sha256(_read_manifest_bytes(folder)).hexdigest()


def verify(folder: Path) -> str:
    """Checks every file against the manifest and returns the fingerprint. Raises BundleError if one differs."""
    try:
        manifest = json.loads(_read_manifest_bytes(folder))
    except ValueError as error:
        raise BundleError(f"{MANIFEST}: expected json, found: {error}") from error
    if manifest.get("format") != FORMAT:
        raise BundleError(f"{MANIFEST}: expected format {FORMAT}, found {manifest.get('format')!r}")
    files: dict[str, str] = manifest.get("files", {})
    for name in (MODEL, TOKENIZER, REFERENCE):
        if name not in files:
            raise BundleError(f"{MANIFEST}: expected a sha256 of {name}, found {sorted(files)}")
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            raise BundleError(f"{name}: expected a file in bundle {folder.name}, found none")
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != expected:
            raise BundleError(f"{name}: expected sha256 {expected}, found {found}")
    return fingerprint(folder)


def _read_manifest_bytes(folder: Path) -> bytes:
    path = folder / MANIFEST
    if not path.is_file():
        raise BundleError(f"expected {MANIFEST} in bundle {folder.name}, found none")
    return path.read_bytes()


def _manifest_bytes(contents: BundleContents, files: dict[str, bytes]) -> bytes:
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "id": contents.encoder_id,
        "version": contents.version,
        "description": contents.description,
        "licence": contents.licence,
        "dimension": DIMENSION,
        "max_tokens": contents.max_tokens,
        "model": MODEL,
        "tokenizer": {"kind": contents.tokenizer_kind, "file": TOKENIZER},
        "reference": {"file": REFERENCE, contents.reference_bound.key: contents.reference_bound.limit},
        "inputs": contents.inputs,
        "output": "embedding",
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
    }
    return (json.dumps(manifest, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _reference_bytes(reference: list[ReferenceText]) -> bytes:
    """Writes one text per line, because 512 lines for each vector would bury the texts."""
    lines = [json.dumps(asdict(entry), ensure_ascii=False) for entry in reference]
    return ('{"texts": [\n' + ",\n".join(lines) + "\n]}\n").encode()


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _replace(temporary: Path, folder: Path) -> None:
    """Renames `temporary` to `folder`. An older bundle is moved away first, because rename cannot replace a folder."""
    if folder.exists():
        older = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        os.rename(folder, older / folder.name)
        os.rename(temporary, folder)
        shutil.rmtree(older)
    else:
        os.rename(temporary, folder)
