"""The web page's content and requests, in a real Chromium with the real services."""

from __future__ import annotations

import json
import re
import urllib.request
from typing import Any

import pytest
from browser import REEF, WESTERN, Page, driver, page  # noqa: F401
from conftest import Services
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement


def classify(services: Services, **request: Any) -> dict[str, Any]:
    """Returns the service's response without the page."""
    body = json.dumps(request).encode()
    headers = {"content-type": "application/json"}
    asked = urllib.request.Request(f"{services.rest}/v1/movies:classify", body, headers)
    with urllib.request.urlopen(asked, timeout=30) as answer:
        return json.load(answer)


def percent(probability: float) -> str:
    if 0 < probability < 0.005:
        return "<1%"
    return ">99%" if 0.995 <= probability < 1 else f"{int(probability * 100 + 0.5)}%"


def test_typing_shows_a_bar_with_threshold_for_every_genre(page: Page, services: Services) -> None:
    page.emulate(prefers_reduced_motion="reduce")
    page.find("#title").send_keys("Dust Creek")
    page.find("#overview").send_keys(WESTERN)
    page.until_predicted("Western")

    answer = classify(services, title="Dust Creek", overview=WESTERN, include_scores=True)
    scores = {score["label"]: score for score in answer["scores"]}
    assert page.predicted() == [genre["label"] for genre in answer["genres"]]
    shown = page.rows()
    assert {row["label"] for row in shown} == set(scores)
    probabilities = [scores[row["label"]]["probability"] for row in shown if not row["predicted"]]
    assert probabilities == sorted(probabilities, reverse=True)
    assert sum(row["visible"] for row in shown) == max(5, len(answer["genres"]))

    page.find("#more").click()
    for row in page.rows():
        score = scores[row["label"]]
        assert row["visible"] and row["value"] == percent(score["probability"])
        assert row["fill"] == pytest.approx(score["probability"], abs=0.01)
        assert row["tick"] == pytest.approx(score["threshold"], abs=0.01)


# Ten keystrokes, 50 ms apart. The last one enters the rest of the text.
KEYS = """const overview = document.getElementById('overview'), [text, done] = arguments;
let count = 0;
const key = setInterval(() => {
  count += 1;
  overview.value = count < 10 ? text.slice(0, count) : text;
  overview.dispatchEvent(new Event('input', {bubbles: true}));
  if (count === 10) { clearInterval(key); done(); }
}, 50);"""


def test_fast_typing_sends_few_requests_without_explanation(page: Page) -> None:
    page.driver.execute_async_script(KEYS, WESTERN)
    page.until_predicted("Western")
    asked = page.asked()
    # On a loaded machine the pause between two keystrokes can be long enough for a request.
    assert 1 <= len(asked) <= 3
    assert asked[-1]["overview"] == WESTERN and not any(question["explain"] for question in asked)


@pytest.mark.parametrize(
    ("place", "genre"),
    list(enumerate(["Western", "Science Fiction", "Romance", "Animation", "Crime", "Documentary"])),
)
def test_click_on_an_example_classifies_it(page: Page, place: int, genre: str) -> None:
    example = page.all("#reel button")[place]
    example.click()
    page.until_predicted(genre)
    assert example.get_attribute("aria-pressed") == "true"
    assert page.find("#title").get_property("value") == example.text


def test_genre_shows_the_contribution_of_each_sentence(page: Page, services: Services) -> None:
    page.write(WESTERN, "Dust Creek")
    page.until_predicted("Western")
    page.row("Western").click()
    page.until(lambda: page.all('[data-genre="Western"] .sentences li'))
    assert [question["explain"] for question in page.asked()] == [False, True]

    answer = classify(services, title="Dust Creek", overview=WESTERN, explain=True)
    segments = answer["explanation"]["segments"]
    added = [
        contribution["contribution"]
        for segment in segments
        for contribution in segment["contributions"]
        if contribution["label"] == "Western"
    ]
    sentences = page.all('[data-genre="Western"] .sentences li')
    assert len(sentences) == len(segments) == len(added) == 3
    for sentence, segment, by in zip(sentences, segments, added, strict=True):
        points = sentence.find_element(By.CSS_SELECTOR, ".points").text
        assert re.fullmatch(r"0|[+−]\d+", points)
        assert int(points.replace("−", "-")) == pytest.approx(by * 100, abs=0.51)
        assert segment["text"] in sentence.text

    def opacity(sentence: WebElement) -> float:
        colour = sentence.find_element(By.CSS_SELECTOR, ".shade").value_of_css_property("background-color")
        # `color-mix` computes to "oklab(… / 0.38)", and no colour to "rgba(0, 0, 0, 0)".
        return float(re.split(r"[/,]", colour)[-1].strip(" )"))

    strongest = max(range(3), key=lambda place: abs(added[place]))
    assert opacity(sentences[strongest]) == max(map(opacity, sentences)) > 0.1

    page.row("Western").click()
    assert not page.find('[data-genre="Western"] .why').is_displayed()


