"""Keys that clients send; compared in a time that does not tell how much of one is right."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Request


def same(given: str, key: str) -> bool:
    return hmac.compare_digest(given.encode(), key.encode())


def is_bearer_of(request: Request, key: str) -> bool:
    """Whether the request has this key, which is not empty, as Authorization: Bearer."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return bool(key) and scheme.lower() == "bearer" and same(token.strip(), key)
