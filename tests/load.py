"""Concurrent clients of a classifier that record every failure."""

from __future__ import annotations

import threading
import time

import grpc
from reflection import ReflectionClient

CLASSIFIER = "movieclassifier.classifier.v1.ClassifierService"
CALLERS = 4
DEADLINE_SECONDS = 5.0


class Load:
    """Clients that classify one movie after another until the end of a `with` block."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.failures: list[str] = []
        self.seconds: list[float] = []
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(caller,)) for caller in range(CALLERS)]

    def _call(self, caller: int) -> None:
        with grpc.insecure_channel(self.address) as channel:
            client = ReflectionClient(channel)
            count = 0
            while not self._over.is_set():
                count += 1
                begin = time.monotonic()
                try:
                    overview = f"Caller {caller} searches the flooded mine for movie number {count}."
                    client.call(CLASSIFIER, "Classify", timeout=DEADLINE_SECONDS, overview=overview)
                except grpc.RpcError as error:
                    self.failures.append(f"{error.code()}: {error.details()}")
                self.seconds.append(time.monotonic() - begin)

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(timeout=60)