def test_open_explanation_follows_the_text(page: Page) -> None:
    page.write(WESTERN)
    page.until_predicted("Western")
    page.row("Western").click()
    page.write(f"{WESTERN} In the night the well runs dry.")
    page.until(lambda: len(page.all('[data-genre="Western"] .sentences li')) == 3)
    assert page.asked()[-1]["explain"] is True


# Holds the next request back until it is released.
HOLD = """
const real = window.fetch;
window.fetch = async (url, options) => {
  if (!window.hold || !String(url).includes(':classify')) return real(url, options);
  window.hold = false;
  await new Promise(resume => { window.release = resume; });
  return real(url, options);
};"""


def test_genre_opened_during_a_request_is_explained(page: Page) -> None:
    page.open(HOLD)
    page.write(WESTERN)
    page.until_predicted("Western")
    page.row("Western").click()
    page.until(lambda: len(page.all('[data-genre="Western"] .sentences li')) == 2)
    page.row("Western").click()

    page.driver.execute_script("window.hold = true")
    page.write(f"{WESTERN} In the night the well runs dry.")
    page.until(lambda: page.driver.execute_script("return window.release !== undefined"))
    page.row("Western").click()
    page.driver.execute_script("window.release()")
    page.until(lambda: len(page.all('[data-genre="Western"] .sentences li')) == 3)


def test_single_sentence_has_no_explanation(page: Page) -> None:
    page.write(REEF)
    page.until_predicted("Documentary")
    page.row("Documentary").click()
    page.until(lambda: "only one sentence" in page.find('[data-genre="Documentary"] .why').text)


def test_page_calls_only_its_own_origin_and_logs_nothing(page: Page, services: Services) -> None:
    page.open()
    page.all("#reel button")[0].click()
    page.until_predicted("Western")
    page.row("Western").click()
    page.until(lambda: page.all(".sentences li"))
    page.find("#more").click()
    page.find(".program summary").click()
    assert services.rest in page.find("#command").text
    addresses = {request["url"] for request in page.requests()}
    assert {f"{services.rest}/{name}" for name in ("", "style.css", "app.js", "v1/model")} <= addresses
    assert [address for address in addresses if not address.startswith(f"{services.rest}/")] == []
    assert page.errors() == []


def test_footer_names_the_model(page: Page, services: Services) -> None:
    with urllib.request.urlopen(f"{services.rest}/v1/model", timeout=30) as answer:
        model = json.load(answer)
    page.until(lambda: page.find("#model").text)
    for key in ("model_version", "encoder_id", "encoder_version"):
        assert model[key] in page.find("#model").text
    assert all(label in page.find("#blank").text for label in model["labels"])


# Delays the first response until after the second. Aborting a request does not always prevent this.
FIRST_ANSWER_LAST = """
const real = window.fetch;
window.asked = 0; window.answered = [];
window.fetch = async (url, options) => {
  if (!String(url).includes(':classify')) return real(url, options);
  const place = ++window.asked;
  const {signal, ...rest} = options;
  const response = await real(url, rest);
  if (place === 1) await new Promise(resume => { window.release = resume; });
  window.answered.push(place);
  return response;
};"""


