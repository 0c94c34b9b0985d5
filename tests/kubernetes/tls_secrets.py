"""Certificates as cert-manager writes them to a Secret, made by openssl when a test needs them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

# Where the component `tls` mounts the Secret.
MOUNT = "/etc/movieclassifier-tls"
KEY_KIND = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


class Authority:
    """A self-signed authority that issues certificates."""

    def __init__(self, folder: Path) -> None:
        if shutil.which("openssl") is None:
            pytest.skip("tests of TLS need openssl")
        folder.mkdir()
        self.certificate, self._key = folder / "ca.crt", folder / "ca.key"
        request = ("req", "-x509", *KEY_KIND, "-days", "1", "-subj", "/CN=authority")
        openssl(*request, "-keyout", str(self._key), "-out", str(self.certificate))

    def issue(self, folder: Path, *names: str) -> None:
        """Writes tls.crt, tls.key and ca.crt for these DNS names."""
        folder.mkdir()
        request, extensions = folder / "request", folder / "extensions"
        extensions.write_text("subjectAltName=" + ",".join(f"DNS:{name}" for name in names), encoding="utf-8")
        key = ("-keyout", str(folder / "tls.key"))
        openssl("req", *KEY_KIND, "-subj", f"/CN={names[0]}", *key, "-out", str(request))
        by = ("-CA", str(self.certificate), "-CAkey", str(self._key), "-CAcreateserial", "-days", "1")
        out = ("-extfile", str(extensions), "-out", str(folder / "tls.crt"))
        openssl("x509", "-req", "-in", str(request), *by, *out)
        shutil.copy(self.certificate, folder / "ca.crt")
        request.unlink()
        extensions.unlink()
