"""Accessibility of the web page: themes, widths, keyboard, screen reader, and no JavaScript."""

from __future__ import annotations

import re

import pytest
from browser import REEF, WESTERN, Page, driver, page  # noqa: F401
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

# WCAG 2's contrast of an element's text with the page. light-dark() and color-mix() give the painted colour.
CONTRAST = """
const canvas = new OffscreenCanvas(1, 1).getContext('2d', {willReadFrequently: true});
const luminance = colour => {
  canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
  const linear = v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map(linear);
  return .2126 * r + .7152 * g + .0722 * b;
};
const paper = luminance(getComputedStyle(document.body).backgroundColor);
const text = luminance(getComputedStyle(arguments[0]).color);
return [paper, (Math.max(paper, text) + .05) / (Math.min(paper, text) + .05)];"""

# One element for each text colour.
READ = ("h1", ".intro p", ".field label", ".predicted .name", ".other .name", ".why .small", ".for .points", ".model")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_both_themes_follow_the_system_and_are_readable(page: Page, theme: str) -> None:
    page.emulate(prefers_color_scheme=theme)
    page.write(WESTERN)
    page.until_predicted("Western")
    page.row("Western").click()
    page.until(lambda: page.all(".sentences li"))
    for selector in READ:
        paper, contrast = page.driver.execute_script(CONTRAST, page.find(selector))
        assert (paper > 0.7) is (theme == "light")
        assert contrast >= 4.5, selector


def test_chosen_theme_overrides_the_systems_and_is_remembered(page: Page) -> None:
    page.emulate(prefers_color_scheme="light")
    page.find('.themes input[value="dark"]').send_keys(Keys.SPACE)
    assert page.driver.execute_script(CONTRAST, page.find("h1"))[0] < 0.1
    page.open()
    assert page.driver.execute_script(CONTRAST, page.find("h1"))[0] < 0.1
    assert page.find('.themes input[value="dark"]').is_selected()
    page.find('.themes input[value="auto"]').send_keys(Keys.SPACE)
    assert page.driver.execute_script(CONTRAST, page.find("h1"))[0] > 0.7


def test_keyboard_alone_is_enough_and_focus_is_visible(page: Page) -> None:
    seen = """const style = getComputedStyle(document.activeElement);
    return style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0"""

    def tab_to(selector: str) -> WebElement:
        for _ in range(20):
            ActionChains(page.driver).send_keys(Keys.TAB).perform()
            focused = page.driver.switch_to.active_element
            # The text beside it draws a theme's radio button.
            assert focused.get_attribute("name") == "theme" or page.driver.execute_script(seen), focused.tag_name
            if page.driver.execute_script("return arguments[0].matches(arguments[1])", focused, selector):
                return focused
        raise AssertionError(f"20 tabs do not reach {selector}")

    tab_to(".skip")
    tab_to("#title").send_keys("Dust Creek")
    tab_to("#overview").send_keys(WESTERN)
    page.until_predicted("Western")
    first = tab_to("#genres .row")
    assert first.text.startswith(page.predicted()[0])
    ActionChains(page.driver).send_keys(Keys.ENTER).perform()
    page.until(lambda: page.all(".sentences li"))
    assert page.driver.switch_to.active_element == first and first.get_attribute("aria-expanded") == "true"
    tab_to("#more")
    ActionChains(page.driver).send_keys(Keys.SPACE).perform()
    assert all(row["visible"] for row in page.rows())


# The status texts, with their delay in ms after their genres arrived.
LISTEN = """const spoken = document.getElementById('spoken'); let shown = 0; window.said = [];
new MutationObserver(() => { shown = performance.now(); }).observe(document.getElementById('genres'), {childList: true});
new MutationObserver(() => said.push([spoken.textContent, performance.now() - shown])).observe(spoken, {childList: true})"""


def test_screen_reader_gets_names_values_and_one_delayed_summary(page: Page) -> None:
    page.driver.execute_script(LISTEN)
    page.find("#overview").send_keys(WESTERN)
    page.until_predicted("Western")
    name = page.row("Western").accessible_name
    assert re.fullmatch(r"Western >?\d+% predicted, above its threshold of \d+%\. Why\?", name), name
    assert page.find("#overview").accessible_name == "What happens"
    page.until(lambda: page.driver.execute_script("return window.said.length"))
    ((said, after),) = page.driver.execute_script("return window.said")
    assert said.startswith("Predicted: ") and "Western" in said
    assert after > 1000


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_page_fits_the_screen_width(page: Page, width: int) -> None:
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    page.open()
    page.all("#reel button")[0].click()
    page.until_predicted("Western")
    page.row("Western").click()
    page.until(lambda: page.all(".sentences li"))
    page.find("#more").click()
    page.driver.execute_script("document.getElementById('program').open = true")
    assert page.driver.execute_script("return document.documentElement.scrollWidth") <= width


def test_respects_reduced_motion(page: Page) -> None:
    page.emulate(prefers_reduced_motion="reduce")
    page.write(WESTERN)
    page.until_predicted("Western")
    page.write(REEF)
    page.until_predicted("Documentary")
    assert page.driver.execute_script("return document.getAnimations().length") == 0


def test_without_javascript_the_page_names_an_alternative(page: Page) -> None:
    page.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        page.open()
        assert "curl" in page.find("body").text and "openapi.json" in page.find("noscript a").get_attribute("href")
    finally:
        page.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
        page.open()
