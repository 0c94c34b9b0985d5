"""The images and the Compose file on a real engine. Run by `make test-docker`."""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from conftest import free_port
from engine import DOCKERFILE, ROOT, Engine
from engine import engine as start_engine
from load import CLASSIFIER, Load
from reflection import ReflectionClient

if "DOCKER_TESTS" not in os.environ:
    pytest.skip("run `make test-docker`", allow_module_level=True)

TARGETS = ("encoder", "encoder-nobundle", "classifier", "allinone", "trainer", "models")
PREFIX, TAG, PROJECT = "movieclassifier-test", "test", "movieclassifier-test"
BASES = "movieclassifier-base"
HARDENED = ("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")
MOVIE = {"title": "Reef", "overview": "A documentary about the death of a coral reef."}
MOVIES = """id,title,overview,genres
1,Reef,A documentary about the death of a coral reef.,Documentary
2,Dust,A sheriff rides into a town that has no law.,Western
3,Vines,Two sisters inherit a vineyard that is haunted.,Horror|Drama
"""


def image(target: str) -> str:
    return f"{PREFIX}/{target}:{TAG}"


def classify(rest: str, timeout: float = 10) -> list[str]:
    """Returns the genres of a movie, over REST."""
    request = urllib.request.Request(
        f"{rest}/v1/movies:classify", json.dumps(MOVIE).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=timeout) as response:
        return [genre["label"] for genre in json.load(response)["genres"]]


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"condition not met within {seconds} s"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with start_engine() as engine:
        yield engine


@pytest.fixture(scope="module")
def bases(engine: Engine) -> dict[str, str]:
    """Build arguments with the base images, from the environment or built here."""
    if "DEBIAN_IMAGE" not in os.environ or "RUST_IMAGE" not in os.environ:
        engine.base_images(BASES)
    return {
        "DEBIAN_IMAGE": os.environ.get("DEBIAN_IMAGE", f"{BASES}/debian:bookworm-slim"),
        "RUST_IMAGE": os.environ.get("RUST_IMAGE", f"{BASES}/rust:1-bookworm"),
    }


@pytest.fixture(scope="module")
def images(engine: Engine, bases: dict[str, str]) -> Iterator[None]:
    """Builds all images of the Dockerfile."""
    flags = [part for name, value in bases.items() for part in ("--build-arg", f"{name}={value}")]
    for target in TARGETS:
        engine.build(image(target), *flags, "--file", DOCKERFILE, "--target", target, ROOT)
    yield
    if engine.host is None:
        engine.docker("rmi", "--force", *map(image, TARGETS))
    else:
        # A private engine keeps the layers of the last builds for the next ones.
        engine.docker("image", "prune", "--force")
        engine.docker("builder", "prune", "--force", "--keep-storage", "8GB")


class Stack:
    """The containers of `docker-compose up`."""

    def __init__(self, engine: Engine, movies: Path, prometheus: str) -> None:
        self.engine, self.movies = engine, movies
        self.grpc, self.rest = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        self._variables = {
            "IMAGE_PREFIX": PREFIX,
            "TAG": TAG,
            "PROMETHEUS_IMAGE": prometheus,
            "GRPC_PORT": self.grpc.split(":")[1],
            "REST_PORT": self.rest.split(":")[1],
            "MOVIES": str(movies),
        }

    def compose(self, *arguments: str) -> str:
        return self.engine.compose(PROJECT, *arguments, **self._variables)

    def containers(self, service: str) -> list[dict[str, Any]]:
        """Returns the inspected containers of a service in the order of their numbers."""
        label = f"label=com.docker.compose.project={PROJECT}"
        ids = self.engine.docker("ps", "-aq", "-f", label, "-f", f"label=com.docker.compose.service={service}").split()
        found = json.loads(self.engine.docker("inspect", *ids)) if ids else []
        return sorted(found, key=lambda container: str(container["Name"]))

    def healthy(self, service: str) -> int:
        states = [container["State"] for container in self.containers(service)]
        return sum(state["Running"] and state.get("Health", {}).get("Status") == "healthy" for state in states)


