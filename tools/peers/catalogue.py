"""The servers that are compared: how each is started and called."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from .clients import ClassifierClient, Client, EncoderClient, HttpClient

HERE = Path(__file__).resolve().parent
# No peer may look for models, or report its use, outside of this machine.
OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "BENTOML_DO_NOT_TRACK": "True",
    "INFINITY_ANONYMOUS_USAGE_STATS": "0",
    "TOKENIZERS_PARALLELISM": "false",
    "NO_COLOR": "1",
}


@dataclass(frozen=True)
class Command:
    """A process to start. In its arguments and variables, `{port}` is its port and `{first}` that of the peer's first process."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Peer:
    """A server. The client is of its last process. `streams`, `vectors`: whether it has a bulk stream, and returns vectors of the
    encoder. `needs` are files without which it is left out."""

    name: str
    what: str
    commands: tuple[Command, ...]
    client: Callable[[int], Client]
    needs: tuple[Path, ...] = ()
    streams: bool = False
    vectors: bool = True

    def missing(self) -> Path | None:
        """Returns the first file that the peer needs and that does not exist."""
        return next((path for path in self.needs if not path.exists()), None)


@dataclass(frozen=True)
class Places:
    """Folders of what the peers run. `tei` is the program of text-embeddings-inference, or None."""

    binaries: Path
    runtime: Path
    environments: Path
    model: Path
    tei: Path | None

    def bundle(self, name: str) -> Path:
        return self.runtime / "bundles" / name

    def python(self, peer: str) -> Path:
        return self.environments / peer / "bin" / "python"


def catalogue(places: Places) -> list[Peer]:
    """Returns all peers, ours first."""
    cores = len(os.sched_getaffinity(0))
    int8, fp32 = places.bundle("minilm-512"), places.bundle("minilm-512-fp32")
    peers = [
        ours(places, "ours-int8", int8),
        ours(places, "ours-fp32", fp32),
        classifier(places, int8),
        fastapi(places, "fastapi-int8", int8, cores),
        fastapi(places, "fastapi-fp32", fp32, cores),
        infinity(places),
        bentoml(places),
    ]
    return peers + ([text_embeddings_inference(places, places.tei)] if places.tei else [])


def encoder_command(places: Places, bundle: Path) -> Command:
    arguments = ("serve", "--listen", "127.0.0.1:{port}", "--http-listen", "", "--bundle", str(bundle))
    library = ("--runtime-library", str(places.runtime / "lib" / "libonnxruntime.so"))
    # Without the cache, because the texts of a run repeat.
    return Command((str(places.binaries / "encoder-svc"), *arguments, *library), {"ENCODER_SVC_ENCODER__CACHE_MIB": "0"})


def ours(places: Places, name: str, bundle: Path) -> Peer:
    return Peer(
        name,
        f"encoder-svc, bundle {bundle.name}",
        (encoder_command(places, bundle),),
        EncoderClient,
        (places.binaries / "encoder-svc", bundle),
        streams=True,
    )


def classifier(places: Places, bundle: Path) -> Peer:
    program = places.binaries / "classifier-svc"
    model = HERE.parents[1] / "models" / "default.safetensors"
    listeners = ("--listen", "127.0.0.1:{port}", "--rest-listen", "", "--encoder", "http://127.0.0.1:{first}")
    return Peer(
        "ours-classifier",
        f"classifier-svc and encoder-svc, bundle {bundle.name}: movies to genres",
        (encoder_command(places, bundle), Command((str(program), "serve", *listeners, "--model", str(model)))),
        ClassifierClient,
        (places.binaries / "encoder-svc", program, bundle),
        vectors=False,
    )


def fastapi(places: Places, name: str, bundle: Path, cores: int) -> Peer:
    python = places.python("fastapi")
    arguments = ("--app-dir", str(HERE / "services"), "--host", "127.0.0.1", "--port", "{port}", "--workers", str(cores))
    return Peer(
        name,
        f"FastAPI {version(python, 'fastapi')}, ONNX Runtime {version(python, 'onnxruntime')}, {cores} processes, "
        f"graph of {bundle.name}",
        (Command((str(python), "-m", "uvicorn", "fastapi_service:app", *arguments, "--no-access-log"), {"BUNDLE": str(bundle)}),),
        partial(HttpClient, path="/encode", body=lambda texts: {"texts": texts}, vectors=lambda reply: reply),
        (python, bundle),
    )


def infinity(places: Places) -> Peer:
    python = places.python("infinity")
    arguments = ("v2", "--host", "127.0.0.1", "--port", "{port}", "--model-id", str(places.model), "--served-model-name", "model")
    options = ("--engine", "torch", "--device", "cpu", "--dtype", "float32", "--no-bettertransformer", "--log-level", "warning")
    return Peer(
        "infinity",
        f"infinity-emb {version(python, 'infinity_emb')}, sentence-transformers {version(python, 'sentence_transformers')}, fp32",
        (Command((str(python.with_name("infinity_emb")), *arguments, *options), OFFLINE),),
        partial(
            HttpClient,
            path="/embeddings",
            body=lambda texts: {"model": "model", "input": texts},
            vectors=lambda reply: [one["embedding"] for one in sorted(reply["data"], key=lambda one: one["index"])],
        ),
        (python, places.model),
    )


def bentoml(places: Places) -> Peer:
    python = places.python("bentoml")
    arguments = ("serve", "bentoml_service:Encoder", "--working-dir", str(HERE / "services"))
    variables = OFFLINE | {"MODEL": str(places.model), "BENTOML_HOME": str(places.environments / "bentoml-home")}
    return Peer(
        "bentoml",
        f"BentoML {version(python, 'bentoml')}, sentence-transformers {version(python, 'sentence_transformers')}, fp32",
        (Command((str(python.with_name("bentoml")), *arguments, "--host", "127.0.0.1", "--port", "{port}"), variables),),
        partial(HttpClient, path="/encode", body=lambda texts: {"sentences": texts}, vectors=lambda reply: reply),
        (python, places.model),
    )


def text_embeddings_inference(places: Places, router: Path) -> Peer:
    arguments = ("--model-id", str(places.model), "--hostname", "127.0.0.1", "--port", "{port}", "--dtype", "float32")
    return Peer(
        "tei",
        f"text-embeddings-inference, {router.name}, fp32",
        (Command((str(router), *arguments), OFFLINE),),
        partial(
            HttpClient,
            path="/embed",
            body=lambda texts: {"inputs": texts, "truncate": True, "normalize": False},
            vectors=lambda reply: reply,
        ),
        (router, places.model),
    )


def version(python: Path, package: str) -> str:
    """Returns the version of a package in the environment of `python`, or a question mark."""
    found = [path.name for path in python.parents[1].glob(f"lib/python3.*/site-packages/{package}-*.dist-info")]
    match = re.fullmatch(rf"{package}-(.+)\.dist-info", found[0]) if found else None
    return match[1] if match else "?"
