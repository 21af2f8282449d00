"""What each kind of server is asked, and how its answer is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from embedstream.errors import ConfigError
from embedstream.service.remote.errors import RemoteError, Stopped

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from embedstream.settings import Settings

    Fetch = Callable[..., Any]
    """`fetch(path)`, or `fetch(path, body)` to post, gives the answer's JSON; raises RemoteError."""
    Json = Any

Encoding = Literal["base64", "float"]

_OPENAI_URL = "https://api.openai.com/v1"


class Answered(NamedTuple):
    """A row for each text, as a list of numbers or as base64; `tokens` is what the server counted, if it tells."""

    rows: list[Any]
    tokens: int | None


class ServerFacts(NamedTuple):
    """What a server says of itself: `identity` changes with the model's content, `text_tokens` and `texts` are its
    limits of a text and of a request.
    """

    identity: str | None = None
    model: str | None = None
    text_tokens: int | None = None
    texts: int | None = None


class Api(Protocol):
    """`read` raises ValueError, KeyError or TypeError for what is no answer of this kind."""

    url: str
    path: str
    encodings: tuple[Encoding, ...]
    """In which vectors may come, the best first."""

    def headers(self, key: str | None) -> dict[str, str]: ...

    def body(self, texts: Sequence[str], encoding: Encoding) -> dict[str, Any]: ...

    def read(self, content: Json, headers: Mapping[str, str]) -> Answered: ...

    def ask(self, fetch: Fetch) -> ServerFacts:
        """Raises RemoteError."""


def api_of(settings: Settings) -> Api:
    """Raises ConfigError where something is not set that this kind of server needs."""
    match settings.remote_api:
        case "openai":
            return _OpenAi(settings, settings.remote_url or _OPENAI_URL)
        case "azure":
            return _Azure(settings, _url(settings))
        case "tei":
            return _Tei(settings, _url(settings))
        case "ollama":
            return _Ollama(settings, _url(settings))


def _url(settings: Settings) -> str:
    if settings.remote_url is None:
        raise ConfigError(f"REMOTE_API is {settings.remote_api}, but REMOTE_URL is not set: set it to that server's")
    return settings.remote_url


def _model(settings: Settings) -> str:
    if settings.remote_model is None:
        raise ConfigError("EMBEDDING_ENGINE is remote, but REMOTE_MODEL is not set: set it to the server's model")
    return settings.remote_model


