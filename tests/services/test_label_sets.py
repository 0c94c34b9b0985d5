"""Models of three labels and of three hundred, from a table to served answers."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import grpc
from conftest import encoder_of
from label_sets import BUNDLE, LABELS_FILE, MANY, TEXTS, THREE, served, train, write_tickets, write_topics
from reflection import ReflectionClient

SERVICE = "movieclassifier.classifier.v1.ClassifierService"


def classify(url: str, overview: str) -> Any:
    body = json.dumps({"overview": overview, "include_scores": True, "explain": True}).encode()
    request = urllib.request.Request(f"{url}/v1/movies:classify", body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)


def labels_of(address: str) -> list[str]:
    with grpc.insecure_channel(address) as channel:
        return list(ReflectionClient(channel).call(SERVICE, "GetModel").labels)


def test_three_labels_of_a_labels_file_are_served(tmp_path: Path) -> None:
    write_tickets(tmp_path / "tickets.csv")
    (tmp_path / "labels.toml").write_text(LABELS_FILE)
    with encoder_of(BUNDLE) as encoder:
        model = train(tmp_path, tmp_path / "tickets.csv", encoder, str(tmp_path / "labels.toml"))
        with served(model, encoder) as services:
            assert labels_of(services.classifier) == list(THREE)
            for text, label in zip(TEXTS, THREE, strict=True):
                answer = classify(services.rest, text)
                assert [genre["label"] for genre in answer["genres"]] == [label]
                assert [score["label"] for score in answer["scores"]] == list(THREE)
                assert len(answer["explanation"]["segments"]) == 2


def test_three_hundred_labels_of_the_data_are_served(tmp_path: Path) -> None:
    write_topics(tmp_path / "topics.csv")
    with encoder_of(BUNDLE) as encoder:
        model = train(tmp_path, tmp_path / "topics.csv", encoder, "from-data", "--min-count", "8")
        with served(model, encoder) as services:
            assert labels_of(services.classifier) == list(MANY)
            right = 0
            for number in range(0, 300, 10):
                answer = classify(services.rest, f"A note about subject{number} in the archive.")
                assert len(answer["scores"]) == 300
                best = max(answer["scores"], key=lambda score: score["probability"])
                right += best["label"] == MANY[number]
            assert right >= 27, f"{right} of 30 topics are the most probable for their own texts"
