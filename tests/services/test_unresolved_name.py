"""A classifier whose encoder's name does not resolve: one warning, and a gauge that stays until the name resolves."""

from __future__ import annotations

import subprocess
import time
import urllib.request
from pathlib import Path

import pytest
from conftest import BINARIES, ROOT, free_port
from waiting import wait_for

# A name that no resolver knows (RFC 2606).
NAME = "http://encoder.invalid:50051"


def unresolved(rest: str) -> float:
    text = urllib.request.urlopen(f"http://{rest}/metrics", timeout=5).read().decode()
    (line,) = [line for line in text.splitlines() if line.startswith("movieclassifier_encoder_unresolved_names ")]
    return float(line.split()[1])


def is_up(rest: str) -> bool:
    try:
        return bool(unresolved(rest) >= 0)
    except OSError:
        return False


@pytest.mark.parametrize("urls", [NAME, f"http://127.0.0.1:1,{NAME}"])
def test_a_name_that_does_not_resolve_is_logged_once(tmp_path: Path, urls: str) -> None:
    rest = f"127.0.0.1:{free_port()}"
    listen = ("--listen", f"127.0.0.1:{free_port()}", "--rest-listen", rest)
    log = tmp_path / "log"
    with log.open("wb") as output:
        command = [BINARIES / "classifier-svc", "serve", *listen, "--encoder", urls]
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output)
    try:
        wait_for(lambda: is_up(rest), "the classifier listens", 60)
        assert unresolved(rest) == 1
        # Long enough for several lookups.
        time.sleep(4)
        assert unresolved(rest) == 1
        lines = [line for line in log.read_text().splitlines() if "name cannot be looked up" in line]
        assert len(lines) == 1 and "encoder.invalid" in lines[0], lines
    finally:
        process.kill()
        process.wait()
