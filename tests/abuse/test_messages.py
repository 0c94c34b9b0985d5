"""Messages and headers that lie about their size or format, or that are too large."""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
from collections.abc import Callable

import grpc
import proc
import pytest
from abused import CLASSIFIER, ENCODER, MIB, OVER_PLAIN_AND_TLS, PROMPT_SECONDS, Pair, Service, pair  # noqa: F401
from error_details import details
from http2 import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    FRAME_BYTES,
    HEADERS,
    call_headers,
    fields,
    frame,
    message,
)
from reflection import ReflectionClient
from waiting import wait_for

CLASSIFY = f"/{CLASSIFIER}/Classify"
INVALID_ARGUMENT, UNIMPLEMENTED, INTERNAL = 3, 12, 13
A_STORM = b"\x12\x08A storm."


def headers_in_frames(block: bytes, stream: int) -> bytes:
    """Returns a header block of any length as a HEADERS frame and CONTINUATION frames."""
    parts = [block[begin : begin + FRAME_BYTES] for begin in range(0, len(block), FRAME_BYTES)]
    kinds = [HEADERS] + [CONTINUATION] * (len(parts) - 1)
    flags = [0] * (len(parts) - 1) + [END_HEADERS]
    return b"".join(frame(kind, part, flag, stream) for kind, part, flag in zip(kinds, parts, flags, strict=True))


@OVER_PLAIN_AND_TLS
@pytest.mark.parametrize("listener", ["grpc", "http"])
@pytest.mark.parametrize(
    "extra",
    [[("x-big", "a" * 65_536)], [(f"x-{number}", "a") for number in range(10_000)]],
    ids=["64 KiB in one", "10,000 of them"],
)
def test_rejects_huge_headers(pair: Pair, listener: str, extra: list[tuple[str, str]]) -> None:  # noqa: F811
    service = pair.classifier
    before = service.resident()
    with service.connect(listener) as connection:
        block = fields(call_headers(CLASSIFY, *extra))
        connection.send(headers_in_frames(block, 1), frame(DATA, message(A_STORM), END_STREAM, 1))
        response = connection.response(1)
    rejected = response.headers.get(":status") == "431" or response.reset is not None or response.closed
    assert rejected and response.status != 0, response
    assert service.resident() - before < 8 * MIB


