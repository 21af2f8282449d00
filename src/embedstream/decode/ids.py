"""The id of a row: by a pipeline's expressions, else by the envelope, else as in the default shape."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

from embedstream.decode import default
from embedstream.decode.expressions import kind
from embedstream.decode.fields import checked_id, id_of_coordinates, id_of_delete, id_of_key, reject
from embedstream.decode.plan import EVENT_ROOTS, KEY_ROOTS, key_field
from embedstream.errors import Rejected

if TYPE_CHECKING:
    from embedstream.decode.message import Record
    from embedstream.decode.opened import Opened
    from embedstream.decode.plan import Plan

    Scope: TypeAlias = dict[str, Any]


class Ids:
    def __init__(self, plan: Plan) -> None:
        decoding = plan.decoding
        self._plan = plan
        self._parts = plan.id_parts
        self._get = plan.compiler.id(plan.id_parts) if plan.id_parts else None
        self._in_each = decoding.each is not None
        self._has_envelope = decoding.envelope != "none"
        self._key_is_text = decoding.formats.key == "text"
        self._is_json = decoding.formats.value == "json"
        self._changes_with_row = any("value" in part.roots for part in plan.id_parts)

    def of(self, record: Record, scope: Scope, opened: Opened, index: int, body: Any) -> str:  # noqa: ANN401 - any JSON
        if self._get:
            return self._get(scope)
        if self._has_envelope:
            if opened.id is None:
                reject("id_missing", "neither the change nor the record's key says what the id is: name `id`")
            return self._plan.compiler.id_of(opened.id)
        return self._of_default_shape(record, scope, index, body)

    def _of_default_shape(self, record: Record, scope: Scope, index: int, body: Any) -> str:  # noqa: ANN401
        given = body.get("id") if isinstance(body, dict) else None
        if given is not None:
            as_written = self._is_json and not self._in_each
            return default.id_of(body, record) if as_written else self._plan.compiler.id_of([given])
        coordinates = id_of_coordinates(record.topic, record.partition, record.offset)
        if self._in_each:
            return checked_id(f"{coordinates}-{index}")
        return self._of_key(record, scope) if record.key else checked_id(coordinates)

    def _of_key(self, record: Record, scope: Scope) -> str:
        if self._key_is_text:
            return id_of_key(record.key or b"")
        key = scope["key"]
        if isinstance(key, dict | list):
            reject("bad_id", f"the key, which is the id, is {kind(key)}: name `id`, as key.id")
        return self._plan.compiler.id_of([key])

    def by_key(self, record: Record, scope: Scope) -> str:
        """The id of a record without value."""
        if self._get:
            return self._get(self._told(scope))
        if self._has_envelope:
            parts = self._plan.envelope.key_id(scope["key"], scope["headers"])
            if parts is None:
                reject("delete_without_key", "the value is null, which deletes the id in the key, but the key has none")
            return self._plan.compiler.id_of(parts)
        if self._in_each:
            _reject_delete("each item has an id of its own")
        if self._key_is_text or not record.key:
            return id_of_delete(record)
        return self._of_key(record, scope)

    def _told(self, scope: Scope) -> Scope:
        """Where the row is not there, its key still tells the fields that the key holds."""
        known = EVENT_ROOTS if scope["event"] is not None else KEY_ROOTS
        of_row = [part for part in self._parts if not part.roots <= known]
        key = scope["key"]
        for part in of_row:
            name = key_field(part, self._plan.decoding)
            if name is None or not isinstance(key, dict) or name not in key:
                _reject_delete(f"the id needs {part.text}")
        return scope | {"value": key} if of_row else scope

    def before(self, scope: Scope, opened: Opened) -> str | None:
        """The id that the row had before the change, where that is known."""
        try:
            if self._get:
                moves = self._changes_with_row and not self._in_each
                return self._get(scope | {"value": opened.before}) if moves else None
            return self._plan.compiler.id_of(opened.before_id) if opened.before_id else None
        except Rejected:
            return None


def _reject_delete(why: str) -> NoReturn:
    reject("delete_without_key", f"the value is null, which deletes an id, but {why}: make the id of the key alone")
