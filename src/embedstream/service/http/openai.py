"""`POST /v1/embeddings`, as OpenAI's API reference describes it."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple

from embedstream.service.http.wire import (
    Encoding,
    Limits,
    as_base64,
    check_number,
    check_text,
    encoding_of,
    malformed,
    names,
    read_object,
    refuse,
)
from embedstream.service.metrics import is_truncated
from embedstream.web.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embedstream.service.batching import Embedded
    from embedstream.service.embedder import Embedder
    from embedstream.service.engine.protocol import EngineFacts, Source
    from embedstream.service.engine.tokens import Text


_FOREIGN = (
    "the input has token ids, and nothing tells of which tokenizer: send strings (LangChain: "
    "check_embedding_ctx_length=False), or, if they are those of {model_name}, set EMBEDDING_ACCEPT_TOKEN_IDS=true"
)


class Asked(NamedTuple):
    texts: list[Text]
    encoding: Encoding


def read_embeddings(body: bytes, limits: Limits, engine: Source, *, token_ids: bool) -> Asked:
    """Raises Problem for every body that is not as it must be, and without `token_ids` for lists of those. Fields that
    are not known are ignored.
    """
    given = read_object(body)
    _check_model(given.get("model"), engine.facts.model_name)
    _check_dimensions(given.get("dimensions"), engine.facts)
    texts = _as_list(given.get("input"))
    check_number(texts, limits.max_texts)
    if not (token_ids and engine.vocabulary) and any(isinstance(text, list) for text in texts):
        refuse("token_ids_not_accepted", _FOREIGN.format(model_name=engine.facts.model_name))
    for index, text in enumerate(texts):
        if isinstance(text, list):
            _check_ids(text, index, engine.vocabulary, limits.max_text_bytes)
        else:
            check_text(text, index, limits.max_text_bytes)
        if type(text) is not type(texts[0]):
            refuse("input_mixed", "the list of texts has strings and lists of ids: send them in two requests", index)
    return Asked(texts, encoding_of(given.get("encoding_format")))


def answer_of(embedded: Embedded, facts: EngineFacts, encoding: Encoding) -> dict[str, Any]:
    """OpenAI's answer; each of `data` says besides whether its text was truncated."""
    counts = embedded.token_counts
    tokens = None if None in counts else sum(count for count in counts if count is not None)
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": as_base64(vector) if encoding == "base64" else vector,
            "truncated": is_truncated(count, facts.max_tokens),
        }
        for index, (vector, count) in enumerate(zip(embedded.vectors, embedded.token_counts, strict=True))
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": facts.model_name, "usage": usage}


def model_of(embedder: Embedder) -> dict[str, Any]:
    """OpenAI's description of a model; raises Loading."""
    name = embedder.facts.model_name
    return {
        "id": name,
        "object": "model",
        "created": embedder.started,
        "owned_by": name.rpartition("/")[0] or "unknown",
    }


def _check_model(wanted: object, model_name: str) -> None:
    if wanted is None:
        refuse("model_missing", f"the body has no model: the model of this service is {model_name}")
    check_name(wanted, model_name)


def check_name(wanted: object, model_name: str) -> None:
    if not names(wanted, model_name):
        raise Problem(HTTPStatus.NOT_FOUND, "model_not_found", f"the model of this service is {model_name}")


def _check_dimensions(wanted: object, facts: EngineFacts) -> None:
    if wanted is not None and (isinstance(wanted, bool) or wanted != facts.embedding_dimension):
        message = f"the vectors of {facts.model_name} have {facts.embedding_dimension} dimensions, and no others"
        refuse("dimensions_not_supported", message)


def _as_list(given: object) -> list[Any]:
    if given is None:
        malformed("input_missing", "the body has no input")
    if isinstance(given, str):
        return [given]
    if not isinstance(given, list):
        malformed("bad_input", "input is neither a string nor a list")
    return [given] if given and isinstance(given[0], int) else given


def _check_ids(ids: Sequence[object], index: int, vocabulary: int, most: int) -> None:
    if not ids:
        refuse("text_blank", "the list of ids is empty", index)
    if len(ids) > most:
        message = f"the text has {len(ids)} ids, but no more than {most} are accepted"
        raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "text_too_large", message, index)
    if not all(type(id) is int and 0 <= id < vocabulary for id in ids):
        message = f"an id is no integer from 0 to {vocabulary - 1}, so that they are not the model's: send strings"
        refuse("bad_token", message, index)
