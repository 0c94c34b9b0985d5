"""The web page in a real Chromium. Tests that import this module are skipped without Chromium."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import Services

pytest.importorskip("selenium", reason="the page's tests need selenium: install tests/requirements.txt")

from selenium import webdriver  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.remote.webelement import WebElement  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
CHROMEDRIVER = shutil.which("chromedriver")
if CHROMIUM is None or CHROMEDRIVER is None:
    pytest.skip("the page's tests need chromium and chromedriver on the PATH", allow_module_level=True)

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WESTERN = (
    "A retired gunslinger rides into a frontier town where a cattle baron holds every deed. "
    "He agrees to stand with the homesteaders when the railway's hired men come for their land."
)
REEF = "A documentary about the slow death of a coral reef, told by the divers who have filmed it for thirty years."
# The visible content of the page.
ROWS = """return [...document.querySelectorAll('#genres > li')].map(item => ({
  label: item.dataset.genre, predicted: item.className === 'predicted', visible: item.checkVisibility(),
  value: item.querySelector('.value').textContent,
  fill: item.querySelector('.fill').offsetWidth / item.querySelector('.bar').offsetWidth,
  tick: (item.querySelector('.tick').offsetLeft + 1) / item.querySelector('.bar').offsetWidth,
}))"""


class Page:
    """The page in a browser, with the browser's logs."""

    def __init__(self, driver: webdriver.Chrome, address: str) -> None:
        self.driver = driver
        self.address = address
        self._scripts: list[str] = []

    def open(self, before: str | None = None) -> None:
        """Opens the page. `before` is JavaScript that runs before the page's scripts."""
        if before is not None:
            added = self.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": before})
            self._scripts.append(added["identifier"])
        self.driver.get(f"{self.address}/")

    def close(self) -> None:
        self.driver.execute_script("localStorage.clear()")
        for script in self._scripts:
            self.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", {"identifier": script})
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
        self.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        self.driver.get("about:blank")

    def emulate(self, **features: str) -> None:
        listed = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": listed})

    def find(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def until(self, condition: Callable[[], Any]) -> Any:
        return WebDriverWait(self.driver, 20, poll_frequency=0.05).until(lambda _: condition())

    def rows(self) -> list[dict[str, Any]]:
        return self.driver.execute_script(ROWS)

    def predicted(self) -> list[str]:
        return [row["label"] for row in self.rows() if row["predicted"]]

    def write(self, overview: str, title: str = "") -> None:
        """Replaces title and overview at once, as pasting does."""
        script = """for (const [id, text] of Object.entries(arguments[0])) document.getElementById(id).value = text;
        document.getElementById('overview').dispatchEvent(new Event('input', {bubbles: true}))"""
        self.driver.execute_script(script, {"title": title, "overview": overview})

    def until_predicted(self, label: str) -> None:
        settled = "return document.getElementById('answer').getAttribute('aria-busy') === 'false'"
        self.until(lambda: label in self.predicted() and self.driver.execute_script(settled))

    def row(self, label: str) -> WebElement:
        return self.find(f'[data-genre="{label}"] .row')

    def errors(self) -> list[str]:
        """Returns the console's errors and warnings since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] in ("WARNING", "SEVERE")]

    def requests(self) -> list[dict[str, Any]]:
        """Returns the page's requests since the last call."""
        entries = (json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance"))
        return [entry["params"]["request"] for entry in entries if entry["method"] == "Network.requestWillBeSent"]

    def asked(self) -> list[dict[str, Any]]:
        """Returns the bodies of the classify requests since the last call."""
        return [json.loads(request["postData"]) for request in self.requests() if request["url"].endswith(":classify")]


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS, "--window-size=1280,900", f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(CHROMEDRIVER)))
    try:
        yield driver
    finally:
        driver.quit()


@pytest.fixture
def page(driver: webdriver.Chrome, services: Services) -> Iterator[Page]:
    page = Page(driver, services.rest)
    page.open()
    page.errors(), page.requests()
    yield page
    page.close()
