"""`make bench-peers` with a peer that needs no installation, and with the real services."""

from __future__ import annotations

import argparse
import contextlib
import json
import socket
import sys
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from conftest import BINARIES, ROOT, Services
from waiting import wait_for

sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "encoder-svc")]
from export.adapt.data import Movie, compose  # noqa: E402
from export.minilm.adapter import load_adapter  # noqa: E402
from export.minilm.weights import find_model_folder, load_shape, load_weights  # noqa: E402
from peers import accuracy, report  # noqa: E402
from peers.__main__ import ADAPTER, MODEL, chosen, parsed, run  # noqa: E402
from peers.catalogue import Command, Peer, Places, catalogue  # noqa: E402
from peers.clients import CallError, ClassifierClient, EncoderClient, HttpClient, LateError, RejectedError, closed  # noqa: E402
from peers.load import closed_loop, open_loop, quantile  # noqa: E402
from peers.measure import PeerError  # noqa: E402
from peers.model_folder import write_model_folder  # noqa: E402
from peers.texts import WORDS_AT_TWENTIETHS, invented  # noqa: E402
from safetensors.numpy import load_file  # noqa: E402

FAKE = Path(__file__).with_name("fake_peer.py")
MOVIES = (
    Movie("1", "Reef", "A documentary about the death of a coral reef.", (17,)),
    Movie("2", "", "A gunslinger defends a frontier town, and falls in love with the schoolteacher.", (18,)),
    Movie("3", "Amélie's Straße_2", "ÉLAN! Two spies, one heist; nobody survives.", (7,)),
)


def fake(folder: Path, name: str = "fake", *, vectors: bool = False, **arguments: object) -> Peer:
    """A peer that notes its starts in `folder`."""
    command = [sys.executable, str(FAKE), "--port", "{port}", "--starts", str(folder / "starts")]
    for key, value in arguments.items():
        command += [f"--{key.replace('_', '-')}", str(value)]
    client = partial(HttpClient, path="/", body=lambda texts: {"texts": texts}, vectors=lambda reply: reply)
    return Peer(name, "a fake", (Command(tuple(command)),), client, vectors=vectors)


def options(folder: Path, *arguments: str) -> argparse.Namespace:
    return parsed(["--quick", "--output", str(folder / "peers.json"), *arguments])


def starts(folder: Path) -> list[int]:
    """The ids of the children that the fake's processes started."""
    return [int(line) for line in (folder / "starts").read_text().split()]


def is_alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


def figures(folder: Path, peer: str) -> dict[str, float]:
    turns = json.loads((folder / "peers.json").read_text())["turns"]
    return next(turn["figures"] for turn in turns if turn["peer"] == peer)


