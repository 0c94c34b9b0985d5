"""Reads a TensorFlow SavedModel that encodes texts, from its folder or an archive.

Format: https://www.tensorflow.org/guide/saved_model
"""

from __future__ import annotations

import contextlib
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import saved_model_pb2
from tf2onnx import tf_loader

from export.use_large.text_graph import Table

PROTOCOL_BUFFER = "saved_model.pb"
VARIABLES = Path("variables") / "variables.index"
TAG = "serve"
DIMENSION = 512
DECLARED = "expected a SavedModel with a signature of one input of texts and one output of 512 floats per text"


class SavedModelError(Exception):
    """The file is not a SavedModel, or not one of an encoder."""


@dataclass(frozen=True)
class Signature:
    """The names of the model's signature, of its only input, and of the output to use."""

    name: str
    input: str
    output: str


@dataclass(frozen=True)
class FrozenModel:
    """The model as one graph that includes its weights."""

    graph_def: tf.compat.v1.GraphDef
    output: str
    tables: dict[str, Table]


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Path]:
    """Yields the folder of the SavedModel at `path`. An archive is unpacked for the duration of the block."""
    if path.is_dir():
        yield _model_folder(path, path)
        return
    if not path.is_file():
        raise SavedModelError(f"expected a SavedModel's folder or archive at {path}, found nothing")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        try:
            if zipfile.is_zipfile(path):
                with zipfile.ZipFile(path) as archive:
                    archive.extractall(folder)
            else:
                with tarfile.open(path) as archive:
                    # The filter rejects members outside the folder.
                    archive.extractall(folder, filter="data")
        except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError) as error:
            raise SavedModelError(f"expected a tar or zip archive at {path}, found: {error}") from error
        yield _model_folder(folder, path)


def _model_folder(folder: Path, path: Path) -> Path:
    found = [folder] if (folder / PROTOCOL_BUFFER).is_file() else sorted(
        file.parent for file in folder.rglob(PROTOCOL_BUFFER)
    )
    if len(found) != 1:
        raise SavedModelError(f"expected one {PROTOCOL_BUFFER} in {path}, found {len(found)}")
    if not (found[0] / VARIABLES).is_file():
        raise SavedModelError(f"expected {VARIABLES} beside {PROTOCOL_BUFFER} in {path}, found none; is the download complete?")
    return found[0]


def signature(folder: Path) -> Signature:
    """Returns the signature from texts to vectors. Raises SavedModelError if there is none or more than one."""
    model = saved_model_pb2.SavedModel()
    try:
        model.ParseFromString((folder / PROTOCOL_BUFFER).read_bytes())
    except DecodeError as error:
        raise SavedModelError(f"expected a SavedModel in {PROTOCOL_BUFFER}, found: {error}") from error
    graphs = [graph for graph in model.meta_graphs if TAG in graph.meta_info_def.tags]
    if len(graphs) != 1:
        raise SavedModelError(f"expected one graph with the tag {TAG!r}, found {len(graphs)}")
    found, others = [], []
    for name, definition in sorted(graphs[0].signature_def.items()):
        texts = [key for key, info in definition.inputs.items() if info.dtype == tf.string.as_datatype_enum]
        vectors = [key for key, info in definition.outputs.items() if _is_vector(info)]
        if name.startswith("__"):
            continue
        others.append(f"{name}({', '.join(sorted(definition.inputs))}) -> {', '.join(sorted(definition.outputs))}")
        if len(definition.inputs) == len(texts) == len(vectors) == 1:
            found.append(Signature(name, texts[0], vectors[0]))
    usual = [signature for signature in found if signature.name == "serving_default"] or found
    if len(usual) != 1:
        raise SavedModelError(f"{DECLARED}, found {'; '.join(others) or 'no signature'}")
    return usual[0]


def _is_vector(info: Any) -> bool:
    if info.dtype != tf.float32.as_datatype_enum:
        return False
    sizes = [dimension.size for dimension in info.tensor_shape.dim]
    return info.tensor_shape.unknown_rank or (len(sizes) == 2 and sizes[1] in (-1, DIMENSION))


def freeze(folder: Path, signature: Signature) -> FrozenModel:
    """Returns the signature's graph with inlined functions and constant weights, and the contents of its tables."""
    try:
        graph_def, _, outputs, function, _, tables = tf_loader.from_saved_model(
            str(folder),
            None,
            None,
            tag=[TAG],
            signatures=[signature.name],
            return_concrete_func=True,
            return_initialized_tables=True,
        )
    except (ValueError, OSError, tf.errors.OpError) as error:
        expected = f"expected a SavedModel that TensorFlow {tf.__version__} loads"
        raise SavedModelError(f"{expected}, found: {error}") from error
    names = sorted(function.structured_outputs)
    output = outputs[names.index(signature.output)]
    return FrozenModel(graph_def, output, {_text(name): _table(_text(name), *table) for name, table in tables.items()})


def _text(name: bytes | str) -> str:
    return name.decode() if isinstance(name, bytes) else name


def _table(name: str, keys: Any, values: Any) -> Table:
    words, ids = keys.reshape(-1).tolist(), values.reshape(-1).tolist()
    if not all(isinstance(word, bytes) for word in words) or not all(isinstance(value, int) for value in ids):
        raise SavedModelError(f"expected a table from words to integers, found another type in {name!r}")
    return Table(words, ids)
