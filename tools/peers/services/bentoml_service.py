"""BentoML with sentence-transformers, as in its tutorial: one model, and calls batched as they arrive.

Started with `bentoml serve`, in the environment of requirements-bentoml.txt. `MODEL` names the folder of the model.
"""

from __future__ import annotations

import os

import bentoml
import numpy as np
from sentence_transformers import SentenceTransformer


@bentoml.service(traffic={"timeout": 60}, logging={"access": {"enabled": False}})
class Encoder:
    def __init__(self) -> None:
        self.model = SentenceTransformer(os.environ["MODEL"], device="cpu")

    @bentoml.api(batchable=True, max_batch_size=32)
    def encode(self, sentences: list[str]) -> np.ndarray:
        return self.model.encode(sentences, show_progress_bar=False)
