"""TensorFlow's vectors of texts, computed by the downloaded SavedModel.

It runs in a separate process that loads only TensorFlow, so no other library can change the results. Each text is a
separate call, as in the service. Texts come as a JSON list on standard input; vectors go to a file, row by row.

example:
  echo '["A storm."]' | python -m export.use_large.reference --saved-model FOLDER --output vectors.f32
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

DIMENSION = 512


class TensorFlowError(Exception):
    """TensorFlow did not return a vector for each text."""


def tensorflow_vectors(folder: Path, signature: str, texts: list[str]) -> NDArray[np.float32]:
    """Returns the vectors `[texts, 512]`, computed in a separate process."""
    with tempfile.TemporaryDirectory() as temporary:
        output = Path(temporary) / "vectors.f32"
        command = [sys.executable, __file__, "--saved-model", str(folder), "--signature", signature]
        result = subprocess.run(
            [*command, "--output", str(output)], input=json.dumps(texts).encode(), capture_output=True, check=False
        )
        if result.returncode != 0:
            last = result.stderr.decode(errors="replace").strip().splitlines()[-1:]
            raise TensorFlowError(f"expected vectors of TensorFlow, found exit code {result.returncode}: {last}")
        vectors = np.fromfile(output, dtype="<f4")
    if vectors.size != len(texts) * DIMENSION or not np.isfinite(vectors).all():
        raise TensorFlowError(f"expected {len(texts)} vectors of 512 finite floats, found {vectors.size} floats")
    return vectors.reshape(len(texts), DIMENSION)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--saved-model", type=Path, required=True, metavar="DIR")
    parser.add_argument("--signature", default="serving_default", metavar="NAME")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="little-endian float32")
    arguments = parser.parse_args()
    texts = json.load(sys.stdin)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow as tf

    # Keep the model in a variable, because a signature does not keep it alive.
    model = tf.saved_model.load(str(arguments.saved_model))
    function = model.signatures[arguments.signature]
    (name,) = function.structured_input_signature[1]
    with arguments.output.open("wb") as file:
        for text in texts:
            vectors = [v.numpy() for v in function(**{name: tf.constant([text])}).values() if v.shape[-1] == DIMENSION]
            vectors[0].astype("<f4").tofile(file)


if __name__ == "__main__":
    main()
