"""The conversion of Universal Sentence Encoder large, tested on a stand-in with the same operations.

`make test-use-large` runs these tests in a separate environment with TensorFlow.
"""

from __future__ import annotations

import json
import logging
import shutil
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow", reason="needs a separate environment: run `make test-use-large`")
pytest.importorskip("tf2onnx", reason="needs a separate environment: run `make test-use-large`")

EXPORT = Path(__file__).resolve().parents[2]
FIXTURES = EXPORT.parent / "tests" / "fixtures"
sys.path.insert(0, str(EXPORT.parent))
logging.getLogger("tensorflow").setLevel(logging.ERROR)

import onnx  # noqa: E402

from export import bundle  # noqa: E402
from export.use_large import heavy_constants  # noqa: E402
from export.use_large.convert import Encoder, UseLargeError, build  # noqa: E402
from export.use_large.saved_model import SavedModelError, opened, signature  # noqa: E402
from export.use_large.stand_in import Shape, encoder_of, save  # noqa: E402
from export.use_large.text_graph import Table, TextGraphError, without_strings  # noqa: E402

ENCODER = Encoder("stand-in", "1", "for tests", "CC0-1.0", 64)
COMMITTED = FIXTURES / "use-stand-in-512"


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved-model") / "stand-in"
    save(folder, Shape())
    return folder


def test_conversion_reproduces_the_committed_bundle(stand_in: Path, tmp_path: Path) -> None:
    made = tmp_path / COMMITTED.name
    build(stand_in, encoder_of(COMMITTED.name, Shape()), made)
    assert bundle.verify(made)
    for name in (bundle.MODEL, bundle.TOKENIZER):
        assert (made / name).read_bytes() == (COMMITTED / name).read_bytes(), name
    # The last bits of TensorFlow's vectors depend on the processor.
    found, committed = (json.loads((folder / bundle.REFERENCE).read_text())["texts"] for folder in (made, COMMITTED))
    assert [entry["text"] for entry in found] == [entry["text"] for entry in committed]
    difference = np.array([entry["vector"] for entry in found]) - [entry["vector"] for entry in committed]
    assert np.abs(difference).max() < 1e-6


def test_reference_texts_cover_all_kinds() -> None:
    texts = json.loads((COMMITTED / bundle.REFERENCE).read_text())["texts"]
    assert {entry["truncated"] for entry in texts} == {True, False}
    assert min(entry["token_count"] for entry in texts) == 0
    assert any(not entry["text"].isascii() for entry in texts)


@pytest.mark.parametrize(
    "shape",
    [Shape(fill_strings=True, seed=2), Shape(lower=True, seed=3), Shape(lower=True, fill_strings=True, seed=4)],
    ids=["empty-words", "lower-case", "both"],
)
def test_variants_of_the_graph_match_tensorflow(shape: Shape, tmp_path: Path) -> None:
    save(tmp_path / "model", shape)
    report = build(tmp_path / "model", ENCODER, tmp_path / "bundle")
    assert report.largest_difference < 5e-6 and report.hash_buckets == shape.buckets
    steps = json.loads((tmp_path / "bundle" / bundle.TOKENIZER).read_text())["steps"]
    assert any(step["step"] == "lower" for step in steps) == shape.lower


def test_large_weights_are_restored_after_the_conversion(
    stand_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heavy_constants, "LEAST_BYTES", 2_000)
    report = build(stand_in, ENCODER, tmp_path / "bundle")
    assert report.largest_difference < 5e-6
    graph = onnx.load(str(tmp_path / "bundle" / bundle.MODEL)).graph
    assert len(graph.input) == 3


@pytest.mark.parametrize("kind", ["gztar", "zip"])
def test_accepts_an_archive(kind: str, stand_in: Path, tmp_path: Path) -> None:
    archive = shutil.make_archive(str(tmp_path / "archive"), kind, stand_in.parent)
    with opened(Path(archive)) as folder:
        assert signature(folder) == signature(stand_in)
        assert signature(folder).name == "serving_default"


