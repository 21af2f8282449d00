"""Client of the embedding service: batches, requests in flight, retries."""

from __future__ import annotations

import base64
import json
import math
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import httpx
import msgspec
import numpy as np

from embedstream import canary as canaries
from embedstream.errors import ConfigError, EmbeddingUnavailable, EmbedstreamError, Rejected
from embedstream.ingest import Embedded
from embedstream.packing import as_they_come, chunks_of
from embedstream.poison import Failed, Search
from embedstream.retry import Patience, Waits, asked_seconds
from embedstream.space import Origin, Space, Tokenizer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType
    from typing import Self

    from embedstream.canary import Vectors
    from embedstream.settings import Settings

_REFUSALS = frozenset({413, 422})
_AWAY = frozenset({502, 503, 504})
_BUSY_OR_AWAY = frozenset({408, 425, 429}) | _AWAY
_OF_REMOTE = ("remote_", "space_moved", "daily_limit")
_CANARY_SECONDS = 3600.0


class EmbeddingClient:
    """Embeds texts of any number through the service's `POST /generate`.

    Trouble of the service is waited out for as long as it lasts. A text is rejected (stage embed) where the service
    refuses it by index, or where it fails on it again and again while it answers for others.

    `also` is another address at which the service of the space may be; where the one does not answer, or embeds with
    another model, the other is asked next. With a canary, nothing is asked of a service whose vectors of it are others:
    it is looked at first, every hour, and whenever the service failed, since another may answer next.
    """

    def __init__(
        self,
        settings: Settings,
        space: Space,
        patience: Waits,
        transport: httpx.BaseTransport | None = None,
        *,
        also: str | None = None,
        canary: Vectors | None = None,
    ) -> None:
        self._space = space
        self._canary = canary
        self._trusted_until: dict[httpx.Client, float] = {}
        self._patience = patience
        self._batch = settings.embedding_batch_texts
        urls = dict.fromkeys([settings.embedding_service_url, also or settings.embedding_service_url])
        self._services = [
            _http_client(settings.model_copy(update={"embedding_service_url": url}), transport) for url in urls
        ]
        self._http = self._services[0]
        self._threads = ThreadPoolExecutor(settings.embedding_requests_in_flight, "embed")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        for each in self._services:
            each.close()

    def embed(self, texts: Sequence[str]) -> Iterator[Sequence[tuple[int, Embedded | Rejected]]]:
        """See `ingest.Embedder`. Texts of like length share a request, so that padding costs the service little.

        Large texts come in small requests: each is read and tokenised whole, and an answer has a time limit.
        """
        by_length = sorted(range(len(texts)), key=lambda position: -len(texts[position]))
        chunks = list(chunks_of(texts, by_length, self._batch))
        futures = {self._threads.submit(self._embed_chunk, [texts[p] for p in chunk]): chunk for chunk in chunks}
        return as_they_come(futures)

    def embed_query(self, words: str) -> Embedded | Rejected:
        try:
            return self._request([words], input_type="query")[0]
        except _Refused as exc:
            return exc.error
        except Failed as exc:
            raise EmbeddingUnavailable(f"the embedding service fails: {exc}") from exc

    def _embed_chunk(self, texts: Sequence[str]) -> list[Embedded | Rejected]:
        return Search(texts, self._refusing, self._prove_alive).run()

    def _prove_alive(self) -> None:
        """Wait until the service answers for a harmless text."""
        self._patience(self._try_canary)

    def _try_canary(self) -> None:
        try:
            self._request([canaries.TEXTS[0]])
        except Failed as exc:
            raise EmbeddingUnavailable(f"the embedding service fails on every text: {exc}") from exc

    def _refusing(self, texts: Sequence[str]) -> list[Embedded | Rejected]:
        """Embed texts, leaving out one after the other those that the service refuses by index."""
        refused: dict[int, Embedded | Rejected] = {}
        left = list(range(len(texts)))
        while left:
            try:
                embedded = self._post([texts[position] for position in left])
            except _Refused as exc:
                refused[left.pop(exc.index)] = exc.error
            else:
                refused.update(zip(left, embedded, strict=True))
                break
        return [refused[position] for position in range(len(texts))]

    def _post(self, texts: Sequence[str]) -> list[Embedded]:
        """Wait for the vectors of all texts; what timed out is asked for again in halves.

        So a request that is too much for the service makes progress, while one text that is too slow is waited for.
        """
        done: list[Embedded] = []
        size = len(texts)

        def go_on() -> list[Embedded]:
            nonlocal size
            while len(done) < len(texts):
                piece = texts[len(done) : len(done) + size]
                try:
                    done.extend(self._request(piece))
                except _TimedOut:
                    size = max(1, len(piece) // 2)
                    raise
                except _Refused as exc:
                    raise _Refused(len(done) + exc.index, exc.error) from exc
            return done

        return self._patience(go_on)

    def _request(self, texts: Sequence[str], **options: str) -> list[Embedded]:
        for _ in self._services[1:]:
            http = self._http
            with suppress(_Elsewhere):
                return self._ask(http, texts, options)
            if http is self._http:  # once for all requests that were under way
                self._http = self._services[self._services.index(http) - 1]
        return self._ask(self._http, texts, options)

    def _ask(self, http: httpx.Client, texts: Sequence[str], options: Mapping[str, str]) -> list[Embedded]:
        if self._canary is not None and time.monotonic() > self._trusted_until.get(http, -math.inf):
            _check_canary(http, self._space, self._canary)
            self._trusted_until[http] = time.monotonic() + _CANARY_SECONDS
        try:
            return _generate(http, self._space, texts, options)
        except (EmbeddingUnavailable, Failed):
            self._trusted_until.pop(http, None)
            raise


def _generate(http: httpx.Client, space: Space, texts: Sequence[str], options: Mapping[str, str]) -> list[Embedded]:
    try:
        response = http.post("/generate", json={"texts": texts, "encoding_format": "base64", **options})
    except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError) as exc:
        raise Failed(f"the connection broke ({type(exc).__name__})") from exc
    except httpx.ReadTimeout as exc:
        seconds = http.timeout.read
        raise _TimedOut(f"{http.base_url} gave no answer within {seconds} s for {len(texts)} texts") from exc
    except httpx.HTTPError as exc:
        raise _Elsewhere(f"{http.base_url} does not answer ({type(exc).__name__})") from exc
    _raise_for_status(response, len(texts))
    return _parse(response, len(texts), space)


