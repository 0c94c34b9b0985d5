"""The command `movieclassifier`."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import BINARIES, ROOT, Services, free_port

pytest.importorskip("built_package", reason="needs an environment of its own: run `make test-python-client`")
import grpc
from built_package import BUILT
from fake_service import FakeService, serving

TITLE = "Dust Creek"
OVERVIEW = "A gunslinger defends a frontier town against a cattle baron. He falls in love with the schoolteacher."
CSV = f'id,Title,overview\n7,{TITLE},"{OVERVIEW}"\n8,"Blank, here",\n9,,"A documentary about\na ""reef""."\n'


def run(*arguments: str, key: str | None = None, stdin: str = "") -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "MOVIECLASSIFIER_API_KEY"}
    environment |= {"PYTHONPATH": str(BUILT.installed)}
    if key is not None:
        environment["MOVIECLASSIFIER_API_KEY"] = key
    command = [sys.executable, "-m", "movieclassifier", *arguments]
    return subprocess.run(
        command, env=environment, input=stdin, capture_output=True, text=True, timeout=120, check=False
    )


def classify(address: str, *arguments: str, **others: str) -> subprocess.CompletedProcess[str]:
    return run("classify", "--address", address, "--deadline", "60", *arguments, **others)


def test_classifies_a_movie(services: Services) -> None:
    result = classify(services.classifier, "--title", TITLE, "--overview", OVERVIEW)
    assert (result.returncode, result.stderr) == (0, "")
    assert re.search(r"^\* Western +\d+\.\d%  \(threshold \d+\.\d%\)$", result.stdout, re.MULTILINE)
    assert len(classify(services.classifier, "--overview", OVERVIEW, "--all").stdout.splitlines()) == 20


def test_shows_the_most_probable_genres(services: Services, tmp_path: Path) -> None:
    result = classify(services.classifier, "--overview", OVERVIEW, "--top-k", "5")
    assert re.findall(r"(?m)^\* ", result.stdout) == ["* "] * 5
    movies = tmp_path / "movies.jsonl"
    movies.write_text(json.dumps({"overview": OVERVIEW}))
    arguments = ("--input", str(movies), "--top-k", "2", "--min-probability", "0")
    assert len(json.loads(classify(services.classifier, *arguments).stdout)["genres"]) == 2


def test_explains_every_sentence(services: Services) -> None:
    result = classify(services.classifier, "--overview", OVERVIEW, "--explain")
    for sentence in re.findall(r"[^.]+\.", OVERVIEW):
        assert re.search(rf"^{re.escape(sentence.strip())}\n    .*Western [+-]\d", result.stdout, re.MULTILINE)


def test_json_equals_that_of_the_service_s_own_command(services: Services) -> None:
    arguments = ("--title", TITLE, "--overview", OVERVIEW, "--json")
    ours = json.loads(classify(services.classifier, *arguments).stdout)
    program = [str(BINARIES / "classifier-svc"), "classify", "--address", f"http://{services.classifier}", *arguments]
    theirs = json.loads(subprocess.run(program, capture_output=True, text=True, check=True, cwd=ROOT).stdout)
    assert ours == {name: theirs[name] for name in ours}


@pytest.mark.parametrize("output", ["jsonl", "csv"])
def test_records_of_a_file_equal_those_of_the_service_s_own_command(
    services: Services, tmp_path: Path, output: str
) -> None:
    movies = tmp_path / "movies.csv"
    movies.write_text("\ufeff" + CSV, encoding="utf-8")
    arguments = ("--input", str(movies), "--output", output)
    ours = classify(services.classifier, *arguments)
    program = [str(BINARIES / "classifier-svc"), "classify", "--address", f"http://{services.classifier}", *arguments]
    theirs = subprocess.run(program, capture_output=True, text=True, check=False, cwd=ROOT)
    assert ours.returncode == theirs.returncode == 1

    def good(text: str) -> list[object]:
        """The records without the failed one, whose error each of them words in its own way."""
        lines = [line for line in text.splitlines() if "Blank, here" not in line]
        return [json.loads(line) for line in lines] if output == "jsonl" else list(lines)

    assert len(good(ours.stdout)) >= 2 and good(ours.stdout) == good(theirs.stdout)
    assert ours.stderr.startswith("row 2: EMPTY_TEXT: overview: ")


def test_reads_json_lines_from_standard_input(services: Services) -> None:
    lines = [{"id": number, "title": f"Movie {number}", "overview": OVERVIEW} for number in range(300)]
    result = classify(services.classifier, "--input", "-", stdin="\n".join(map(json.dumps, lines)))
    assert (result.returncode, result.stderr) == (0, "")
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert [record["id"] for record in records] == [str(number) for number in range(300)]
    assert [record["title"] for record in records] == [line["title"] for line in lines]
    assert {record["genres"][0]["label"] for record in records} == {"Western"}


def test_describes_the_model(services: Services) -> None:
    model = json.loads(run("model", "--address", services.classifier).stdout)
    assert len(model["labels"]) == 20 and model["version"]


@pytest.mark.parametrize(
    ("form", "text", "message"),
    [
        ("jsonl", '{"overview": "A."}\n[]\n', "row 2: expected a JSON object, found '[]'"),
        ("jsonl", '{"overview": 3}\n', "row 1: expected a string in 'overview', found 3"),
        ("jsonl", "{", "row 1: expected a JSON object, found '{': "),
        ("csv", "title,plot\na,b\n", "expected a header with the column 'overview', found ['title', 'plot']"),
        ("csv", "title,overview\na,b,c\n", "row 1: expected 2 fields, found 3"),
        ("csv", 'title,overview\na,"b\n', "line 2: unexpected end of data"),
        ("csv", "", "expected a header with the column 'overview', found []"),
    ],
)
def test_a_malformed_file_is_an_error_that_names_the_row(form: str, text: str, message: str) -> None:
    with serving(FakeService()) as address:
        result = classify(address, "--input", "-", "--input-format", form, stdin=text)
    assert result.returncode == 1 and f"error: {message}" in result.stderr and "Traceback" not in result.stderr


def test_columns_may_have_other_names_and_any_length() -> None:
    text = f"KEY\tPlot\nk1\t{'x' * 200_000}\n"
    columns = ("--id-column", "key", "--overview-column", "plot", "--input-format", "tsv")
    with serving(FakeService()) as address:
        result = classify(address, "--input", "-", *columns, stdin=text)
    assert result.returncode == 0 and json.loads(result.stdout)["id"] == "k1"


def test_a_reader_that_closes_the_pipe_ends_the_command_quietly(tmp_path: Path) -> None:
    movies = tmp_path / "movies.jsonl"
    movies.write_text('{"overview": "A."}\n' * 20_000)
    with serving(FakeService()) as address:
        command = f"'{sys.executable}' -m movieclassifier classify --address {address} --input '{movies}' | head -1"
        result = subprocess.run(
            ["bash", "-c", command],
            env={"PYTHONPATH": str(BUILT.installed), "PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert len(result.stdout.splitlines()) == 1 and result.stderr == ""


def test_the_key_is_sent_and_never_shown() -> None:
    fake = FakeService()

    def reject(number: int, context: grpc.ServicerContext) -> None:
        context.abort(grpc.StatusCode.UNAUTHENTICATED, "who are you")

    fake.unary = reject
    with serving(fake) as address:
        result = classify(address, "--overview", OVERVIEW, key="sesame")
    assert result.returncode == 1 and result.stderr == "error: UNAUTHENTICATED: who are you\n"
    assert fake.calls[0]["metadata"]["authorization"] == "Bearer sesame"


@pytest.mark.parametrize(
    "arguments",
    [
        ("--address", f"127.0.0.1:{free_port()}", "--deadline", "2"),
        ("--ca", "no-such-file"),
        ("--certificate", "a.pem"),
    ],
)
def test_failures_are_one_line(arguments: tuple[str, ...]) -> None:
    result = run("classify", "--overview", OVERVIEW, *arguments)
    assert result.returncode == 1 and result.stdout == ""
    assert len(result.stderr.splitlines()) == 1 and result.stderr.startswith("error: ")


def test_wrong_arguments_exit_with_2() -> None:
    for arguments in ((), ("--explain", "--input", "-"), ("--overview", "a", "--input", "-")):
        assert run("classify", *arguments).returncode == 2
