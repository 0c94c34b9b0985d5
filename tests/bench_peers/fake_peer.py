"""A server for the tests of `make bench-peers`: a constant vector for each text, a fixed time a text, and 503 above a limit.

It starts a child that ignores SIGTERM, as some servers' workers do."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--starts", type=Path, required=True, help="file that gets the child's id, a line per start")
parser.add_argument("--seconds-a-text", type=float, default=0.004)
parser.add_argument("--limit", type=int, default=1000)
options = parser.parse_args()

child = subprocess.Popen([sys.executable, "-c", STUBBORN])
with options.starts.open("a") as file:
    file.write(f"{child.pid}\n")

running = threading.Lock()
places = threading.BoundedSemaphore(options.limit)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if not places.acquire(blocking=False):
            self.reply(503, {"error": "busy"})
            return
        try:
            with running:
                time.sleep(options.seconds_a_text * len(body["texts"]))
            self.reply(200, [[1.0] * 512 for _ in body["texts"]])
        finally:
            places.release()

    def reply(self, status: int, content: object) -> None:
        text = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256


Server(("127.0.0.1", options.port), Handler).serve_forever()
