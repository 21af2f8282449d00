"""From settings to a gateway that is ready."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from embedstream import canary
from embedstream.errors import ConfigError
from embedstream.service.engine.protocol import EngineFacts
from embedstream.service.remote.apis import api_of
from embedstream.service.remote.budget import Budget
from embedstream.service.remote.client import Remote
from embedstream.service.remote.errors import Busy, Failed, Refused, RemoteError
from embedstream.service.remote.gateway import Gateway, Limits
from embedstream.service.remote.packs import Packs
from embedstream.service.remote.texts import Texts
from embedstream.service.remote.usage import Usage
from embedstream.service.remote.waiting import Queue
from embedstream.service.remote.watch import CANARY_TOKENS, Watch

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

    from embedstream.service.engine.protocol import Vectors
    from embedstream.service.metrics import BatchFacts
    from embedstream.service.remote.apis import ServerFacts
    from embedstream.settings import Settings

logger = logging.getLogger(__name__)

_TEXT_TOKENS = {"text-embedding-3-small": 8192, "text-embedding-3-large": 8192, "text-embedding-ada-002": 8192}
_UNIT = 1e-3
_FIRST_RETRY, _LONGEST_RETRY = 1.0, 60.0


class Opened(NamedTuple):
    gateway: Gateway
    watch: Watch

    def shown(self, settings: Settings) -> dict[str, Any]:
        """What `/info` says of it."""
        gateway, trouble = self.gateway, self.gateway.trouble
        budget, usage = gateway.budget, gateway.usage
        return {
            "api": settings.remote_api,
            "standstill": {"code": trouble.code, "message": str(trouble), "retry_after": trouble.retry_after}
            if trouble
            else None,
            "requests_per_minute": budget.requests_per_minute,
            "tokens_per_minute": budget.tokens_per_minute,
            "tokens_per_day": settings.remote_tokens_per_day,
            "tokens_a_text": usage.tokens_a_text,
            "today": usage.today(),
        }


def check(settings: Settings) -> None:
    """Raises ConfigError for what can be known to be wrong without asking the server."""
    api_of(settings)
    if settings.embedding_precision != "auto":
        raise ConfigError(
            f"EMBEDDING_PRECISION is {settings.embedding_precision}, but EMBEDDING_ENGINE is remote, where the server "
            "decides: leave it out"
        )
    if settings.remote_tokenizer and not settings.remote_tokenizer.is_file():
        raise ConfigError(f"REMOTE_TOKENIZER={settings.remote_tokenizer} is no file: set it to a tokenizer.json")


def open_gateway(
    settings: Settings,
    requests: int,
    on_batch: Callable[[BatchFacts], None],
    transport: httpx.BaseTransport | None = None,
) -> Opened:
    """Ask the server who it is, and what it makes of the canary.

    Raises ConfigError, and RemoteError where the server does not answer as it should.
    """
    check(settings)
    remote = Remote(settings, api_of(settings), transport)
    server = remote.ask()
    answer = remote.try_encodings(canary.TEXTS)
    if answer.unusable:
        raise Failed(f"{remote.url} gives vectors that are zero, or not finite")
    facts = _facts(settings, server, answer.vectors)
    texts = Texts(settings.remote_prompt, settings.remote_query_prompt, facts.max_tokens, settings.remote_tokenizer)
    most = min(settings.remote_max_texts, server.texts or settings.remote_max_texts)
    packs = Packs(most, settings.remote_max_tokens)
    budget = Budget(
        settings.remote_requests_per_minute,
        settings.remote_tokens_per_minute,
        settings.remote_concurrency,
        time.monotonic,
    )
    budget.succeeded(answer.headers)
    usage = Usage(settings.remote_price, settings.remote_usage_file)
    usage.count("ok", CANARY_TOKENS if answer.tokens is None else answer.tokens, len(canary.TEXTS), CANARY_TOKENS)
    queue = Queue(packs, facts.embedding_dimension, settings.embedding_queue_texts, requests)
    limits = Limits(settings.remote_concurrency, settings.remote_tokens_per_day)
    gateway = Gateway(remote, facts, texts, queue, budget=budget, usage=usage, limits=limits, on_batch=on_batch)
    return Opened(gateway, Watch(gateway, remote, server.identity, answer.vectors, time.monotonic))


def open_patiently(
    settings: Settings, requests: int, on_batch: Callable[[BatchFacts], None], tell: Callable[[str], None]
) -> Opened:
    """As `open_gateway`, again and again until the server answers; `tell` is told what it says instead."""
    seconds = _FIRST_RETRY
    while True:
        try:
            return open_gateway(settings, requests, on_batch)
        except RemoteError as exc:
            said = f": {exc.said}" if isinstance(exc, Refused) else ""
            tell(f"the remote server is waited for: {exc}{said}")
            logger.warning("waiting for the remote server: %s%s", exc, said, extra={"action": "waiting"})
            wait = exc.wait if isinstance(exc, Busy) and exc.wait else seconds
        time.sleep(wait)
        seconds = min(_LONGEST_RETRY, 2 * seconds)


def _facts(settings: Settings, server: ServerFacts, vectors: Vectors) -> EngineFacts:
    name = settings.remote_model or server.model or "unknown"
    dimension = vectors.shape[1]
    if settings.remote_dimensions not in (None, dimension):
        raise ConfigError(
            f"REMOTE_DIMENSIONS is {settings.remote_dimensions}, but the remote server gives vectors of {dimension}: "
            "leave it out, or set it to one that the model can give"
        )
    max_tokens = settings.remote_text_tokens or server.text_tokens or _TEXT_TOKENS.get(name)
    if max_tokens is None:
        raise ConfigError(
            f"how many tokens of a text {name} reads is not known: set REMOTE_TEXT_TOKENS to what its description says"
        )
    return EngineFacts(
        model_name=name,
        model_revision=_revision(settings, server, name),
        embedding_dimension=dimension,
        normalised=bool((abs(np.linalg.norm(vectors, axis=1) - 1) < _UNIT).all()),
        max_tokens=max_tokens,
        engine="remote",
        precision=None,
        fidelity=None,
    )


def _revision(settings: Settings, server: ServerFacts, name: str) -> str:
    """A hash over all that is known to decide about vectors; what nobody tells, the canary is for."""
    known = [
        settings.remote_api, name, settings.remote_dimensions, settings.remote_prompt, settings.remote_query_prompt,
        server.identity,
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()[:12]
