"""Certificates made when a test needs them, by openssl."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Certificate:
    """A self-signed certificate for localhost, which is also its own authority."""

    certificate: Path
    key: Path

    def settings(self) -> str:
        """Returns the table [tls] of a service's settings."""
        return f'[tls]\ncertificate = "{self.certificate}"\nkey = "{self.key}"\n'

    def client(self, *protocols: str) -> ssl.SSLContext:
        """Returns the settings of a client that trusts the certificate and offers `protocols` by ALPN."""
        context = ssl.create_default_context(cafile=self.certificate)
        if protocols:
            context.set_alpn_protocols(list(protocols))
        return context


def self_signed(folder: Path) -> Certificate:
    """Writes a certificate and its key to `folder`. Skips the test if there is no openssl."""
    if shutil.which("openssl") is None:
        pytest.skip("tests of TLS need openssl")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    names = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")
    # rustls accepts no authority as the certificate of a server.
    leaf = ("-addext", "basicConstraints=critical,CA:FALSE")
    request = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1")
    command = ["openssl", *request, *names, *leaf, "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    return Certificate(certificate, key)