@pytest.fixture(scope="module")
def stack(
    engine: Engine, bases: dict[str, str], images: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    prometheus = os.environ.get("PROMETHEUS_IMAGE", f"{BASES}/prometheus:bookworm")
    if "PROMETHEUS_IMAGE" not in os.environ:
        file = Path(__file__).with_name("prometheus.Dockerfile")
        argument = f"DEBIAN_IMAGE={bases['DEBIAN_IMAGE']}"
        engine.build(prometheus, "--build-arg", argument, "--file", file, file.parent)
    movies = tmp_path_factory.mktemp("movies")
    movies.chmod(0o777)
    stack = Stack(engine, movies, prometheus)
    try:
        stack.compose("up", "-d", "--no-build")
        yield stack
    finally:
        stack.compose("down", "--volumes", "--remove-orphans")


def test_images_are_small_and_run_without_privileges(engine: Engine, images: None) -> None:
    for target in TARGETS:
        (found,) = json.loads(engine.docker("image", "inspect", image(target)))
        print(f"\nimage {target}: {found['Size'] / 1e6:.1f} MB", end="")
        assert found["Size"] < 150e6
        assert found["Config"]["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
        if target != "models":
            assert found["Config"]["User"] == "65532:65532"
    with pytest.raises(AssertionError, match="executable file not found|no such file"):
        engine.docker("run", "--rm", "--entrypoint", "sh", image("encoder"))


def test_allinone_image_serves_and_exits_with_0(engine: Engine, images: None) -> None:
    port = free_port()
    begin = time.monotonic()
    container = engine.docker("run", "-d", *HARDENED, "-p", f"127.0.0.1:{port}:8081", image("allinone"))
    try:
        while True:
            try:
                genres = classify(f"http://127.0.0.1:{port}", timeout=5)
                break
            except (urllib.error.URLError, ConnectionError):
                assert time.monotonic() < begin + 60, engine.docker("logs", container)
                time.sleep(0.01)
        print(f"\ndocker run to first response: {time.monotonic() - begin:.2f} s")
        assert genres == ["Documentary"]
        wait_for(lambda: engine.docker("inspect", "-f", "{{.State.Health.Status}}", container) == "healthy")
        engine.docker("stop", container)
        assert engine.docker("inspect", "-f", "{{.State.ExitCode}}", container) == "0"
    finally:
        engine.docker("rm", "-f", container)


def test_classifier_can_discover_encoders_by_kubernetes(engine: Engine, images: None) -> None:
    setting = ("-e", "CLASSIFIER_SVC_ENCODER__DISCOVERY=kubernetes", "-e", "CLASSIFIER_SVC_ENCODER__URL=http://encoder:50051")
    with pytest.raises(AssertionError, match="in a pod with the token of a service account"):
        engine.docker("run", "--rm", *HARDENED, *setting, image("classifier"))


def test_bundle_can_be_mounted(engine: Engine, images: None, tmp_path: Path) -> None:
    models = engine.docker("create", image("models"), "none")
    engine.docker("cp", f"{models}:/bundles", tmp_path)
    engine.docker("rm", models)
    volume = f"{tmp_path}/bundles:/opt/movieclassifier/.runtime/bundles:ro"
    container = engine.docker("run", "-d", *HARDENED, "-v", volume, image("encoder-nobundle"))
    try:
        engine.docker("exec", container, "/usr/local/bin/encoder-svc", "healthcheck", "--wait", "30")
    finally:
        engine.docker("rm", "-f", container)


def test_compose_waits_for_health(stack: Stack) -> None:
    # `up` starts the classifier after both encoders are healthy, and Prometheus after the classifier.
    assert stack.healthy("encoder") == 2
    assert stack.healthy("classifier") == 1
    assert all(container["State"]["Running"] for container in stack.containers("prometheus"))


def test_published_ports_classify_a_movie(stack: Stack) -> None:
    assert classify(f"http://{stack.rest}") == ["Documentary"]
    with grpc.insecure_channel(stack.grpc) as channel:
        response = ReflectionClient(channel).call(CLASSIFIER, "Classify", **MOVIE)
    assert [genre.label for genre in response.genres] == ["Documentary"]


def test_only_the_classifier_is_published(stack: Stack) -> None:
    published = {
        (service, port)
        for service in ("encoder", "classifier", "prometheus")
        for container in stack.containers(service)
        for port, host in container["NetworkSettings"]["Ports"].items()
        if host
    }
    assert published == {("classifier", "50052/tcp"), ("classifier", "8081/tcp")}
    network = json.loads(stack.engine.docker("network", "inspect", f"{PROJECT}_private"))[0]
    assert network["Internal"] is True


def test_containers_are_hardened(stack: Stack) -> None:
    for service in ("encoder", "classifier", "prometheus"):
        for container in stack.containers(service):
            host = container["HostConfig"]
            assert host["ReadonlyRootfs"] is True
            assert host["CapDrop"] == ["ALL"]
            assert any(option.startswith("no-new-privileges") for option in host["SecurityOpt"])
            assert host["Memory"] > 0
            assert host["PidsLimit"] > 0


def test_prometheus_finds_every_replica(stack: Stack) -> None:
    (container,) = stack.containers("prometheus")
    (address,) = (network["IPAddress"] for network in container["NetworkSettings"]["Networks"].values())

    def up() -> list[str]:
        url = f"http://{address}:9090/api/v1/query?query=up%3D%3D1"
        with urllib.request.urlopen(url, timeout=10) as response:
            return sorted(sample["metric"]["job"] for sample in json.load(response)["data"]["result"])

    wait_for(lambda: up() == ["classifier-svc", "encoder-svc", "encoder-svc"])


def test_two_trainers_encode_shards_and_a_third_merges_them(stack: Stack) -> None:
    (stack.movies / "movies.csv").write_text(MOVIES, encoding="utf-8")
    encode = ("encode", "--input", "/movies/movies.csv", "--genres-format", "pipe", "--output", "/movies/vectors")
    for index in range(2):
        # The variables that Kubernetes sets for a pod of an Indexed Job.
        part = ("-e", f"JOB_COMPLETION_INDEX={index}", "-e", "JOB_COMPLETIONS=2")
        stack.compose("run", "--rm", *part, "trainer", *encode, "--encoder", "http://encoder:50051")
    stack.compose("run", "--rm", "trainer", "merge", "--shards", "/movies/vectors", "--output", "/movies/vectors.parquet")
    assert (stack.movies / "vectors.parquet").read_bytes().startswith(b"PAR1")


def test_no_call_fails_when_an_encoder_is_killed(stack: Stack) -> None:
    with Load(stack.grpc) as load:
        time.sleep(2)
        killed = stack.containers("encoder")[0]["Id"]
        stack.engine.docker("kill", killed)
        time.sleep(3)
        assert stack.healthy("encoder") == 1
        stack.engine.docker("start", killed)
        wait_for(lambda: stack.healthy("encoder") == 2)
        time.sleep(3)
    print(f"\nan encoder killed and restarted: {len(load.seconds)} calls, {len(load.failures)} failed")
    assert load.failures == []
    assert len(load.seconds) > 100, f"{len(load.seconds)} calls are too few for a load test"


def test_down_leaves_nothing(stack: Stack) -> None:
    stack.compose("down", "--volumes", "--remove-orphans")
    label = f"label=com.docker.compose.project={PROJECT}"
    for kind in ("container", "network", "volume"):
        arguments = ("-a",) if kind == "container" else ()
        assert stack.engine.docker(kind, "ls", "-q", *arguments, "-f", label) == ""