def test_rejects_an_archive_with_members_outside_its_folder(stand_in: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "archive.tar", "w") as archive:
        archive.add(stand_in / "saved_model.pb", arcname="../../saved_model.pb")
    with pytest.raises(SavedModelError, match="expected a tar or zip archive"), opened(tmp_path / "archive.tar"):
        pass


def test_names_a_missing_file(stand_in: Path, tmp_path: Path) -> None:
    with pytest.raises(UseLargeError, match="expected a SavedModel's folder or archive at .*nowhere, found nothing"):
        build(tmp_path / "nowhere", ENCODER, tmp_path / "bundle")
    with pytest.raises(UseLargeError, match=r"expected one saved_model.pb in .*, found 0"):
        build(tmp_path, ENCODER, tmp_path / "bundle")
    half = shutil.copytree(stand_in, tmp_path / "half")
    shutil.rmtree(half / "variables")
    with pytest.raises(UseLargeError, match="expected variables/variables.index beside saved_model.pb"):
        build(half, ENCODER, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_rejects_files_of_other_formats(stand_in: Path, tmp_path: Path) -> None:
    (tmp_path / "model.tar.gz").write_bytes(b"<html>please log in</html>")
    with pytest.raises(UseLargeError, match="expected a tar or zip archive at"):
        build(tmp_path / "model.tar.gz", ENCODER, tmp_path / "bundle")
    broken = shutil.copytree(stand_in, tmp_path / "broken")
    (broken / "saved_model.pb").write_bytes(b"\xff" * 100)
    with pytest.raises(UseLargeError, match="expected a SavedModel in saved_model.pb"):
        build(broken, ENCODER, tmp_path / "bundle")


def test_rejects_a_model_with_another_signature(tmp_path: Path) -> None:
    module = tf.Module()
    module.scale = tf.Variable(2.0)
    spec = tf.TensorSpec([None, 3], tf.float32, name="pixels")
    module.run = tf.function(lambda pixels: {"outputs": pixels * module.scale}, input_signature=[spec])
    tf.saved_model.save(module, str(tmp_path / "model"), signatures={"serving_default": module.run})
    with pytest.raises(UseLargeError, match=r"one input of texts .* found serving_default\(pixels\) -> outputs"):
        build(tmp_path / "model", ENCODER, tmp_path / "bundle")


def graph_error(write: Callable[[tf.Tensor], tf.Tensor]) -> str:
    """Returns the error for a graph that applies `function` to its tokens."""
    with tf.Graph().as_default() as graph:
        texts = tf.compat.v1.placeholder(tf.string, [None], "texts")
        output = tf.identity(write(texts), name="output")
    with pytest.raises(TextGraphError) as error:
        without_strings(graph.as_graph_def(), output.name, {"words": Table([b"a"], [0])})
    return str(error.value)


def tokens(texts: tf.Tensor) -> tf.Tensor:
    return tf.raw_ops.StringSplit(input=texts, delimiter=" ", skip_empty=True).values


def test_names_an_unknown_operation() -> None:
    hashed = tf.strings.to_hash_bucket_fast
    message = graph_error(lambda texts: hashed(tf.strings.substr(tokens(texts), 0, 2), 7))
    assert "expected only known operations, found Substr on strings (Substr" in message
    message = graph_error(lambda texts: hashed(tf.strings.regex_replace(tokens(texts), "a", "b"), 7))
    assert "found StaticRegexReplace after the split" in message
    message = graph_error(lambda texts: hashed(texts, 7))
    assert "found StringToHashBucketFast on whole texts" in message
    message = graph_error(lambda texts: tf.equal(tokens(texts), "the"))
    assert "found Equal of strings" in message


def test_rejects_a_graph_without_vocabulary_or_with_two_hashes() -> None:
    hashed = tf.strings.to_hash_bucket_fast
    assert "expected a lookup of the tokens in a vocabulary" in graph_error(lambda texts: hashed(tokens(texts), 7))
    message = graph_error(lambda texts: hashed(tokens(texts), 7) + hashed(tokens(texts), 8))
    assert "expected one number of hash buckets, found 8 and 7" in message


def test_rejects_texts_without_a_split() -> None:
    message = graph_error(lambda texts: tf.cast(tf.shape(texts), tf.int64))
    assert "expected a split of the texts in the graph, found none" in message
