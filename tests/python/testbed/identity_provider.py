"""An identity provider on a free port: a discovery document, keys that can be rotated, and
tokens signed on the spot. (`jwt` and `cryptography` come with feast and moto.)"""

from __future__ import annotations

import base64
import json
import ssl
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

DISCOVERY = "/.well-known/openid-configuration"
KEYS = "/keys"


class IdentityProvider:
    """Publishes the keys named in `published`; signs with any.

    With the files of a `certificate` and its key it speaks TLS.
    """

    def __init__(self, certificate: tuple[Path, Path] | None = None) -> None:
        self.published = ["k1"]
        self.certificate = certificate
        self.asked: Counter[str] = Counter()
        self._keys = {name: _new_key() for name in ("k1", "k2", "k3")}
        self._server = _serve(self, 0)
        self.port = self._server.server_port

    @property
    def url(self) -> str:
        """The address of the discovery document."""
        return self._base + DISCOVERY

    @property
    def _base(self) -> str:
        scheme = "https" if self.certificate else "http"
        return f"{scheme}://127.0.0.1:{self.port}"

    def token(
        self, key: str = "k1", *, kid: str | None = None, alg: str = "RS256", **claims: Any
    ) -> str:
        """A token signed with `key`; a claim that is None is left out."""
        given = {"exp": int(time.time()) + 300, "preferred_username": "ann", **claims}
        present = {name: value for name, value in given.items() if value is not None}
        headers = {"kid": kid or key}
        return jwt.encode(present, self._keys[key], algorithm=alg, headers=headers)

    def token_with_secret(self, key: str = "k1", **claims: Any) -> str:
        """A token signed with HS256, the secret being the public key that everybody knows."""
        public = self._keys[key].public_key()
        secret = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        payload = {"exp": int(time.time()) + 300, "preferred_username": "ann", **claims}
        signed = f"{_encoded({'alg': 'HS256', 'kid': key})}.{_encoded(payload)}"
        # jwt.encode refuses such a secret.
        signature = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
        return f"{signed}.{_base64(signature.sign(signed.encode(), secret))}"

    def unsigned_token(self, kid: str | None = "k1", **claims: Any) -> str:
        """A token without a signature."""
        header = {"alg": "none"} | ({"kid": kid} if kid else {})
        payload = {"exp": int(time.time()) + 300, "preferred_username": "ann", **claims}
        return f"{_encoded(header)}.{_encoded(payload)}."

    def stop(self) -> None:
        """Nobody answers any more."""
        self._server.shutdown()
        self._server.server_close()

    def start(self) -> None:
        """Answers again, at the same address."""
        self._server = _serve(self, self.port)

    def document(self, path: str) -> Any:
        """What is published under `path`; None: nothing."""
        self.asked[path] += 1
        base = self._base
        if path == DISCOVERY:
            return {
                "issuer": base,
                "authorization_endpoint": f"{base}/authorize",
                "token_endpoint": f"{base}/token",
                "jwks_uri": f"{base}{KEYS}",
            }
        if path == KEYS:
            return {"keys": [self._published(name) for name in self.published]}
        return None

    def _published(self, name: str) -> dict[str, str]:
        numbers = self._keys[name].public_key().public_numbers()
        size = (numbers.n.bit_length() + 7) // 8
        key = {"n": _base64(numbers.n.to_bytes(size, "big")), "e": "AQAB"}
        return {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": name, **key}


def _new_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _encoded(document: Any) -> str:
    return _base64(json.dumps(document).encode())


class _Http(ThreadingHTTPServer):
    # A thread of a client that stays is no reason to wait.
    daemon_threads = True
    block_on_close = False


def _serve(provider: IdentityProvider, port: int) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            document = provider.document(self.path)
            body = json.dumps(document).encode()
            self.send_response(404 if document is None else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

    server = _Http(("127.0.0.1", port), Handler)
    if provider.certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*provider.certificate)
        # In the thread of a connection, not in the one that takes them.
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    return server
