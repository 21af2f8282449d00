"""One request to a remote server: sent, judged, and its vectors checked."""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx
import numpy as np

from embedstream.retry import asked_seconds
from embedstream.service.remote.errors import Busy, Failed, Refused, RemoteError, Stopped

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from embedstream.service.engine.protocol import Vectors
    from embedstream.service.remote.apis import Api, Encoding, ServerFacts
    from embedstream.settings import Settings

_REFUSALS = frozenset({400, 413, 422})
_FAILURES = frozenset({408, 409, 424, 425})
_QUOTA = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})
# What OpenAI, vLLM, TEI, Ollama, llama.cpp and others say of a text that is too long for the model.
_TOO_LONG = re.compile(
    r"maximum context length|context length|context size|context_length_exceeded|must have less than \d+ tokens"
    r"|physical batch size|too long|maximum input length|max_tokens_per_request|too many tokens",
    re.IGNORECASE,
)
_QUOTED = 200
_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")


class Answer(NamedTuple):
    """Vectors of shape (texts, dimension), the tokens that the server counted, and the headers of its answer.

    `unusable` are the rows that are zero or not finite.
    """

    vectors: Vectors
    tokens: int | None
    headers: Mapping[str, str]
    unusable: list[int]


class Remote:
    """A remote server; threads may share it. `encoding` is the one that the server was found to take."""

    def __init__(self, settings: Settings, api: Api, transport: httpx.BaseTransport | None = None) -> None:
        self._api = api
        key = settings.remote_key.get_secret_value() if settings.remote_key else None
        self.url = api.url
        self.encoding: Encoding = api.encodings[0]
        self._http = httpx.Client(
            headers=api.headers(key),
            timeout=httpx.Timeout(settings.remote_timeout, connect=min(5.0, settings.remote_timeout)),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=settings.remote_concurrency),
            transport=transport,
        )

    def close(self) -> None:
        self._http.close()

    def ask(self) -> ServerFacts:
        """Raises RemoteError."""
        try:
            return self._api.ask(self._fetch)
        except (KeyError, TypeError, AttributeError) as exc:
            raise Failed(f"{self.url} answers, but not as REMOTE_API says that it does") from exc

    def try_encodings(self, texts: Sequence[str]) -> Answer:
        """Embed with the first encoding that the server takes, and keep to it; raises RemoteError."""
        *others, last = self._api.encodings
        for self.encoding in others:
            try:
                return self.embed(texts)
            except Refused:
                continue
        self.encoding = last
        return self.embed(texts)

    def embed(self, texts: Sequence[str]) -> Answer:
        """Raises RemoteError."""
        response = self._send("POST", self._api.path, self._api.body(texts, self.encoding))
        content = _json_of(response)
        try:
            rows, tokens = self._api.read(content, response.headers)
            vectors = _matrix(rows)
        except (ValueError, KeyError, TypeError, AttributeError, binascii.Error) as exc:
            raise Failed(f"{self.url} answers HTTP 200, but with no vectors{_error_in(content)}") from exc
        if len(vectors) != len(texts):
            raise Failed(f"{self.url} gives {len(vectors)} vectors for {len(texts)} texts")
        lengths = np.linalg.norm(vectors, axis=1)
        unusable = np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0))).tolist()
        return Answer(vectors, tokens, response.headers, unusable)

    def _fetch(self, path: str, body: object = None) -> Any:  # noqa: ANN401 - any JSON
        return _json_of(self._send("GET" if body is None else "POST", path, body))

    def _send(self, method: str, path: str, body: object) -> httpx.Response:
        try:
            response = self._http.request(method, f"{self.url}{path}", json=body)
        except httpx.TimeoutException as exc:
            raise Failed(f"{self.url} gives no answer within {self._http.timeout.read:g} s") from exc
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            raise Failed(f"{self.url} does not answer ({type(exc).__name__})") from exc
        if response.status_code != httpx.codes.OK:
            raise judge(self.url, response)
        return response


def judge(url: str, response: httpx.Response) -> RemoteError:
    """What an answer other than 200 means."""
    status, code, said = response.status_code, *_said(response)
    answers = f"{url} answers HTTP {status}{f' {code}' if code else ''}"
    is_too_long = bool(_TOO_LONG.search(f"{code} {said}"))
    if code not in _QUOTA:
        if status == httpx.codes.TOO_MANY_REQUESTS or (
            status == httpx.codes.SERVICE_UNAVAILABLE and _is_dated(response)
        ):
            return Busy(answers, wait_of(response.headers), response.headers)
        if status in _REFUSALS:
            return Refused(answers, said[:_QUOTED], is_too_long=is_too_long)
        if response.is_server_error or status in _FAILURES:
            return Failed(answers, is_too_long=is_too_long)
    return _stopped(status, code, answers)


