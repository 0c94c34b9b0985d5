"""Explanations of texts that are expensive to divide into sentences."""

from __future__ import annotations

import statistics
import threading
import time

import grpc
import pytest
from abused import CLASSIFIER, Pair, pair  # noqa: F401
from reflection import ReflectionClient

ORDINARY = "A keeper of bees finds a letter under the floor, and the river rises again near the old mill by the sea " * 71
# Each rule that looks ahead over blanks, marks or lower-case letters for the end of a sentence.
HOSTILE = {
    "a full stop, blanks, commas": "a." + " " * 3_700 + "," * 3_700,
    "blanks": "a" + " " * 7_480 + "b",
    "full stops": "a" + "." * 7_400,
    "full stops and digits": "1." * 3_700,
    "full stops and blanks": "a. " * 2_400,
    "quotes after a full stop": "a." + '"' * 7_400,
    "ellipses before lower case": "A... " + "," * 7_400 + "a",
    "joiners": "a." + "\u200d" * 7_400,
    "combining marks": "a. " + "\u0301" * 7_400,
    "line breaks": "a" + "\n" * 7_400 + "b",
}
CALLERS = 8


def explain(client: ReflectionClient, overview: str) -> float:
    """Returns the seconds of a call, which the service may reject."""
    begin = time.monotonic()
    try:
        client.call(CLASSIFIER, "Classify", timeout=30, overview=overview, explain=True)
    except grpc.RpcError as error:
        assert error.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED), error
    return time.monotonic() - begin


@pytest.mark.parametrize("text", HOSTILE)
def test_explaining_an_unusual_text_takes_the_time_of_an_ordinary_one(pair: Pair, text: str) -> None:  # noqa: F811
    """Both texts are of one sentence, so the encoder's share is alike."""

    def cpu_milliseconds(client: ReflectionClient, overview: str) -> float:
        begin = pair.classifier.cpu_seconds()
        for _ in range(10):
            explain(client, overview)
        return (pair.classifier.cpu_seconds() - begin) * 100

    with pair.classifier.channel() as channel:
        client = ReflectionClient(channel)
        usual = cpu_milliseconds(client, ORDINARY[:7_400])
        unusual = cpu_milliseconds(client, HOSTILE[text][:7_500])
    print(f"{text}: {unusual:.0f} ms of CPU, an ordinary text {usual:.0f} ms")
    assert unusual < 3 * usual + 30


def test_explanations_do_not_delay_probes(pair: Pair) -> None:  # noqa: F811
    over = threading.Event()

    def call() -> None:
        with pair.classifier.channel() as channel:
            client = ReflectionClient(channel)
            while not over.is_set():
                explain(client, HOSTILE["a full stop, blanks, commas"])

    def livez() -> float:
        begin = time.monotonic()
        assert pair.classifier.get("/livez", timeout=10) == 200
        return 1e3 * (time.monotonic() - begin)

    alone = statistics.median(livez() for _ in range(20))
    callers = [threading.Thread(target=call) for _ in range(CALLERS)]
    for caller in callers:
        caller.start()
    try:
        time.sleep(1)
        beside = [livez() for _ in range(20)]
    finally:
        over.set()
        for caller in callers:
            caller.join()
    print(f"/livez: p50 {alone:.0f} ms alone, {statistics.median(beside):.0f} ms beside {CALLERS} callers, slowest {max(beside):.0f}")
    assert statistics.median(beside) < 100
