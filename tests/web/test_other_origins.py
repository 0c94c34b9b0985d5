"""Pages of other origins that call REST, and the page behind a proxy under a path prefix, in a real browser."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from browser import WESTERN, Page, driver  # noqa: F401
from conftest import Services, free_port, start, stop, wait_until_serving
from proxied import Proxy, open_classifier, proxy  # noqa: F401
from selenium import webdriver

CALL = """const [url, body, done] = arguments;
fetch(url, {method: 'POST', headers: {'content-type': 'application/json', 'authorization': 'Bearer secret'}, body})
    .then(async response => done([response.status, await response.json()]), error => done(String(error)))"""


class Empty(BaseHTTPRequestHandler):
    """An empty page."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def empty_site() -> Iterator[str]:
    """Serves empty pages and yields their origin."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Empty) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://localhost:{server.server_address[1]}"
        server.shutdown()


def test_pages_of_allowed_origins_alone_read_answers(
    driver: webdriver.Chrome,  # noqa: F811
    services: Services,
    tmp_path: Path,
) -> None:
    with empty_site() as allowed, empty_site() as other:
        settings = tmp_path / "settings.toml"
        # printf %s secret | sha256sum. A preflight carries no key.
        digest = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"
        keys = f'[[auth.keys]]\nname = "page"\nsha256 = "{digest}"\n'
        settings.write_text(f'[rest]\ncors_origins = ["{allowed}"]\n{keys}', encoding="utf-8")
        address, rest = (f"127.0.0.1:{free_port()}" for _ in range(2))
        listeners = ("--listen", address, "--rest-listen", rest, "--encoder", f"http://{services.encoder}")
        process = start("classifier-svc", "serve", "--config", str(settings), *listeners)
        try:
            wait_until_serving(address, process)
            url, movie = f"http://{rest}/v1/movies:classify", json.dumps({"overview": WESTERN})
            driver.get(allowed)
            status, answer = driver.execute_async_script(CALL, url, movie)
            assert (status, answer["genres"][0]["label"]) == (200, "Western")
            status, problem = driver.execute_async_script(CALL, url, '{"overview": " "}')
            assert (status, problem["reason"]) == (400, "EMPTY_TEXT")
            driver.get(other)
            failure = driver.execute_async_script(CALL, url, movie)
            assert failure == "TypeError: Failed to fetch"
        finally:
            driver.get("about:blank")
            stop(process)


@pytest.fixture
def proxied_page(driver: webdriver.Chrome, proxy: Proxy) -> Iterator[Page]:  # noqa: F811
    driver.execute_cdp_cmd("Security.setIgnoreCertificateErrors", {"ignore": True})
    page = Page(driver, f"https://localhost:{proxy.port}/movies")
    yield page
    page.close()
    driver.execute_cdp_cmd("Security.setIgnoreCertificateErrors", {"ignore": False})


def test_the_page_works_under_a_path_prefix(proxied_page: Page) -> None:
    # The browser's logs also have what earlier tests did.
    proxied_page.errors(), proxied_page.requests()
    proxied_page.open()
    proxied_page.write(WESTERN)
    proxied_page.until_predicted("Western")
    assert proxied_page.errors() == []
    asked = [request["url"] for request in proxied_page.requests() if request["url"].startswith("http")]
    assert f"{proxied_page.address}/v1/movies:classify" in asked
    assert [url for url in asked if not url.startswith(f"{proxied_page.address}/")] == []