def test_measures_a_peer_and_ends_everything_that_it_started(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(options(tmp_path), [fake(tmp_path)]) == 0
    found = figures(tmp_path, "fake")
    # It takes 4 ms a text, one at a time.
    assert 20 < found["bulk_texts_per_second"] <= 250
    assert found["alone_p50_ms"] >= 4
    assert found["ready_seconds"] > 0 and found["memory_mib"] > 5 and found["memory_peak_mib"] > 5
    assert 0 < found["bulk_cpu_ms_a_text"] < 100
    assert "| texts/s in bulk, best way |" in capsys.readouterr().out
    wait_for(lambda: not any(map(is_alive, starts(tmp_path))), "the fake's child has ended")


def test_measures_only_missing_figures_unless_fresh(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    peer = fake(tmp_path)
    assert run(options(tmp_path), [peer]) == 0
    assert run(options(tmp_path), [peer, fake(tmp_path, "other")]) == 0
    assert len(starts(tmp_path)) == 2
    # The ratio of a table with two peers.
    assert "| texts/s of fake over this one's | 1.00 |" in capsys.readouterr().out
    assert run(options(tmp_path, "--fresh"), [peer]) == 0
    assert len(starts(tmp_path)) == 3


def test_does_not_mix_figures_of_different_settings(tmp_path: Path) -> None:
    assert run(options(tmp_path), [fake(tmp_path)]) == 0
    with pytest.raises(report.ResultsError, match=r"another value of deadline; use --fresh"):
        run(options(tmp_path, "--deadline", "2"), [fake(tmp_path)])
    (tmp_path / "peers.json").write_text("[]")
    with pytest.raises(report.ResultsError, match="expected figures of this benchmark"):
        run(options(tmp_path), [fake(tmp_path)])


def test_goes_on_after_a_peer_that_does_not_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = fake(tmp_path, "broken", limit="many")
    assert run(options(tmp_path), [broken, fake(tmp_path)]) == 1
    assert "broken: " in (error := capsys.readouterr().err) and "exited with 2" in error
    assert "invalid int value" in (tmp_path / "peers-logs" / "broken.log").read_text()
    assert figures(tmp_path, "fake")["bulk_texts_per_second"] > 0


def test_rejects_vectors_of_other_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(options(tmp_path), [fake(tmp_path, vectors=True)]) == 1
    assert "expected vectors of the same weights, found a cosine of " in capsys.readouterr().err
    wait_for(lambda: not any(map(is_alive, starts(tmp_path))), "the fake's child has ended")


def test_counts_rejections_and_retries_them_in_bulk(tmp_path: Path) -> None:
    assert run(options(tmp_path), [fake(tmp_path, limit=4, seconds_a_text=0.02)]) == 0
    found = figures(tmp_path, "fake")
    assert 10 < found["bulk_single_texts_per_second"] <= 50
    assert found["overload_rejected_share"] > 0
    shares = [found[f"overload_{name}_share"] for name in ("served", "rejected", "late", "failed")]
    assert sum(shares) == pytest.approx(1)


def test_calls_again_when_the_server_has_closed_an_idle_connection() -> None:
    accepted = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    accepted.append(connection.recv(4096))
                    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]")
                    connection.close()

        threading.Thread(target=serve, daemon=True).start()
        with closed(HttpClient(listener.getsockname()[1], "/", lambda texts: texts, lambda reply: reply)) as client:
            assert [client.call(b"{}", 5) for _ in range(3)] == [b"[]"] * 3
        listener.shutdown(socket.SHUT_RDWR)
    assert len(accepted) == 3


@pytest.mark.parametrize(("status", "expected"), [(429, RejectedError), (503, RejectedError), (504, LateError), (500, CallError)])
def test_tells_rejections_and_timeouts_from_failures(status: int, expected: type[Exception]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            connection.recv(4096)
            connection.sendall(f"HTTP/1.1 {status} Reason\r\ncontent-length: 0\r\n\r\n".encode())

        threading.Thread(target=serve, daemon=True).start()
        with closed(HttpClient(listener.getsockname()[1], "/", lambda texts: texts, lambda reply: reply)) as client:
            with pytest.raises(CallError) as error:
                client.call(b"{}", 5)
            assert error.type is expected


class Busy:
    """A client whose calls are all rejected."""

    def call(self, request: bytes, timeout: float) -> bytes:
        raise RejectedError("busy")


def test_reports_a_server_that_rejects_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peers.load.PATIENCE_SECONDS", 0.3)
    with pytest.raises(CallError, match=r"every call within .* s was rejected or late"):
        closed_loop(Busy(), [b"text"], 1, 2, 0.2)  # type: ignore[arg-type]
    outcomes = open_loop(Busy(), [b"text"], 100, 0.3, 1.0)  # type: ignore[arg-type]
    assert outcomes.calls == len(outcomes.rejected) > 10
    assert quantile(outcomes.served, 0.99) is None


def test_measures_the_real_services(tmp_path: Path) -> None:
    places = Places(BINARIES, ROOT / ".runtime", tmp_path, tmp_path / "model", None)
    peers = chosen(catalogue(places), "ours-int8,ours-classifier")
    assert run(options(tmp_path), peers) == 0
    found = figures(tmp_path, "ours-int8")
    assert found["cosine_mean"] > 0.99 and found["length_ratio"] == pytest.approx(1, abs=0.02)
    assert {"bulk_single_texts_per_second", "bulk_batch_texts_per_second", "bulk_stream_texts_per_second"} <= found.keys()
    assert found["overload_failed_share"] == 0
    assert figures(tmp_path, "ours-classifier")["bulk_texts_per_second"] > 0


def test_the_table_names_peers_that_are_not_installed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    places = Places(BINARIES, ROOT / ".runtime", tmp_path, tmp_path / "model", tmp_path / "router")
    names = [peer.name for peer in chosen(catalogue(places), None)]
    assert names == ["ours-int8", "ours-fp32", "ours-classifier"]
    left_out = capsys.readouterr().out
    assert all(f"{name} is left out" in left_out for name in ("fastapi-int8", "infinity", "bentoml", "tei"))
    with pytest.raises(PeerError, match="infinity: expected .*found no such file"):
        chosen(catalogue(places), "infinity")
    with pytest.raises(PeerError, match="found infinty"):
        chosen(catalogue(places), "infinty")


def test_the_model_in_python_agrees_with_the_classifier(services: Services) -> None:
    task = accuracy.Task(MOVIES, MODEL)
    encoder = EncoderClient(int(services.encoder.rpartition(":")[2]))
    classifier = ClassifierClient(int(services.classifier.rpartition(":")[2]))
    with closed(encoder), closed(classifier):
        vectors = np.array(encoder.vectors(encoder.call(encoder.request(task.texts()), 30)), dtype=np.float32)
        movies = [classifier._movie(title=movie.title, overview=movie.overview) for movie in MOVIES]
        request = classifier._request(movies=movies, include_scores=True).SerializeToString()
        expected = np.array(classifier.vectors(classifier.call(request, 30)))
    assert np.abs(task.probabilities(vectors) - expected).max() < 1e-4
    assert task.texts()[0] == compose("Reef", MOVIES[0].overview)
    assert 0 < task.micro_f1(vectors) <= 1


def test_the_model_folder_has_the_merged_weights_and_the_projection(tmp_path: Path) -> None:
    write_model_folder(tmp_path / "model", ADAPTER)
    published = find_model_folder()
    shape = load_shape(published / "config.json")
    base = load_weights(published / "model.safetensors", shape)
    encoder = load_adapter(ADAPTER, base, shape.hidden)
    name = "encoder.layer.0.attention.self.query.weight"
    written = load_file(tmp_path / "model" / "model.safetensors")[name]
    assert (written == encoder.weights[name]).all() and (written != base[name]).any()
    dense = load_file(tmp_path / "model" / "2_Dense" / "model.safetensors")
    assert (dense["linear.weight"] == encoder.projection.T).all() and (dense["linear.bias"] == encoder.projection_bias).all()
    modules = json.loads((tmp_path / "model" / "modules.json").read_text())
    assert [module["type"].rpartition(".")[2] for module in modules] == ["Transformer", "Pooling", "Dense"]
    assert all((tmp_path / "model" / module["path"] / "config.json").is_file() for module in modules)


def test_invented_texts_are_as_long_as_real_ones() -> None:
    texts = invented(2000)
    assert texts == invented(2000) and len(set(texts)) == 2000
    words = np.array([len(text.split()) for text in texts])
    found = np.percentile(words, range(10, 100, 20))
    assert found == pytest.approx(WORDS_AT_TWENTIETHS[2:-1:4], rel=0.1)