class _Elsewhere(EmbeddingUnavailable):
    """The service of the space is not at this address now."""


class _TimedOut(EmbeddingUnavailable):
    """The service took a request, and did not answer it in time."""


class _Refused(EmbedstreamError):
    """The service refuses one text of a request."""

    def __init__(self, index: int, error: Rejected) -> None:
        super().__init__(str(error))
        self.index = index
        self.error = error


def embed_query(
    settings: Settings, space: Space, words: str, *, also: str | None = None, canary: Vectors | None = None
) -> Embedded | Rejected:
    """Embed what is searched for; raises EmbeddingUnavailable where the service cannot, without waiting for it."""
    with EmbeddingClient(settings, space, Patience(), also=also, canary=canary) as client:
        return client.embed_query(words)


def read_space(settings: Settings, transport: httpx.BaseTransport | None = None) -> Space:
    """What the service embeds with.

    Raises EmbeddingUnavailable where it is away or still loading, ConfigError where it is something else.
    """
    response = _get(settings, "/info", transport)
    try:
        facts = response.json()
        return Space(
            facts["model_name"],
            facts["model_revision"],
            facts["embedding_dimension"],
            facts["normalised"],
            facts["max_tokens"],
        )
    except (ValueError, KeyError, TypeError) as exc:
        raise _no_service(settings) from exc


def read_origin(settings: Settings, transport: httpx.BaseTransport | None = None) -> Origin | None:
    """None where the model is not the Hub's, or the service of an earlier version; raises as `read_space`."""
    try:
        facts = _get(settings, "/info", transport).json()
        return Origin(facts["hub_commit"], facts["hub_revision"]) if facts.get("hub_commit") else None
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise _no_service(settings) from exc


def read_canary(settings: Settings, transport: httpx.BaseTransport | None = None) -> Vectors | None:
    """What the service gives for `canary.TEXTS`, where another server embeds; None where it does itself.

    Raises EmbeddingUnavailable where it is away, loading or waiting.
    """
    response = _get(settings, "/canary", transport)
    return None if response.status_code == httpx.codes.NOT_FOUND else _canary_of(response)


def read_remote(settings: Settings, transport: httpx.BaseTransport | None = None) -> dict[str, Any] | None:
    """What the service says of the server behind it: what it allows, what was used, what is waited for.

    None where there is none; raises EmbeddingUnavailable.
    """
    try:
        found = _get(settings, "/info", transport).json().get("remote")
    except (ValueError, AttributeError) as exc:
        raise _no_service(settings) from exc
    return found if isinstance(found, dict) else None


def _check_canary(http: httpx.Client, space: Space, kept: Vectors) -> None:
    """Raises EmbeddingUnavailable where the service's vectors are not those that were kept."""
    try:
        response = http.get("/canary")
    except httpx.HTTPError as exc:
        raise _Elsewhere(f"{http.base_url} does not answer ({type(exc).__name__})") from exc
    if response.status_code == httpx.codes.NOT_FOUND:
        raise _Elsewhere(f"{http.base_url} embeds itself, but the table holds vectors of {space}")
    _raise_for_status(response, 0)
    now = _canary_of(response)
    facts = response.json()
    _check_model(str(facts.get("model_name")), str(facts.get("model_revision")), space)
    if moved := canaries.moved(kept, now):
        raise EmbeddingUnavailable(moved)


def _canary_of(response: httpx.Response) -> Vectors:
    try:
        rows = np.frombuffer(base64.b64decode(response.json()["embeddings"]), "<f4")
        return rows.reshape(len(canaries.TEXTS), -1)
    except (ValueError, KeyError, TypeError) as exc:
        raise EmbeddingUnavailable(f"{response.url} gives no vectors of the canary") from exc


