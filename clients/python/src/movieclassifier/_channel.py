"""Addresses, TLS, keys and retries: how a client connects and what it sends with every call."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

CLASSIFIER = "movieclassifier.classifier.v1.ClassifierService"
ENCODER = "movieclassifier.encoder.v1.EncoderService"

# Streams are not in the list: `classify_many` resends their movies itself, because grpcio does not retry a call after
# its first response.
UNARY = [
    *({"service": CLASSIFIER, "method": method} for method in ("GetModel", "Classify", "BatchClassify")),
    *({"service": ENCODER, "method": method} for method in ("GetEncoder", "Encode")),
]

# https://github.com/grpc/grpc/blob/master/doc/service_config.md. Classifying has no side effects, so a retry is safe.
# The services say when to retry by RetryInfo and, for this policy, by `grpc-retry-pushback-ms`, which replaces the
# backoff. The throttle keeps retries from making an overload worse.
SERVICE_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [
        {
            "name": UNARY,
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.2s",
                "maxBackoff": "2s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
            },
        }
    ],
    "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1},
}

# grpcio retries a call only while its request fits into the retry buffer (default 256 KiB), and rejects responses over
# 4 MiB. Batches are larger.
LARGEST_MESSAGE = 64 << 20
OPTIONS = [
    ("grpc.service_config", json.dumps(SERVICE_CONFIG)),
    ("grpc.per_rpc_retry_buffer_size", LARGEST_MESSAGE),
    ("grpc.max_receive_message_length", LARGEST_MESSAGE),
    # Notices a peer that vanished without closing the connection.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
]


@dataclass(frozen=True, slots=True)
class Tls:
    """TLS to a service. All files are PEM.

    Attributes:
        ca: the authorities to trust; None for grpcio's own list of public ones.
        certificate: certificate of this client, for mutual TLS; requires `key`.
        key: private key of that certificate.
        server_name: the name in the server's certificate, if it differs from the host of the address.
    """

    ca: str | Path | None = None
    certificate: str | Path | None = None
    key: str | Path | None = None
    server_name: str | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("mutual TLS needs both a certificate and a key, found one of them")

    def credentials(self) -> grpc.ChannelCredentials:
        """Reads the files. Raises OSError if one cannot be read."""
        ca, key, certificate = (
            None if path is None else Path(path).read_bytes() for path in (self.ca, self.key, self.certificate)
        )
        return grpc.ssl_channel_credentials(ca, key, certificate)


@dataclass(frozen=True, slots=True)
class Connection:
    """An address and how to reach it."""

    target: str
    tls: Tls | None

    @classmethod
    def to(cls, address: str, tls: Tls | bool) -> Connection:
        """Parses an address: `host:port`, any grpcio target, or a URL with http or https."""
        scheme, separator, rest = address.partition("://")
        if separator and scheme in ("http", "https"):
            if scheme == "http" and tls:
                raise ValueError(f"expected an address with https for TLS, found {address!r}")
            address, tls = rest.rstrip("/"), tls or scheme == "https"
        if not address:
            raise ValueError("expected an address such as 127.0.0.1:50052, found an empty one")
        return cls(address, (tls if isinstance(tls, Tls) else Tls()) if tls else None)

    def _options(self) -> list[tuple[str, Any]]:
        name = self.tls.server_name if self.tls else None
        return [*OPTIONS, ("grpc.ssl_target_name_override", name)] if name else list(OPTIONS)

    def channel(self) -> grpc.Channel:
        """Opens a channel. Raises OSError if a file of TLS cannot be read."""
        if self.tls is None:
            return grpc.insecure_channel(self.target, self._options())
        return grpc.secure_channel(self.target, self.tls.credentials(), self._options())

    def aio_channel(self) -> grpc.aio.Channel:
        """Opens a channel for asyncio. Raises OSError if a file of TLS cannot be read."""
        if self.tls is None:
            return grpc.aio.insecure_channel(self.target, self._options())
        return grpc.aio.secure_channel(self.target, self.tls.credentials(), self._options())


def metadata_of(api_key: str | None) -> tuple[tuple[str, str], ...]:
    """Returns what is sent with every call."""
    return (("authorization", f"Bearer {api_key}"),) if api_key else ()
