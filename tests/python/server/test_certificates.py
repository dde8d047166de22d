"""TLS: certificates from files, and again from them when they change."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from feastrs.errors import FeastConfigError
from feastrs.server import Server
from testbed.certificates import write_certificate
from testbed.demo import make_demo
from testbed.http import until
from testbed.repo import Repo


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Repo:
    folder = tmp_path_factory.mktemp("demo")
    return make_demo(folder / "definitions").open(folder / "repo")


def connect(url: str, authority: Path) -> ssl.SSLSocket:
    parts = urlsplit(url)
    context = ssl.create_default_context(cafile=str(authority))
    context.set_alpn_protocols(["h2", "http/1.1"])
    raw = socket.create_connection((parts.hostname, parts.port), timeout=30)
    return context.wrap_socket(raw, server_hostname=parts.hostname)


def name_of(url: str, authority: Path) -> str:
    """The name on the certificate that the server shows."""
    with connect(url, authority) as stream:
        shown = stream.getpeercert(binary_form=True)
    assert shown is not None
    subject = x509.load_der_x509_certificate(shown).subject
    return str(subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


def test_a_certificate_is_taken_again_when_its_files_change(repo: Repo, tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path, "first")
    with Server(
        repo.ours(), port=0, no_access_log=True, tls_cert_path=certificate, tls_key_path=key
    ) as server:
        assert server.url.startswith("https://")
        with connect(server.url, certificate) as stream:
            assert stream.selected_alpn_protocol() == "h2"

        # Half of a pair, and then none at all: the old one stays in use.
        good = certificate.read_bytes(), key.read_bytes()
        trusted = tmp_path / "first.pem"
        trusted.write_bytes(good[0])
        write_certificate(tmp_path, "other")
        certificate.write_bytes(b"nonsense")
        assert name_of(server.url, trusted) == "first"

        write_certificate(tmp_path, "second")

        def is_second() -> bool:
            try:
                return name_of(server.url, certificate) == "second"
            except ssl.SSLCertVerificationError:
                return False

        until(is_second, "the new certificate")


def test_http_1_over_tls(repo: Repo, tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path, "first")
    with Server(
        repo.ours(), port=0, no_access_log=True, tls_cert_path=certificate, tls_key_path=key
    ) as server:
        parts = urlsplit(server.url)
        context = ssl.create_default_context(cafile=str(certificate))
        raw = socket.create_connection((parts.hostname, parts.port), timeout=30)
        with context.wrap_socket(raw, server_hostname=parts.hostname) as stream:
            stream.sendall(b"POST /push/ HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n")
            head = stream.recv(65536)
        assert head.startswith(b"HTTP/1.1 307 ")
        assert b"location: https://h/push\r\n" in head


def test_plain_http_at_a_tls_port_is_no_harm(repo: Repo, tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path, "first")
    with Server(
        repo.ours(), port=0, no_access_log=True, tls_cert_path=certificate, tls_key_path=key
    ) as server:
        parts = urlsplit(server.url)
        with socket.create_connection((parts.hostname, parts.port), timeout=30) as stream:
            stream.sendall(b"GET /health HTTP/1.1\r\n\r\n")
            assert not stream.recv(65536).startswith(b"HTTP/")
        assert name_of(server.url, certificate) == "first"


def test_files_that_can_not_be_used(repo: Repo, tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path, "first")
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("nonsense")
    (tmp_path / "other").mkdir()
    _, other_key = write_certificate(tmp_path / "other", "other")
    for files in [(nonsense, key), (certificate, nonsense), (certificate, other_key)]:
        with pytest.raises(FeastConfigError, match=r"server|nonsense"):
            Server(repo.ours(), port=0, tls_cert_path=files[0], tls_key_path=files[1])