def _bearer(key: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"} if key else {}


class _OpenAi:
    """OpenAI's embeddings, which vLLM, llama.cpp, LM Studio, and this service itself offer, too."""

    path = "/embeddings"
    encodings: tuple[Encoding, ...] = ("base64", "float")

    def __init__(self, settings: Settings, url: str) -> None:
        self.url = url
        self._model = _model(settings)
        self._dimensions = settings.remote_dimensions

    def headers(self, key: str | None) -> dict[str, str]:
        return _bearer(key)

    def body(self, texts: Sequence[str], encoding: Encoding) -> dict[str, Any]:
        # Some servers refuse a null, and have no default of their own.
        asked: dict[str, Any] = {"model": self._model, "input": list(texts), "encoding_format": encoding}
        return asked | ({"dimensions": self._dimensions} if self._dimensions else {})

    def read(self, content: Json, headers: Mapping[str, str]) -> Answered:
        data = content["data"]
        by_index = {entry.get("index", position): entry["embedding"] for position, entry in enumerate(data)}
        if sorted(by_index) != list(range(len(data))):
            raise ValueError("the numbers of the vectors are not 0, 1, 2 and so on")
        tokens = (content.get("usage") or {}).get("total_tokens")
        return Answered([by_index[index] for index in range(len(data))], tokens if isinstance(tokens, int) else None)

    def ask(self, fetch: Fetch) -> ServerFacts:
        """Only vLLM says how much the model reads."""
        try:
            models = fetch("/models")["data"]
            found: dict[str, Any] = next((each for each in models if each["id"] == self._model), {})
        except (RemoteError, KeyError, TypeError):
            return ServerFacts()
        longest = found.get("max_model_len")
        return ServerFacts(text_tokens=longest if isinstance(longest, int) else None)


class _Azure(_OpenAi):
    """The same by deployment, with its key in another header."""

    def __init__(self, settings: Settings, url: str) -> None:
        super().__init__(settings, url)
        self.path = f"/openai/deployments/{self._model}/embeddings?api-version={settings.remote_api_version}"

    def headers(self, key: str | None) -> dict[str, str]:
        return {"api-key": key} if key else {}

    def ask(self, fetch: Fetch) -> ServerFacts:
        return ServerFacts()


class _Tei:
    """Text Embeddings Inference (read at 1.9.3) by its own route: the one like OpenAI's cuts texts unasked."""

    path = "/embed"
    encodings: tuple[Encoding, ...] = ("float",)

    def __init__(self, settings: Settings, url: str) -> None:
        self.url = url
        self._wanted = settings.remote_model
        self._dimensions = settings.remote_dimensions

    def headers(self, key: str | None) -> dict[str, str]:
        return _bearer(key)

    def body(self, texts: Sequence[str], encoding: Encoding) -> dict[str, Any]:
        asked: dict[str, Any] = {"inputs": list(texts), "truncate": False}
        return asked | ({"dimensions": self._dimensions} if self._dimensions else {})

    def read(self, content: Json, headers: Mapping[str, str]) -> Answered:
        if not isinstance(content, list):
            raise TypeError("no list of vectors")
        tokens = headers.get("x-compute-tokens", "")
        return Answered(content, int(tokens) if tokens.isdecimal() else None)

    def ask(self, fetch: Fetch) -> ServerFacts:
        info = fetch("/info")
        if self._wanted and info.get("model_id") != self._wanted:
            raise Stopped(
                "remote_not_found",
                f"the remote server embeds with {info.get('model_id')}, but REMOTE_MODEL is {self._wanted}: set it to "
                "that, or start the server with the other",
            )
        return ServerFacts(
            info.get("model_sha"), info.get("model_id"), info.get("max_input_length"), info.get("max_client_batch_size")
        )


class _Ollama:
    """Ollama (read at August 2026) by its own route: the one like OpenAI's drops `truncate`, and cuts texts unasked."""

    path = "/api/embed"
    encodings: tuple[Encoding, ...] = ("float",)

    def __init__(self, settings: Settings, url: str) -> None:
        self.url = url
        self._model = _model(settings)
        self._dimensions = settings.remote_dimensions

    def headers(self, key: str | None) -> dict[str, str]:
        return _bearer(key)

    def body(self, texts: Sequence[str], encoding: Encoding) -> dict[str, Any]:
        asked: dict[str, Any] = {"model": self._model, "input": list(texts), "truncate": False}
        return asked | ({"dimensions": self._dimensions} if self._dimensions else {})

    def read(self, content: Json, headers: Mapping[str, str]) -> Answered:
        tokens = content.get("prompt_eval_count")
        return Answered(content["embeddings"], tokens if isinstance(tokens, int) else None)

    def ask(self, fetch: Fetch) -> ServerFacts:
        names = (self._model, f"{self._model}:latest")
        digests = {each.get("name"): each.get("digest") for each in fetch("/api/tags")["models"]}
        digest = next((digests[name] for name in names if name in digests), None)
        if digest is None:
            raise Stopped(
                "remote_not_found", f"the remote server has no model {self._model}: ollama pull {self._model} there"
            )
        info = fetch("/api/show", {"model": self._model}).get("model_info") or {}
        longest = next((value for name, value in info.items() if name.endswith(".context_length")), None)
        return ServerFacts(digest, text_tokens=longest if isinstance(longest, int) else None)