def read_tokenizer(settings: Settings, space: Space, transport: httpx.BaseTransport | None = None) -> Tokenizer:
    """How the model of the space cuts texts into tokens.

    Raises EmbeddingUnavailable where the service is away, still loading, or embeds with another model, ConfigError
    where it is something else, or has no tokenizer to show.
    """
    response = _get(settings, "/tokenizer", transport)
    if response.status_code == httpx.codes.NOT_FOUND:
        raise ConfigError(
            f"the embedding service at {settings.embedding_service_url} shows no tokenizer, without which no text can "
            "be cut into chunks: start one of this version, with a model of its own"
        )
    try:
        facts = response.json()
        _check_model(facts["model_name"], facts["model_revision"], space)
        return Tokenizer(json.dumps(facts["tokenizer"]), facts["max_tokens"], facts["reserved_tokens"])
    except (ValueError, KeyError, TypeError) as exc:
        raise _no_service(settings) from exc


def _get(settings: Settings, path: str, transport: httpx.BaseTransport | None) -> httpx.Response:
    with _http_client(settings, transport) as http:
        try:
            response = http.get(path)
        except httpx.HTTPError as exc:
            raise EmbeddingUnavailable(
                f"no embedding service answers at {http.base_url} ({type(exc).__name__}): "
                "start it, or set EMBEDDING_SERVICE_URL"
            ) from exc
    if response.status_code in _BUSY_OR_AWAY:
        raise EmbeddingUnavailable(
            f"the embedding service at {http.base_url} is not ready (HTTP {response.status_code})"
            f"{_why(_error_of(response))}"
        )
    if response.status_code == httpx.codes.UNAUTHORIZED:
        raise ConfigError(f"the embedding service at {http.base_url} asks for its key: set EMBEDDING_API_KEY")
    return response


def _no_service(settings: Settings) -> ConfigError:
    return ConfigError(f"{settings.embedding_service_url} is no embedding service: set EMBEDDING_SERVICE_URL")


def _http_client(settings: Settings, transport: httpx.BaseTransport | None) -> httpx.Client:
    key = settings.embedding_api_key
    return httpx.Client(
        base_url=settings.embedding_service_url,
        headers={"Authorization": f"Bearer {key.get_secret_value()}"} if key else None,
        timeout=httpx.Timeout(settings.embedding_service_timeout, connect=5.0),
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=settings.embedding_requests_in_flight),
        transport=transport,
        trust_env=False,
    )


def _raise_for_status(response: httpx.Response, count: int) -> None:
    if response.is_success:
        return
    error = _error_of(response)
    message = f"HTTP {response.status_code} {error.get('code', '')}".strip()
    index = error.get("index")
    if response.status_code in _REFUSALS and isinstance(index, int) and 0 <= index < count:
        reason = f"the embedding service refuses the text: {error.get('message')}"
        raise _Refused(index, Rejected("embed", str(error.get("code", "refused")), reason))
    if response.status_code == httpx.codes.REQUEST_ENTITY_TOO_LARGE or (
        response.is_server_error and response.status_code not in _BUSY_OR_AWAY
    ):
        raise Failed(message)
    kind = _Elsewhere if response.status_code in _AWAY else EmbeddingUnavailable
    raise kind(f"{response.url} answers {message}{_why(error)}", asked_seconds(response.headers))


def _why(error: Mapping[str, Any]) -> str:
    """What only the service knows: why nothing comes of the server behind it."""
    return f": {error.get('message')}" if str(error.get("code")).startswith(_OF_REMOTE) else ""


def _error_of(response: httpx.Response) -> dict[str, Any]:
    try:
        error = response.json()["error"]
    except (ValueError, KeyError, TypeError):
        return {}
    return error if isinstance(error, dict) else {}


class _Answer(msgspec.Struct):
    """What `POST /generate` gives for many texts; the vectors travel in base64, as little-endian float32."""

    model_name: str
    model_revision: str
    embeddings: bytes
    token_counts: list[int | None]
    truncated: list[bool]


_decode_answer = msgspec.json.Decoder(_Answer).decode


def _parse(response: httpx.Response, count: int, space: Space) -> list[Embedded]:
    try:
        answer = _decode_answer(response.content)
        _check_model(answer.model_name, answer.model_revision, space)
        rows = np.frombuffer(answer.embeddings, "<f4").reshape(count, space.dimension)
        results = [Embedded(*facts) for facts in zip(rows, answer.token_counts, answer.truncated, strict=True)]
    except (msgspec.MsgspecError, ValueError, RecursionError) as exc:
        raise Failed("the answer is not what POST /generate gives") from exc
    if not np.isfinite(rows).all():
        raise Failed("the answer has a vector that is not finite")
    return results


def _check_model(name: str, revision: str, space: Space) -> None:
    if (name, revision) != (space.model_name, space.model_revision):
        raise _Elsewhere(
            f"the service embeds with {name} (revision {revision}), but the table holds vectors of {space}: "
            "start the service with that model, or use another PGVECTOR_TABLE"
        )
