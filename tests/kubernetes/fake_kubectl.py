"""A kubectl that plays a small cluster, for the tests of `live/`. It records every call in $FAKE_CLUSTER/calls.

$FAKE_BREAK names what goes wrong. `kubectl kustomize` is the real one.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

START = '{"pods": {"encoder": [1, 2], "classifier": [1, 2]}, "next": 3, "calls": 0, "applied": 0, "claim": false}'


def folder() -> Path:
    return Path(os.environ["FAKE_CLUSTER"])


def broken() -> str:
    return os.environ.get("FAKE_BREAK", "")


@contextmanager
def state() -> Iterator[dict[str, Any]]:
    file = folder() / "state"
    with open(folder() / "lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        known = json.loads(file.read_text(encoding="utf-8") if file.exists() else START)
        yield known
        file.write_text(json.dumps(known), encoding="utf-8")


def fail(message: str) -> None:
    print(message, file=sys.stderr)
    sys.exit(1)


def pod(app: str, number: int) -> dict[str, Any]:
    ready = not (broken() == "unready" and app == "encoder")
    at = "2026-01-01T00:00:40Z" if broken() == "slow_start" and app == "classifier" else "2026-01-01T00:00:03Z"
    running = {"running": {"startedAt": "2026-01-01T00:00:01Z"}}
    waiting = {"waiting": {"reason": "ImagePullBackOff"}}
    return {
        "metadata": {"name": f"{app}-{number}"},
        "status": {
            "conditions": [{"type": "Ready", "status": str(ready), "lastTransitionTime": at}],
            "containerStatuses": [{"state": running if ready else waiting}],
        },
    }


def get(arguments: list[str], known: dict[str, Any]) -> Any:
    what = arguments[0]
    if what == "pods":
        app = arguments[1].partition("name=")[2]
        return {"items": [pod(app, number) for number in known["pods"][app]]}
    if what == "job/encode-movies":
        return {"status": {"succeeded": 1 if broken() == "worker" else 2}}
    if what == "persistentvolumeclaim/movies":
        if not known["claim"]:
            fail('persistentvolumeclaims "movies" not found')
        return {"metadata": {"name": "movies"}, "status": {"phase": "Bound"}}
    assert what.startswith("horizontalpodautoscaler/"), what
    inactive = broken() == "autoscaler" and what.endswith("encoder")
    found = {"type": "ScalingActive", "status": str(not inactive), "reason": "FailedGetPodsMetric", "message": "no adapter"}
    return {"metadata": {}, "status": {"conditions": [found]}}


def server(respond: Any) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = respond()
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.do_GET()

        def log_message(self, *_: Any) -> None:
            pass

    return ThreadingHTTPServer(("127.0.0.1", 0), Handler)


def classify() -> tuple[int, bytes]:
    with state() as known:
        known["calls"] += 1
        lost = broken() == "lost_calls" and known["next"] > 3 and known["calls"] % 10 == 0
    return (503 if lost else 200), b"{}"


def metrics(name: str) -> tuple[int, bytes]:
    with state() as known:
        first = known["pods"]["encoder"][0] == int(name.rpartition("-")[2])
        share = (0.9 if first else 0.1) if broken() == "unbalanced" else 0.5
        count = int(known["calls"] * share)
    method = 'method="movieclassifier.encoder.v1.EncoderService/Encode"'
    return 200, f'movieclassifier_rpc_seconds_count{{{method},code="OK"}} {count}\n'.encode()


def apply(text: str, known: dict[str, Any]) -> None:
    if broken() == "apply":
        fail("error: the server refuses")
    is_base = "kind: Deployment" in text
    known["applied"] += is_base
    known["claim"] |= "kind: PersistentVolumeClaim" in text
    done = "created" if not is_base or known["applied"] == 1 else "unchanged"
    print("deployment.apps/encoder", "configured" if broken() == "configured" and done == "unchanged" else done)


def listening(command: list[str]) -> ThreadingHTTPServer:
    """The server of a command that listens."""
    return server(classify if command[0] == "proxy" else lambda: metrics(command[1]))


def answer(arguments: list[str], text: str) -> None:
    """Prints what kubectl prints, and exits with its status if that is not 0."""
    with state():
        with open(folder() / "calls", "a", encoding="utf-8") as calls:
            calls.write(json.dumps([arguments, text]) + "\n")
    if arguments[0] == "version":
        if broken() == "no_cluster":
            fail("The connection to the server 10.0.0.1:6443 was refused")
        print(json.dumps({"serverVersion": {"gitVersion": "v1.36.0"}}))
        return
    if arguments[:2] == ["get", "namespace"]:
        fail("not found")
    if arguments[:2] == ["delete", "namespace"]:
        if broken() == "delete":
            fail("timed out waiting for the condition")
        return
    assert arguments[0] == "--namespace", arguments
    command = arguments[2:]
    with state() as known:
        if command[0] == "apply":
            apply(text, known)
        elif command[0] == "get" and command[1].startswith("--raw"):
            if broken() == "no_metrics":
                fail("the server could not find the requested resource")
        elif command[0] == "get":
            print(json.dumps(get(command[1:], known)))
        elif command[:2] == ["rollout", "restart"]:
            for app in ("encoder", "classifier"):
                known["pods"][app] = [known["next"], known["next"] + 1]
                known["next"] += 2
        elif command[:2] == ["rollout", "status"]:
            if broken() == "rollout":
                fail("error: timed out waiting for the condition")
        elif command[0] == "create":
            if broken() == "eviction":
                fail("Cannot evict pod as it would violate the pod's disruption budget")
            app, _, number = json.loads(text)["metadata"]["name"].rpartition("-")
            known["pods"][app].remove(int(number))
            known["pods"][app].append(known["next"])
            known["next"] += 1
        elif command[0] == "wait":
            if broken() == "job":
                fail("timed out waiting for the condition on jobs/encode-movies")
        elif command[0] == "delete":
            known["claim"] &= broken() != "claim" and "kind: PersistentVolumeClaim" not in text
        else:
            fail(f"unexpected command: {command}")


def main(arguments: list[str]) -> None:
    if arguments[0] == "kustomize":
        os.execv(os.environ["REAL_KUBECTL"], ["kubectl", *arguments])
    if arguments[2] in {"proxy", "port-forward"}:
        found = listening(arguments[2:])
        signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=found.shutdown).start())
        port = found.server_address[1]
        print(f"Forwarding from 127.0.0.1:{port} -> 9464" if arguments[2] != "proxy" else f"on 127.0.0.1:{port}", flush=True)
        found.serve_forever()
    else:
        answer(arguments, sys.stdin.read() if "--filename=-" in arguments else "")


if __name__ == "__main__":
    main(sys.argv[1:])
