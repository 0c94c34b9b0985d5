"""Composed and decomposed forms of a text get the same answer by every way in."""

from __future__ import annotations

import json
import subprocess
import unicodedata
import urllib.request
from pathlib import Path
from typing import Any

import grpc
from conftest import BINARIES, ROOT, Services
from reflection import ReflectionClient

# Words with marks, of several scripts; a Korean syllable is composed of letters, and a nukta never composes.
MOVIES = [
    ("La piñata de El Niño", "The fiancée of a señor is chased by El Niño. Years later, a piñata falls."),
    ("Đường về quê mẹ", "Người nông dân trở về. Ông tìm lại ngôi nhà cũ của mình ở Huế."),
    ("한강", "한국의 도시에서 형사가 사라진 소녀를 찾는다. 그는 괴물을 만난다."),
    ("Ångström", "A physicist measures 5 Å and 3 Ω in a naïve café. Ça alors!"),
    ("क़लम", "एक लेखक क़लम खो देता है। फिर वह लड़ता है।"),
    ("Ἀθῆναι", "Ὁ στρατηγὸς ἐπιστρέφει. Ἡ πόλις καίεται."),
]
FORMS = ("NFC", "NFD")


def movies(form: str) -> list[dict[str, str]]:
    normal = [(unicodedata.normalize(form, title), unicodedata.normalize(form, overview)) for title, overview in MOVIES]
    return [{"title": title, "overview": overview} for title, overview in normal]


def post(url: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)


def classify(*arguments: str) -> str:
    command = [BINARIES / "classifier-svc", "classify", *arguments]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


SERVICE = "movieclassifier.classifier.v1.ClassifierService"


def over_grpc(address: str, form: str) -> list[bytes]:
    """Returns the responses of unary calls, of a batch and of a stream."""
    with grpc.insecure_channel(address) as channel:
        client = ReflectionClient(channel)
        answers = [
            client.call(SERVICE, "Classify", **movie, include_scores=True, explain=True) for movie in movies(form)
        ]
        answers.append(client.call(SERVICE, "BatchClassify", movies=movies(form), include_scores=True))
        items = [{"id": str(number), **movie} for number, movie in enumerate(movies(form))]
        streamed = sorted(client.stream(SERVICE, "ClassifyStream", items), key=lambda answer: int(answer.id))
        return [answer.SerializeToString(deterministic=True) for answer in [*answers, *streamed]]


def over_rest(url: str, form: str) -> list[Any]:
    explained = {"include_scores": True, "explain": True}
    answers = [post(f"{url}/v1/movies:classify", movie | explained) for movie in movies(form)]
    answers.append(post(f"{url}/v1/movies:batchClassify", {"movies": movies(form), "include_scores": True}))
    fields = {field: [movie[field] for movie in movies(form)] for field in ("title", "overview")}
    genres = post(f"{url}/predict_genre/", fields)
    return [*answers, [movie["genre"] for movie in genres]]


def without_title(answer: dict[str, Any]) -> dict[str, Any]:
    """A record repeats the title as it was given."""
    return {key: value for key, value in answer.items() if key != "title"}


def by_command_line(address: str, folder: Path, form: str) -> list[Any]:
    """Returns the records of a file of movies and of one movie, from the service and from an embedded encoder."""
    path = folder / f"{form}.jsonl"
    path.write_text("".join(json.dumps(movie) + "\n" for movie in movies(form)))
    first = movies(form)[0]
    one = ("--title", first["title"], "--overview", first["overview"], "--json", "--explain")
    answers: list[Any] = []
    for way in (("--address", f"http://{address}"), ("--embedded",)):
        lines = classify(*way, "--input", str(path), "--output", "jsonl").splitlines()
        answers += [without_title(json.loads(line)) for line in lines]
        answers.append(without_title(json.loads(classify(*way, *one))))
    return answers


def encoded(address: str, form: str) -> bytes:
    with grpc.insecure_channel(address) as channel:
        texts = [movie["overview"] for movie in movies(form)]
        answer = ReflectionClient(channel).call("movieclassifier.encoder.v1.EncoderService", "Encode", texts=texts)
        return bytes(answer.SerializeToString(deterministic=True))


def test_both_forms_get_the_same_answer_by_every_way_in(services: Services, tmp_path: Path) -> None:
    composed, decomposed = FORMS
    assert movies(composed) != movies(decomposed)
    assert over_grpc(services.classifier, composed) == over_grpc(services.classifier, decomposed)
    assert over_rest(services.rest, composed) == over_rest(services.rest, decomposed)
    address = services.classifier
    assert by_command_line(address, tmp_path, composed) == by_command_line(address, tmp_path, decomposed)
    # The tokenizer of the default bundle decomposes texts itself.
    assert encoded(services.encoder, composed) == encoded(services.encoder, decomposed)
