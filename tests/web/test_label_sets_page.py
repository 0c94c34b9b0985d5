"""The web page follows the model's labels, however many and in whatever script."""

from __future__ import annotations

from pathlib import Path

from browser import Page, driver  # noqa: F401
from conftest import encoder_of
from label_sets import BUNDLE, LABELS_FILE, MANY, TEXTS, THREE, served, train, write_tickets, write_topics
from selenium import webdriver


def test_three_labels_in_any_script(driver: webdriver.Chrome, tmp_path: Path) -> None:  # noqa: F811
    write_tickets(tmp_path / "tickets.csv")
    # Ids of elements come from no label: these two have not one letter of ASCII.
    labels = LABELS_FILE.replace('"Outage"', '"障害"', 1).replace('"Incident"', '"Outage"')
    labels = labels.replace('name = "Billing"', 'name = "請求"\naliases = ["Billing"]')
    (tmp_path / "labels.toml").write_text(labels)
    names = ["障害", "請求", THREE[2]]
    with encoder_of(BUNDLE) as encoder:
        model = train(tmp_path, tmp_path / "tickets.csv", encoder, str(tmp_path / "labels.toml"))
        with served(model, encoder) as services:
            page = Page(driver, services.rest)
            page.open()
            page.until(lambda: all(name in page.find("#blank").text for name in names))
            assert not page.find(".examples").is_displayed()
            for text, name in zip(TEXTS, names, strict=True):
                page.write(text)
                page.until_predicted(name)
                assert page.predicted() == [name]
            assert {row["label"] for row in page.rows()} == set(names)
            assert not page.find("#more").is_displayed()
            for name in names[:2]:
                page.row(name).click()
                page.until(lambda name=name: page.all(f'[data-genre="{name}"] .sentences li'))
            opened = page.all(".why")
            assert len({panel.get_attribute("id") for panel in opened}) == len(opened)
            page.close()


def test_three_hundred_labels(driver: webdriver.Chrome, tmp_path: Path) -> None:  # noqa: F811
    write_topics(tmp_path / "topics.csv")
    with encoder_of(BUNDLE) as encoder:
        model = train(tmp_path, tmp_path / "topics.csv", encoder, "from-data", "--min-count", "8")
        with served(model, encoder) as services:
            page = Page(driver, services.rest)
            page.open()
            page.until(lambda: "and 240 more" in page.find("#blank").text)
            page.write("A note about subject7 in the archive.")
            page.until(lambda: len(page.rows()) == 300)
            assert page.find("#more").text == "All 300 genres"
            assert sum(row["visible"] for row in page.rows()) < 30
            page.find("#more").click()
            assert all(row["visible"] for row in page.rows())
            assert {row["label"] for row in page.rows()} == set(MANY)
            page.close()
