"""Certificates, keys and signed tokens that tests make for themselves, by openssl."""

from __future__ import annotations

import base64
import json
import subprocess
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

KEY_PASSWORD = 'k"e\\y ${1}'


def openssl(directory: Path, *arguments: str, stdin: bytes = b"") -> bytes:
    return subprocess.run(["openssl", *arguments], cwd=directory, input=stdin, capture_output=True, check=True).stdout


def make_certificates(directory: Path) -> None:
    """An authority (ca.pem), a broker of another host's name (broker.pem), and a client (client.crt with client.key,
    client-encrypted.key and client-old.key: PKCS#8, the same with KEY_PASSWORD, PKCS#1).
    """
    request = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    openssl(directory, *request, "-subj", "/CN=ca", "-keyout", "ca.key", "-out", "ca.pem")
    for name in ("broker", "client"):
        files = ["-keyout", f"{name}.key", "-out", f"{name}.crt"]
        signer = ["-CA", "ca.pem", "-CAkey", "ca.key"]
        subject = ["-subj", f"/CN={name}.example", "-addext", f"subjectAltName=DNS:{name}.example"]
        openssl(directory, *request, *signer, *subject, "-addext", "basicConstraints=CA:FALSE", *files)
    (directory / "broker.pem").write_text(
        "".join((directory / f"broker.{kind}").read_text() for kind in ("key", "crt"))
    )
    openssl(directory, "rsa", "-traditional", "-in", "client.key", "-out", "client-old.key")
    encrypting = ["pkcs8", "-topk8", "-in", "client.key", "-passout", "stdin", "-out", "client-encrypted.key"]
    openssl(directory, *encrypting, stdin=KEY_PASSWORD.encode())


class TokenSigner:
    """Signs tokens by RS256; `jwks` is the file by which others check them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        openssl(directory, "genrsa", "-out", "token.key", "2048")
        modulus = openssl(directory, "rsa", "-in", "token.key", "-noout", "-modulus").decode().strip().split("=")[1]
        key = {
            "kty": "RSA",
            "kid": "k",
            "use": "sig",
            "alg": "RS256",
            "e": "AQAB",
            "n": _base64(bytes.fromhex(modulus)),
        }
        self.jwks = directory / "jwks.json"
        self.jwks.write_text(json.dumps({"keys": [key]}))

    def token(self, subject: str) -> str:
        now = int(time.time())
        parts = {"alg": "RS256", "kid": "k", "typ": "JWT"}, {"sub": subject, "iat": now, "exp": now + 300}
        content = ".".join(_base64(json.dumps(part).encode()) for part in parts)
        signature = openssl(self._directory, "dgst", "-sha256", "-sign", "token.key", stdin=content.encode())
        return f"{content}.{_base64(signature)}"


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
