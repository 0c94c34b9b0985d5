#!/usr/bin/env python3
"""Checks the manifests on the cluster that KUBECONFIG names, in about five minutes (`make test-kubernetes-live`).

It creates a namespace of its own, deletes it at the end, also after a failure or Ctrl-C, and touches nothing else. It needs
kubectl and Python only. Exit status: 0 if all checks hold, 1 if one fails, 2 if the cluster cannot be checked.

Images are movieclassifier/encoder, classifier and trainer with the tag `latest`, which the nodes must have, or those of
ENCODER_IMAGE, CLASSIFIER_IMAGE and TRAINER_IMAGE. STORAGE_CLASS names the class of the claim, instead of the default one.
"""

from __future__ import annotations

import os
import secrets
import signal
import sys
import time
from pathlib import Path
from types import FrameType

sys.path.insert(0, str(Path(__file__).resolve().parent))
from checks import Checks, Options, Skipped  # noqa: E402
from cluster import CannotRun, Cluster, Failed, require_cluster  # noqa: E402

CALLS_PER_SECOND = 20.0


def image(name: str) -> tuple[str, str]:
    given = os.environ.get(f"{name.upper()}_IMAGE", f"movieclassifier/{name}:latest")
    repository, colon, tag = given.rpartition(":")
    if not colon or "/" in tag or "@" in repository:
        raise CannotRun(f"{name.upper()}_IMAGE is {given}, expected NAME:TAG")
    return repository, tag


def options() -> Options:
    return Options(
        images={name: image(name) for name in ("encoder", "classifier", "trainer")},
        storage_class=os.environ.get("STORAGE_CLASS") or None,
        calls_per_second=CALLS_PER_SECOND,
        seconds=float(os.environ.get("BALANCE_SECONDS", "15")),
    )


def run(checks: Checks) -> bool:
    """Runs all checks up to the first failure, after which the others could not succeed."""
    for name, check in checks.all():
        begin = time.monotonic()
        try:
            outcome, detail = "ok", check()
        except Skipped as error:
            outcome, detail = "skipped", str(error)
        except Failed as error:
            outcome, detail = "FAILED", str(error)
        print(f"{outcome:8}{name:14}{time.monotonic() - begin:4.0f} s  {detail}", flush=True)
        if outcome == "FAILED":
            return False
    return True


def interrupted(_: int, __: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> int:
    signal.signal(signal.SIGTERM, interrupted)
    begin = time.monotonic()
    try:
        chosen = options()
        print(f"cluster: {require_cluster()}", flush=True)
        cluster = Cluster(f"movieclassifier-check-{secrets.token_hex(3)}")
        if cluster.exists():
            raise CannotRun(f"the namespace {cluster.namespace} exists already")
    except CannotRun as error:
        print(f"cannot check: {error}", file=sys.stderr)
        return 2
    held = False
    try:
        with cluster.proxy() as port:
            held = run(Checks(cluster, port, chosen))
    except Failed as error:
        print(f"FAILED  {error}", flush=True)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    finally:
        print(f"deleting namespace {cluster.namespace}", flush=True)
        # A second Ctrl-C must not leave anything behind.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        try:
            cluster.delete()
        except Failed as error:
            print(f"FAILED  not deleted: {error}", flush=True)
            held = False
    print(f"{'all checks hold' if held else 'a check failed'} after {time.monotonic() - begin:.0f} s")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
