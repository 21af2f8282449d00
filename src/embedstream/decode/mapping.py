"""The fields of a message by their expressions, each compiled to a function of the scope.

Every function raises Rejected, and names the field and its expression, never a value.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, TypeAlias

from embedstream.decode.blank import is_blank
from embedstream.decode.expressions import Compiled, ExpressionError, compile_expression, kind
from embedstream.decode.fields import checked_id, reject
from embedstream.decode.html import visible_text
from embedstream.decode.moments import read_moment, reader_of_moments
from embedstream.decode.spec import TextSource, TimestampSource

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    Scope: TypeAlias = Mapping[str, Any]

_SEPARATOR = "\n\n"
_WHOLE_FLOATS_BELOW = 2**53
MAX_VERSION = 253_402_300_799_999_999
"""Microseconds from 1970 to the end of the year 9999, as which a version is kept."""


class Compiler:
    """Compiles the expressions of a pipeline, and keeps them; errors carry the path of their field."""

    def __init__(self, *, item: bool, placeholder: str | None) -> None:
        self._item = item
        self._unchanged = Unchanged(placeholder) if placeholder else None
        self.compiled: list[Compiled] = []

    def expression(self, text: str, *path: str | int, item: bool | None = None) -> Compiled:
        field = ".".join(part for part in path if isinstance(part, str) and part != "from")
        try:
            compiled = compile_expression(text, item=self._item if item is None else item, field=field)
        except ExpressionError as exc:
            raise ExpressionError(exc.message, exc.column, path) from None
        self.compiled.append(compiled)
        return compiled

    def list_of(self, given: str | Sequence[str], *path: str | int) -> tuple[Compiled, ...]:
        if isinstance(given, str):
            return (self.expression(given, *path),)
        return tuple(self.expression(text, *path, position) for position, text in enumerate(given))

    def id(self, parts: tuple[Compiled, ...]) -> Callable[[Scope], str]:
        getters = [part.get for part in parts]
        names = [part.text for part in parts]
        first, is_plain = getters[0], len(parts) == 1 and self._unchanged is None

        def get(scope: Scope) -> str:
            if is_plain and type(part := first(scope)) is str:
                return checked_id(part)
            return self.id_of([get(scope) for get in getters], names)

        return get

    def id_of(self, parts: list[Any], names: Sequence[str] | None = None) -> str:
        """Joined by a colon; a part that is missing leaves no id. `names` say where the parts are from."""
        if self._unchanged and self._unchanged.is_in(parts):
            reject("value_unavailable", f"id: {_UNCHANGED}")
        return checked_id(":".join(map(_id_part, parts, names or ["its part"] * len(parts))))

    def text(self, given: str | Sequence[str] | TextSource) -> Callable[[Scope], str | None]:
        """None where the source left the text out, since it did not change."""
        is_html = isinstance(given, TextSource) and given.as_ == "html"
        path: tuple[str, ...] = ("text", "from") if isinstance(given, TextSource) else ("text",)
        parts = self.list_of(given.from_ if isinstance(given, TextSource) else given, *path)
        getters = [self._text_part(part, is_html=is_html) for part in parts]
        names = ", ".join(part.text for part in parts)
        return _joined(getters, names) if len(parts) > 1 else _single(getters[0], names)

    def _text_part(self, part: Compiled, *, is_html: bool) -> Callable[[Scope], str | None]:
        evaluate, unchanged = part.get, self._unchanged

        def get(scope: Scope) -> str | None:
            found = evaluate(scope)
            if unchanged and unchanged.is_in_text(found, part):
                raise _TextUnchanged
            if found is None or isinstance(found, str):
                return visible_text(found) if is_html and found else found
            return reject("mapping_type", f"text: {part.text} gives {kind(found)}, not a string")

        return get

    def timestamp(self, given: str | TimestampSource) -> Callable[[Scope], datetime | None]:
        plain = isinstance(given, str)
        path = ("timestamp",) if plain else ("timestamp", "from")
        source = self.expression(given if isinstance(given, str) else given.from_, *path)
        try:
            read = read_moment if isinstance(given, str) else reader_of_moments(given)
        except ExpressionError as exc:
            raise ExpressionError(exc.message, exc.column, ("timestamp", *exc.path)) from None

        evaluate = source.get

        def get(scope: Scope) -> datetime | None:
            found = self._known(evaluate(scope), "timestamp", source)
            if (
                type(found) is not str
                and found is not None
                and (isinstance(found, bool) or not isinstance(found, str | int | float))
            ):
                reject("mapping_type", f"timestamp: {source.text} gives {kind(found)}, not a string or a number")
            return read(found)

        return get

    def source(self, text: str) -> Callable[[Scope], str | None]:
        source = self.expression(text, "source")

        def get(scope: Scope) -> str | None:
            found = self._known(source.get(scope), "source", source)
            if found is not None and not isinstance(found, str):
                reject("mapping_type", f"source: {source.text} gives {kind(found)}, not a string")
            return found

        return get

    def metadata(self, given: Mapping[str, str] | str) -> Callable[[Scope], dict[str, Any]]:
        """What is null is left out."""
        if isinstance(given, str):
            return self._whole_value
        sources = [(name, self.expression(text, "metadata", name)) for name, text in given.items()]
        getters = [(name, source.get) for name, source in sources]
        unchanged = self._unchanged

        def get(scope: Scope) -> dict[str, Any]:
            found = {name: value for name, get in getters if (value := get(scope)) is not None}
            if unchanged and unchanged.is_in(found):
                for name, source in sources:
                    self._known(found.get(name), f"metadata.{name}", source)
            return found

        return get

    def _whole_value(self, scope: Scope) -> dict[str, Any]:
        value = scope["item"] if "item" in scope else scope["value"]
        if not isinstance(value, dict):
            reject("mapping_type", f"metadata: the whole value is {kind(value)}, not an object")
        if self._unchanged and self._unchanged.is_in(value):
            reject("value_unavailable", f"metadata: {_UNCHANGED}, or name the fields that are wanted")
        return value

    def condition(self, compiled: Compiled, field: str) -> Callable[[Scope], bool]:
        def holds(scope: Scope) -> bool:
            found = compiled.get(scope)
            if found is not None and not isinstance(found, bool):
                reject("mapping_type", f"{field}: {compiled.text} gives {kind(found)}, not true or false")
            return bool(found)

        return holds

    def version(self, text: str) -> Callable[[Scope], int]:
        source = self.expression(text, "version")

        def get(scope: Scope) -> int:
            found = source.get(scope)
            if isinstance(found, float) and found.is_integer() and abs(found) < _WHOLE_FLOATS_BELOW:
                found = int(found)
            if isinstance(found, bool) or not isinstance(found, int):
                what = "a number with a fraction" if isinstance(found, float) else kind(found)
                reject("bad_version", f"version: {source.text} gives {what}, not a whole number")
            if not 0 <= found <= MAX_VERSION:
                reject("bad_version", f"version: {source.text} gives a number outside of 0 to {MAX_VERSION}")
            return found

        return get

    def _known(self, found: Any, field: str, source: Compiled) -> Any:  # noqa: ANN401 - any JSON
        if self._unchanged and self._unchanged.is_in(found):
            reject("value_unavailable", f"{field}: {source.text}: {_UNCHANGED}")
        return found


def is_met(part: Compiled) -> Callable[[Scope], bool]:
    """Whether a part of a condition holds, in the sense of JMESPath: anything that is not null, false or empty."""
    get = part.get
    return lambda scope: (found := get(scope)) is not None and found is not False and found not in ("", [], {})


_UNCHANGED = (
    "the source left it out, since it did not change: have it send whole rows (PostgreSQL: REPLICA IDENTITY FULL)"
)
_JOINED_UNCHANGED = (
    "the source left a part of the text out, since it did not change, and a text of several parts cannot be put "
    "together without it: have it send whole rows (PostgreSQL: REPLICA IDENTITY FULL)"
)


class _TextUnchanged(Exception):
    """A part of the text is that of the version before."""


class Unchanged:
    """Knows what stands for a value that did not change: the placeholder, as text or base64, also in lists."""

    def __init__(self, placeholder: str) -> None:
        # No set, which would have to hash long texts.
        self._marks = (placeholder, base64.b64encode(placeholder.encode("utf-8", "surrogatepass")).decode())

    def is_in(self, found: Any) -> bool:  # noqa: ANN401 - any JSON
        if type(found) is str:
            return found in self._marks
        if isinstance(found, dict | list):
            for node in found.values() if isinstance(found, dict) else found:
                if self.is_in(node):
                    return True
        return False

    def is_in_text(self, found: Any, source: Compiled) -> bool:  # noqa: ANN401 - any JSON
        """What an expression puts together may hold it as a part, of which nothing can be kept."""
        if self.is_in(found):
            return True
        if not source.is_plain and isinstance(found, str) and any(mark in found for mark in self._marks):
            reject("text_unavailable", f"text: {source.text}: {_JOINED_UNCHANGED}")
        return False


def _single(get_part: Callable[[Scope], str | None], name: str) -> Callable[[Scope], str | None]:
    def get(scope: Scope) -> str | None:
        try:
            found = get_part(scope)
        except _TextUnchanged:
            return None
        return reject("text_missing", f"text: {name} gives null") if found is None else found

    return get


def _joined(getters: Sequence[Callable[[Scope], str | None]], names: str) -> Callable[[Scope], str | None]:
    def get(scope: Scope) -> str:
        try:
            found = [text for get in getters if (text := get(scope)) is not None]
        except _TextUnchanged:
            reject("text_unavailable", f"text: {_JOINED_UNCHANGED}")
        if not found:
            reject("text_missing", f"text: {names} all give null")
        return _SEPARATOR.join([text for text in found if "!" <= text < "\x7f" or not is_blank(text)])

    return get


def _id_part(part: Any, name: str) -> str:  # noqa: ANN401 - any JSON
    if isinstance(part, str):
        return part
    if part is None:
        reject("id_missing", f"id: {name} gives null")
    if isinstance(part, bool) or not isinstance(part, int | float):
        reject("mapping_type", f"id: {name} gives {kind(part)}, not a string or a number")
    if isinstance(part, float):
        if not part.is_integer() or abs(part) >= _WHOLE_FLOATS_BELOW:
            reject("bad_id", f"id: {name} gives a number with a fraction, or one too large to be exact")
        part = int(part)
    try:
        return str(part)
    except ValueError:
        reject("bad_id", f"id: {name} gives a number of thousands of digits")
