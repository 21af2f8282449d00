"""Reads the bodies of requests, raising Problem for every body that is not as it must be, and writes vectors."""

from __future__ import annotations

import base64
import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, NoReturn

import orjson

from embedstream.service.engine.tokens import Query
from embedstream.web.problem import Problem

if TYPE_CHECKING:
    from embedstream.service.engine.protocol import Vectors

Encoding = Literal["float", "base64"]

ECHOED = ("id", "source", "metadata")

_KINDS: dict[str, tuple[type, ...]] = {"id": (str, int, float), "source": (str,), "metadata": (dict,)}


class Limits(NamedTuple):
    max_texts: int
    max_text_bytes: int
    max_request_bytes: int
    queue_texts: int
    requests: int


class One(NamedTuple):
    """A text with what is sent back beside its vector."""

    text: str
    echo: dict[str, Any]


class Many(NamedTuple):
    texts: list[str]
    encoding: Encoding


def read_generate(body: bytes, limits: Limits, model_name: str) -> One | Many:
    """The body of `POST /generate` in either form."""
    given = read_object(body)
    _check_model(given.get("model"), model_name)
    if "text" in given and "texts" in given:
        raise Problem(HTTPStatus.BAD_REQUEST, "text_and_texts", "the body has both text and texts: send one of them")
    if "texts" in given:
        kind = _input_type(given.get("input_type"))
        texts = [kind(text) for text in _texts(given["texts"], limits)]
        return Many(texts, encoding_of(given.get("encoding_format")))
    if "text" in given:
        check_text(given["text"], 0, limits.max_text_bytes)
        return One(_input_type(given.get("input_type"))(given["text"]), _echo(given))
    raise Problem(HTTPStatus.BAD_REQUEST, "text_missing", "the body has neither text nor texts")


def _input_type(given: object) -> type[str]:
    if given not in (None, "passage", "query"):
        malformed("bad_input_type", "input_type is neither passage nor query")
    return Query if given == "query" else str


def read_object(body: bytes) -> dict[str, Any]:
    encoding = json.detect_encoding(body)
    if not encoding.startswith("utf-8"):
        malformed("not_utf8", f"the body is not UTF-8, but looks like {encoding.upper()}: send UTF-8")
    # Unlike orjson, this lets lone surrogates pass, which are then refused by their text's index; a mark of the byte
    # order says UTF-8, and nothing else.
    try:
        given = json.loads(body.decode("utf-8-sig"), parse_constant=_refuse_constant)
    except UnicodeDecodeError:
        malformed("not_utf8", "the body is not UTF-8")
    except (ValueError, RecursionError):
        malformed("not_json", "the body is not JSON")
    if not isinstance(given, dict):
        malformed("not_an_object", "the body is JSON, but not an object")
    return given


def malformed(code: str, message: str) -> NoReturn:
    raise Problem(HTTPStatus.BAD_REQUEST, code, message)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _check_model(wanted: object, model_name: str) -> None:
    if wanted is not None and not names(wanted, model_name):
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "other_model", f"the model of this service is {model_name}")


def names(wanted: object, model_name: str) -> bool:
    """Whether it is the model's name, with or without the part before the slash."""
    return wanted in (model_name, model_name.rpartition("/")[2])


def _texts(given: object, limits: Limits) -> list[str]:
    if not isinstance(given, list):
        malformed("texts_not_a_list", "texts is not a list")
    check_number(given, limits.max_texts)
    for index, text in enumerate(given):
        check_text(text, index, limits.max_text_bytes)
    return given


def check_number(texts: list[Any], max_texts: int) -> None:
    if not texts:
        malformed("no_texts", "the list of texts is empty")
    if len(texts) > max_texts:
        message = f"the request has {len(texts)} texts, but no more than {max_texts} are accepted"
        raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_many_texts", message)


def check_text(text: object, index: int, max_bytes: int) -> None:
    if not isinstance(text, str):
        refuse("text_not_a_string", "the text is not a string", index)
    if not text or text.isspace():
        refuse("text_blank", "the text has nothing but white space", index)
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        refuse("text_not_unicode", "the text has half of a surrogate pair", index)
    if size > max_bytes:
        message = f"the text has {size} bytes, but no more than {max_bytes} are accepted"
        raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "text_too_large", message, index)


def refuse(code: str, message: str, index: int | None = None) -> NoReturn:
    raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, code, message, index)


def encoding_of(given: object) -> Encoding:
    if given is None or given == "float":
        return "float"
    if given == "base64":
        return "base64"
    malformed("bad_encoding_format", "encoding_format is neither float nor base64")


def _echo(given: dict[str, Any]) -> dict[str, Any]:
    echo = {name: given.get(name) for name in ECHOED}
    for name, value in echo.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, _KINDS[name])):
            refuse("bad_field", f"{name} is not {'an object' if name == 'metadata' else 'a string'}")
    try:
        orjson.dumps(echo)
    except TypeError:
        refuse("bad_field", "id, source or metadata has a number, a character or a depth that JSON cannot carry back")
    return echo


def as_base64(vectors: Vectors) -> str:
    """One block of little-endian float32, row by row; of one vector or many."""
    return base64.b64encode(vectors.astype("<f4", copy=False).tobytes()).decode()