def _stopped(status: int, code: str, answers: str) -> Stopped:
    if code in _QUOTA or status == httpx.codes.PAYMENT_REQUIRED:
        return Stopped("remote_quota", f"{answers}: the account's quota is used up: raise it, or pay for more")
    if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        return Stopped("remote_unauthorized", f"{answers}: the key is missing, or may not do this: set REMOTE_KEY")
    if status == httpx.codes.NOT_FOUND or httpx.codes.is_redirect(status):
        return Stopped("remote_not_found", f"{answers}: it has no such path or model: set REMOTE_URL and REMOTE_MODEL")
    return Stopped("remote_refuses", answers)


def wait_of(headers: Mapping[str, str]) -> float | None:
    """The seconds that an answer asks to wait for: to the millisecond, as HTTP has it, or until a limit is reset."""
    milliseconds = headers.get("retry-after-ms", "")
    if re.fullmatch(r"\d+(\.\d+)?", milliseconds):
        return float(milliseconds) / 1000
    asked = asked_seconds(headers)
    if asked is not None:
        return asked
    resets = [seconds for kind in ("requests", "tokens") if (seconds := _reset(headers, kind)) is not None]
    return max(resets, default=None)


def seconds_of(duration: str) -> float | None:
    """Of Go's notation as in 6m0s and 510ms, or of a plain number of seconds."""
    if re.fullmatch(r"\d+(\.\d+)?", duration):
        return float(duration)
    found = _DURATION.fullmatch(duration)
    if not duration or not found:
        return None
    hours, minutes, seconds, milliseconds = (float(part or 0) for part in found.groups())
    return 3600 * hours + 60 * minutes + seconds + milliseconds / 1000


def _reset(headers: Mapping[str, str], kind: str) -> float | None:
    """Until when a limit is reset; None where it is not the one that was met."""
    remaining = headers.get(f"x-ratelimit-remaining-{kind}", "0")
    return seconds_of(headers.get(f"x-ratelimit-reset-{kind}", "")) if remaining in ("0", "0.0") else None


def _is_dated(response: httpx.Response) -> bool:
    return "retry-after" in response.headers or "retry-after-ms" in response.headers


def _json_of(response: httpx.Response) -> Any:  # noqa: ANN401 - any JSON
    try:
        return response.json()
    except (ValueError, RecursionError) as exc:
        kind = response.headers.get("content-type", "").partition(";")[0] or "no content type"
        raise Failed(f"{response.url.copy_with(query=None)} answers HTTP 200, but no JSON ({kind[:40]})") from exc


def _said(response: httpx.Response) -> tuple[str, str]:
    """An error's code and sentence, in the form of OpenAI, TEI or Ollama, or of FastAPI."""
    try:
        content = response.json()
    except (ValueError, RecursionError):
        return "", ""
    if not isinstance(content, dict):
        return "", ""
    error = content.get("error", content)
    if isinstance(error, str):
        return _word(content.get("error_type")), error
    if not isinstance(error, dict):
        return "", ""
    return _word(error.get("code")) or _word(error.get("type")), str(error.get("message") or error.get("detail") or "")


def _word(value: object) -> str:
    return value if isinstance(value, str) and re.fullmatch(r"[A-Za-z_]{1,60}", value) else ""


def _error_in(content: object) -> str:
    if not isinstance(content, dict) or "error" not in content:
        return ""
    error = content["error"]
    word = _word(error.get("code")) or _word(error.get("type")) if isinstance(error, dict) else ""
    return f", but an error{f' ({word})' if word else ''}"


def _matrix(rows: Sequence[Any]) -> Vectors:
    """Raises ValueError or TypeError for what are no vectors of one length."""
    vectors = [
        np.frombuffer(base64.b64decode(row, validate=True), "<f4") if isinstance(row, str) else row for row in rows
    ]
    # What JSON has null for, as NaN comes from some servers, becomes NaN.
    matrix = np.array([np.asarray(vector, np.float32) for vector in vectors], np.float32)
    if matrix.ndim != 2 or not matrix.size:  # noqa: PLR2004 - texts and dimensions
        raise ValueError("no vectors of one length")
    return matrix
