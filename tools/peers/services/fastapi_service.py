"""The plain service that most people would write first: FastAPI and ONNX Runtime, one session per process.

Started with one uvicorn worker per core, in the environment of requirements-fastapi.txt. `BUNDLE` names the encoder bundle. Each
text runs alone on one thread, which is faster on a CPU than padded batches (docs/experiments.md, "Encoder speed").
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import onnxruntime
from fastapi import FastAPI, Response
from pydantic import BaseModel
from tokenizers import Tokenizer

BUNDLE = Path(os.environ["BUNDLE"])
MAX_TOKENS = json.loads((BUNDLE / "encoder.json").read_text(encoding="utf-8"))["max_tokens"]

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(str(BUNDLE / "model.onnx"), options, providers=["CPUExecutionProvider"])
tokenizer = Tokenizer.from_file(str(BUNDLE / "tokenizer.json"))
tokenizer.enable_truncation(MAX_TOKENS)
app = FastAPI()


class Texts(BaseModel):
    texts: list[str]


def encode(text: str) -> list[float]:
    """Returns the text's vector of 512 floats."""
    ids = np.array([tokenizer.encode(text).ids], dtype=np.int64)
    (vectors,) = session.run(["embedding"], {"input_ids": ids, "attention_mask": np.ones_like(ids)})
    return vectors[0].tolist()


@app.post("/encode")
async def encode_all(body: Texts) -> Response:
    # On the event loop, because a thread pool would run more texts at a time than there are cores. Response skips FastAPI's
    # validation of the vectors, which would cost more than making them.
    return Response(json.dumps([encode(text) for text in body.texts]), media_type="application/json")
