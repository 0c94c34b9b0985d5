"""A client may have far more calls open than the encoder can work on: those that wait for a stream of their connection wait
where the encoder cannot reject them."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import grpc
from conftest import Services

SERVICE = "/movieclassifier.encoder.v1.EncoderService"
OPEN = 300


def test_a_call_beside_hundreds_of_open_streams_of_its_connection_does_not_wait(services: Services) -> None:
    end = threading.Event()

    def silent() -> Iterator[bytes]:
        end.wait()
        yield from ()

    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(services.encoder, options=options) as channel:
        stream = channel.stream_stream(f"{SERVICE}/EncodeStream", None, None)
        describe = channel.unary_unary(f"{SERVICE}/GetEncoder", None, None)
        calls = [stream(silent()) for _ in range(OPEN)]
        try:
            assert describe(b"", timeout=10)
        finally:
            end.set()
            for call in calls:
                call.cancel()