@pytest.mark.parametrize("head", [b"x-big: " + b"a" * (1 << 20), b"x-a: a\r\n" * 10_000], ids=["1 MiB", "10,000"])
def test_rejects_huge_headers_of_http_1(pair: Pair, head: bytes) -> None:  # noqa: F811
    host, port = pair.classifier.http.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=5) as client:
        try:
            client.sendall(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n" + head + b"\r\n\r\n")
            said = client.recv(1024)
        except ConnectionError:
            said = b""
    assert said == b"" or said.startswith(b"HTTP/1.1 431"), said


@pytest.mark.parametrize("sent", [0, 1 << 20])
@pytest.mark.parametrize("method", [f"{CLASSIFIER}/Classify", f"{CLASSIFIER}/ClassifyStream", f"{ENCODER}/Encode"])
def test_rejects_an_announced_gigabyte_before_it_arrives(pair: Pair, method: str, sent: int) -> None:  # noqa: F811
    service = pair.encoder if method.startswith(ENCODER) else pair.classifier
    before = service.resident()
    prefix = message(b"a" * min(sent, FRAME_BYTES - 5), announced=1 << 30)
    with service.connect("grpc") as connection:
        connection.send(frame(HEADERS, fields(call_headers(f"/{method}")), END_HEADERS, 1), frame(DATA, prefix, 0, 1))
        for _ in range(sent // FRAME_BYTES - 1):
            connection.send(frame(DATA, b"a" * FRAME_BYTES, 0, 1))
        response = connection.response(1)
    assert response.status not in (None, 0) or response.reset is not None or response.closed, response
    assert service.resident() - before < 4 * MIB


@pytest.mark.parametrize(
    "method",
    [
        f"{CLASSIFIER}/Classify",
        f"{ENCODER}/Encode",
        f"{CLASSIFIER}/ClassifyStream",
        f"{ENCODER}/EncodeStream",
    ],
)
def test_too_large_message_is_invalid_argument(pair: Pair, method: str) -> None:  # noqa: F811
    service = pair.encoder if method.startswith(ENCODER) else pair.classifier
    with service.connect("grpc") as connection:
        announced = frame(DATA, message(b"", announced=1 << 30), END_STREAM, 1)
        connection.send(frame(HEADERS, fields(call_headers(f"/{method}")), END_HEADERS, 1), announced)
        response = connection.response(1)
    assert response.status == INVALID_ARGUMENT, response


@OVER_PLAIN_AND_TLS
def test_announced_messages_take_no_memory(pair: Pair) -> None:  # noqa: F811
    before = pair.classifier.resident()
    limit = 256 * (8_000 * 4 + 64)
    with pair.classifier.connect("grpc") as connection:
        block = fields(call_headers(CLASSIFY))
        for stream in range(1, 400, 2):
            prefix = message(b"a", announced=limit)
            connection.send(frame(HEADERS, block, END_HEADERS, stream), frame(DATA, prefix, 0, stream))
        pair.assert_others_are_served()
        assert connection.response(1, 0.2).status is None
        assert pair.classifier.resident() - before < 16 * MIB


@OVER_PLAIN_AND_TLS
@pytest.mark.parametrize("listener", ["grpc", "http"])
def test_unfinished_messages_share_a_memory_limit(pair: Pair, listener: str) -> None:  # noqa: F811
    """Forty clients send most of the largest allowed message, then stop. Those that wait longest make room for others."""
    assert_forty_share_a_limit(pair, lambda clients: send_most(clients, pair.classifier, listener), 192 * MIB)


@OVER_PLAIN_AND_TLS
@pytest.mark.parametrize("then", [b"", message(b""), b"\0"], ids=["nothing", "an empty message", "a byte"])
def test_whole_messages_share_a_memory_limit_until_the_request_ends(pair: Pair, then: bytes) -> None:  # noqa: F811
    """Forty clients send a whole batch, perhaps something small behind it, and never end the request.

    Each byte of the budget is held twice at most: in the message as it arrived, and decoded."""
    movie = field(2, b"a" * 32_000)
    batch = message(field(1, movie) * (MOST // len(field(1, movie)))) + then
    assert_forty_share_a_limit(pair, lambda clients: send_whole(clients, pair.classifier, batch), 256 * MIB)


def field(number: int, value: bytes) -> bytes:
    """Returns a length-delimited field of a message."""
    rest, length = len(value), bytearray()
    while rest >= 128:
        length.append(rest % 128 | 128)
        rest //= 128
    return bytes([number * 8 + 2, *length, rest]) + value


def assert_forty_share_a_limit(
    pair: Pair,  # noqa: F811
    send: Callable[[contextlib.ExitStack], Callable[[], bool]],
    most: int,
) -> None:
    """Has 40 clients send, and expects that others are served and that the service holds less than `most` bytes."""
    service = pair.classifier
    before, ended = service.resident(), list[Callable[[], bool]]()
    with contextlib.ExitStack() as clients:
        for _ in range(40):
            ended.append(send(clients))
        pair.encode()
        # A call that sends its whole message at once is served meanwhile.
        pair.classify()
        assert pair.post({"overview": "A storm is coming."})[0] == 200
        # The allocator returns what evicted calls held within seconds.
        wait_for(lambda: service.resident() - before < most, "memory is returned", seconds=15)
        grown = service.resident() - before
        rejected = sum(has_ended() for has_ended in ended)
    print(f"{rejected} of 40 rejected or evicted, {grown / MIB:.0f} MiB held")
    assert rejected >= 20
    assert grown < most


MOST = 8_000_000


def send_most(clients: contextlib.ExitStack, service: Service, listener: str) -> Callable[[], bool]:
    """Sends up to `MOST` bytes of a longer message. Returns a function that says whether the service has ended the call."""
    if listener == "grpc":
        connection = clients.enter_context(service.connect("grpc"))
        connection.open(1, call_headers(CLASSIFY))
        connection.body(1, message(b"", announced=MOST + 1) + b" " * MOST)
        return lambda: not connection.pump(0.05) or 1 in connection.ended
    connection = clients.enter_context(service.connect("http", protocol="http/1.1", hello=False))
    head = "POST /v1/movies:batchClassify HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    connection.socket.settimeout(PROMPT_SECONDS)
    connection.socket.sendall(f"{head}content-length: {MOST + 1}\r\n\r\n".encode())
    with contextlib.suppress(OSError):
        for _ in range(MOST // 100_000):
            connection.socket.sendall(b" " * 100_000)

    def has_answer() -> bool:
        connection.socket.settimeout(0.05)
        try:
            # An answer is a rejection, and an end is an eviction.
            connection.socket.recv(1)
        except TimeoutError:
            return False
        except OSError:
            pass
        return True

    return has_answer


def send_whole(clients: contextlib.ExitStack, service: Service, body: bytes) -> Callable[[], bool]:
    """Sends the body of a `BatchClassify` call without its end. Returns a function that says whether the service has ended the call."""
    connection = clients.enter_context(service.connect("grpc"))
    connection.open(1, call_headers(f"/{CLASSIFIER}/BatchClassify"))
    connection.body(1, body)
    return lambda: not connection.pump(0.05) or 1 in connection.ended


def test_compressed_message_is_unimplemented_and_names_accepted_encodings(pair: Pair) -> None:  # noqa: F811
    with grpc.insecure_channel(pair.classifier.grpc, compression=grpc.Compression.Gzip) as channel:
        call = channel.unary_unary(CLASSIFY)
        with pytest.raises(grpc.RpcError) as failure:
            call(b"\x12\x10" + b"A" * 16 + b"\x12\x50" + b"B" * 80, timeout=PROMPT_SECONDS)
    assert failure.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("encoding", [None, "identity"])
def test_compressed_flag_without_encoding_is_internal(
    pair: Pair,  # noqa: F811
    encoding: str | None,
) -> None:
    more = [] if encoding is None else [("grpc-encoding", encoding)]
    with pair.classifier.connect("grpc") as connection:
        body = message(gzip.compress(bytes(16 * MIB)), compressed=True)[:FRAME_BYTES]
        connection.send(frame(HEADERS, fields(call_headers(CLASSIFY, *more)), END_HEADERS, 1))
        connection.send(frame(DATA, body, END_STREAM, 1))
        response = connection.response(1)
    # Required by gRPC: https://github.com/grpc/grpc/blob/master/doc/compression.md
    assert response.status == INTERNAL, response


def test_invalid_protobuf_is_a_clean_error(pair: Pair) -> None:  # noqa: F811
    with pair.classifier.connect("grpc") as connection:
        for number, payload in enumerate([b"\xff" * 100, b"\x12\xff\xff\xff\xff\x0f", b"\x0b" * 5_000]):
            stream = 2 * number + 1
            connection.send(frame(HEADERS, fields(call_headers(CLASSIFY)), END_HEADERS, stream))
            connection.send(frame(DATA, message(payload), END_STREAM, stream))
            response = connection.response(stream)
            assert response.status == INVALID_ARGUMENT, response


def test_compressed_body_is_not_decompressed(pair: Pair) -> None:  # noqa: F811
    """64 MiB of blanks in 64 KiB are rejected as invalid JSON without decompression."""
    before = pair.classifier.resident()
    for body in (gzip.compress(json.dumps({"overview": "A storm."}).encode()), gzip.compress(b" " * (64 * MIB))):
        status, problem = pair.post(body, content_encoding="gzip")
        assert (status, problem["reason"]) == (400, "INVALID_JSON")
    assert pair.classifier.resident() - before < 8 * MIB


def json_head(path: str) -> bytes:
    """Returns the headers of a POST request over HTTP/1, up to its length."""
    return f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n".encode()


OF_BOTH_SERVICES = pytest.mark.parametrize("path", ["/v1/movies:classify", "/v1/embeddings"])


def serving(pair: Pair, path: str) -> Service:  # noqa: F811
    """Returns the service that has the path."""
    return pair.encoder if path == "/v1/embeddings" else pair.classifier


@OF_BOTH_SERVICES
def test_rejects_an_announced_body_of_100_megabytes_at_once(pair: Pair, path: str) -> None:  # noqa: F811
    with announced_body(serving(pair, path), path) as client:
        said = client.recv(4096)
    assert said.startswith(b"HTTP/1.1 413"), said
    assert b"message_too_large" in said.lower()


@OF_BOTH_SERVICES
def test_announced_bodies_take_no_memory(pair: Pair, path: str) -> None:  # noqa: F811
    service = serving(pair, path)
    before = service.resident()
    clients = [announced_body(service, path) for _ in range(100)]
    pair.assert_others_are_served()
    assert service.resident() - before < 8 * MIB
    for client in clients:
        client.close()


def announced_body(service: Service, path: str) -> socket.socket:
    """Opens a request with the first byte of a large body."""
    host, port = service.http.rsplit(":", 1)
    client = socket.create_connection((host, int(port)), timeout=1)
    client.sendall(json_head(path) + b"content-length: 100000000\r\n\r\n{")
    return client


def test_a_list_of_millions_of_empty_texts_takes_the_memory_of_its_bytes(pair: Pair) -> None:  # noqa: F811
    head, text = b'{"model": "minilm-512", "input": [', b'"",'
    body = head + text * ((25_000_000 - len(head)) // len(text)) + b'""]}'
    pair.encode()
    before = reset_peak(pair.encoder)
    connection = pair.encoder.http_1(60)
    connection.request("POST", "/v1/embeddings", body, {"content-type": "application/json"})
    response = connection.getresponse()
    error = json.load(response)["error"]
    assert (response.status, error["code"]) == (400, "batch_too_large"), error
    most = peak(pair.encoder)
    print(f"{(most - before) / MIB:.0f} MiB for a body of {len(body) / MIB:.0f} MiB")
    assert most - before < 96 * MIB


@pytest.mark.parametrize(
    ("path", "head"),
    [
        ("/predict_genre/", b'{"title": ['),
        ("/v2/models/genres/infer", b'{"inputs": [{"name": "OVERVIEW", "datatype": "BYTES", "shape": [1], "data": ['),
    ],
)
def test_lists_of_millions_of_empty_texts_take_the_memory_of_their_bytes(pair: Pair, path: str, head: bytes) -> None:  # noqa: F811
    body = head + b'"",' * ((24_500_000 - len(head)) // 3)
    pair.classify()
    before = reset_peak(pair.classifier)
    connection = pair.classifier.http_1(60)
    connection.request("POST", path, body, {"content-type": "application/json"})
    response = connection.getresponse()
    problem = json.load(response)
    assert response.status == 400 and "expected at most 65536" in json.dumps(problem), problem
    assert peak(pair.classifier) - before < 96 * MIB


@pytest.mark.parametrize(
    ("method", "head", "element", "wrap"),
    [
        (f"{CLASSIFIER}/BatchClassify", b"", b"\x0a\0", False),
        ("inference.GRPCInferenceService/ModelInfer", b"\x0a\x06genres", b"\x42\0", True),
    ],
)
def test_messages_of_millions_of_empty_elements_take_the_memory_of_their_bytes(
    pair: Pair,  # noqa: F811
    method: str,
    head: bytes,
    element: bytes,
    wrap: bool,
) -> None:
    elements = element * 1_000_000
    request = head + (field(5, field(5, elements)) if wrap else elements)
    pair.classify()
    before = reset_peak(pair.classifier)
    with grpc.insecure_channel(pair.classifier.grpc) as channel, pytest.raises(grpc.RpcError) as failure:
        channel.unary_unary(f"/{method}")(request, timeout=60)
    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert details(failure.value)["ErrorInfo"].reason == "MESSAGE_TOO_LARGE"
    assert peak(pair.classifier) - before < 16 * MIB


def reset_peak(service: Service) -> int:
    """Returns the memory that the service holds now, from which `peak` counts."""
    proc.reset_peak(service.process.pid)
    return service.resident()


def peak(service: Service) -> int:
    return proc.status(service.process.pid, "VmHWM") * 1024


@OF_BOTH_SERVICES
def test_rejects_a_chunked_body_when_it_gets_too_long(pair: Pair, path: str) -> None:  # noqa: F811
    service = serving(pair, path)
    host, port = service.http.rsplit(":", 1)
    before, sent, said = service.resident(), 0, b""
    with socket.create_connection((host, int(port)), timeout=PROMPT_SECONDS) as client:
        client.sendall(json_head(path) + b"transfer-encoding: chunked\r\n\r\n")
        try:
            for _ in range(100):
                client.sendall(b"f4240\r\n" + b" " * 1_000_000 + b"\r\n")
                sent += 1_000_000
            said = client.recv(4096)
        except ConnectionError:
            said = b""
    assert sent < 100_000_000 or b" 413 " in said, said
    assert service.resident() - before < 40 * MIB


@pytest.mark.parametrize("path", ["/v1/movies:classify", "/v1/movies:batchClassify", "/predict_genre/"])
@pytest.mark.parametrize("opening", [b"[", b'{"overview":', b'{"movies":['])
def test_rejects_json_that_is_100_000_levels_deep(pair: Pair, path: str, opening: bytes) -> None:  # noqa: F811
    status, problem = pair.post(opening * 100_000, path)
    assert (status, problem["reason"]) == (400, "INVALID_JSON")


def test_details_name_the_reason_of_a_too_large_message(pair: Pair) -> None:  # noqa: F811
    with grpc.insecure_channel(pair.classifier.grpc) as channel, pytest.raises(grpc.RpcError) as failure:
        ReflectionClient(channel).call(CLASSIFIER, "Classify", overview="a" * (10 * MIB))
    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert details(failure.value)["ErrorInfo"].reason == "MESSAGE_TOO_LARGE"
