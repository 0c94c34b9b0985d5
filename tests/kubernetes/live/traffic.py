"""A bounded load of calls, and what the encoders counted of it."""

from __future__ import annotations

import collections
import http.client
import itertools
import json
import re
import threading
import time
import urllib.request
from types import TracebackType

from cluster import Cluster, Failed

# The requests that are open at once. More would hide that the service is slower than the load.
MOST_OPEN = 20
NUMBERS = itertools.count(1)
ENCODE = re.compile(r'(?m)^movieclassifier_rpc_seconds_count\{[^}]*method="[^"]*/Encode"[^}]*\} (\S+)$')


class Load:
    """Calls the classifier at a fixed rate for the duration of a `with` block."""

    def __init__(self, port: int, namespace: str, calls_per_second: float) -> None:
        self._port, self._pause = port, 1 / calls_per_second
        self._path = f"/api/v1/namespaces/{namespace}/services/classifier:http/proxy/v1/movies:classify"
        self._open = threading.BoundedSemaphore(MOST_OPEN)
        self._end = threading.Event()
        self._lock = threading.Lock()
        self.outcomes: collections.Counter[str] = collections.Counter()
        self.slowest = 0.0
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._end.set()
        self._thread.join()
        for _ in range(MOST_OPEN):
            self._open.acquire()

    def _run(self) -> None:
        following = time.monotonic()
        while not self._end.is_set():
            if self._open.acquire(timeout=1):
                threading.Thread(target=self._call, daemon=True).start()
            following = max(following + self._pause, time.monotonic() - 1)
            self._end.wait(max(0.0, following - time.monotonic()))

    def _call(self) -> None:
        begin = time.monotonic()
        try:
            outcome = call(self._port, self._path)
        finally:
            self._open.release()
        with self._lock:
            self.outcomes[outcome] += 1
            self.slowest = max(self.slowest, time.monotonic() - begin)

    def require_all(self) -> str:
        """Returns a summary. Fails if a call has failed."""
        total = self.outcomes.total()
        lost = total - self.outcomes["200"]
        if total == 0 or lost:
            raise Failed(f"{lost} of {total} calls failed: {dict(self.outcomes)}")
        return f"{total} calls, none failed, slowest {self.slowest:.2f} s"


def call(port: int, path: str) -> str:
    """Classifies a movie that was never seen, so that no cache knows it. Returns the status or the kind of error."""
    movie = {"title": "Dust Creek", "overview": f"On day {next(NUMBERS)} of {time.time_ns()} the rider reached the dam."}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("POST", path, json.dumps(movie), {"content-type": "application/json"})
        response = connection.getresponse()
        response.read()
        return str(response.status)
    except OSError as error:
        return type(error).__name__
    except http.client.HTTPException as error:
        return type(error).__name__
    finally:
        connection.close()


def encoded(cluster: Cluster) -> dict[str, float]:
    """The calls of `Encode` that each encoder has answered, by its pod."""
    found = {}
    for pod in cluster.ready_pods("encoder"):
        name = pod["metadata"]["name"]
        with cluster.forward(name, 9464) as port:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as response:
                found[name] = sum(map(float, ENCODE.findall(response.read().decode())))
    return found