def test_late_response_does_not_replace_a_newer_one(page: Page) -> None:
    page.open(FIRST_ANSWER_LAST)
    page.write(WESTERN)
    page.until(lambda: page.driver.execute_script("return window.release !== undefined"))
    page.write(REEF)
    page.until_predicted("Documentary")
    page.driver.execute_script("window.release()")
    page.until(lambda: page.driver.execute_script("return window.answered.length === 2"))
    page.driver.execute_async_script("setTimeout(arguments[0], 200)")
    assert page.driver.execute_script("return window.answered") == [2, 1]
    assert "Documentary" in page.predicted() and "Western" not in page.predicted()


def answering(status: int, problem: dict[str, Any], when: str, headers: dict[str, str] | None = None) -> str:
    """Returns JavaScript that responds to classify requests with a problem if `when` (of `count`, `options`) holds."""
    init = {"status": status, "headers": {"content-type": "application/problem+json", **(headers or {})}}
    return f"""
const real = window.fetch; let count = 0;
window.fetch = async (url, options) => String(url).includes(':classify') && (count += 1, {when})
  ? new Response({json.dumps(json.dumps(problem))}, {json.dumps(init)}) : real(url, options);"""


def test_busy_service_is_retried_after_retry_after(page: Page) -> None:
    problem = {"reason": "QUEUE_FULL", "detail": "the queue is full", "status": 503, "errors": []}
    page.open(answering(503, problem, "count === 1", {"retry-after": "1"}))
    page.write(WESTERN)
    page.until(lambda: "busy" in page.find("#problem").text)
    page.until_predicted("Western")
    assert not page.find("#problem").is_displayed()


def test_asks_for_an_api_key_and_does_not_store_it(page: Page) -> None:
    problem = {"reason": "UNAUTHENTICATED", "detail": "an API key is needed", "status": 401, "errors": []}
    page.open(answering(401, problem, "options.headers.authorization !== 'Bearer sesame'"))
    page.write(WESTERN)
    page.until(lambda: page.find("#api-key").is_displayed())
    page.find("#api-key").send_keys("wrong", Keys.ENTER)
    page.until(lambda: "not accepted" in page.find("#problem").text)
    page.find("#api-key").send_keys("sesame", Keys.ENTER)
    page.until_predicted("Western")
    assert not page.find("#api-key").is_displayed()
    stored = "return [{...localStorage}, {...sessionStorage}, document.cookie]"
    assert page.driver.execute_script(stored) == [{}, {}, ""]


def test_unreachable_service_is_reported_and_the_last_result_stays(page: Page) -> None:
    page.write(REEF)
    page.until_predicted("Documentary")
    page.driver.execute_script("window.fetch = () => Promise.reject(new TypeError('Failed to fetch'))")
    page.write(WESTERN)
    page.until(lambda: "cannot be reached" in page.find("#problem").text)
    assert "Documentary" in page.predicted() and "stale" in page.find("#answer").get_attribute("class")


def test_too_long_text_shows_the_services_error(page: Page) -> None:
    page.write("word " * 2000)
    page.until(lambda: page.find("#overview").get_attribute("aria-invalid") == "true")
    told = page.find("#problem").text
    assert "description is too long" in told and "7500" in told
    page.write(WESTERN)
    page.until_predicted("Western")
    assert page.find("#overview").get_attribute("aria-invalid") is None and not page.find("#problem").is_displayed()


def test_truncated_text_is_reported(page: Page) -> None:
    page.write("The rider went on through the dust. " * 200)
    page.until(lambda: "its end was left out" in page.find("#notes").text)


# A real response, with every probability far below its threshold.
UNDECIDED = """
const real = window.fetch;
window.fetch = async (url, options) => {
  const response = await real(url, options);
  if (!String(url).includes(':classify')) return response;
  const answer = await response.json();
  for (const score of answer.scores) score.probability *= score.label === 'Western' ? 0.25 : 0.01;
  return new Response(JSON.stringify({...answer, genres: []}));
};"""


def test_names_the_nearest_genre_if_none_is_predicted(page: Page) -> None:
    page.open(UNDECIDED)
    page.write(WESTERN)
    page.until(lambda: "No genre is above its threshold" in page.find("#notes").text)
    assert page.predicted() == [] and "Western" in page.find("#notes").text
    assert sum(row["visible"] for row in page.rows()) == 5
