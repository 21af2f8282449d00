"""Kafka Connect's JSON: a value with its schema, which tells what numbers and base64 in it stand for."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from decimal import Decimal, localcontext
from typing import TYPE_CHECKING, Any

from embedstream.errors import Rejected

if TYPE_CHECKING:
    from collections.abc import Callable

_EPOCH = datetime.fromtimestamp(0, UTC)
_MOST_DIGITS = 10_000


def is_wrapped(node: object) -> bool:
    return isinstance(node, dict) and len(node) == 2 and "schema" in node and "payload" in node  # noqa: PLR2004


def unwrapped(node: Any) -> Any:  # noqa: ANN401 - any JSON
    """The payload, where the node is exactly a schema and a payload; else the node."""
    if not is_wrapped(node):
        return node
    try:
        return _decoded(node["payload"], node["schema"])
    except RecursionError:
        raise Rejected("decode", "envelope", "the schema nests too deep") from None


def _decoded(node: Any, schema: Any) -> Any:  # noqa: ANN401 - any JSON
    if node is None or not isinstance(schema, dict):
        return node
    if convert := _LOGICAL.get(str(schema.get("name"))):
        try:
            return convert(node, schema)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            return node  # such as a placeholder for what did not change
    if isinstance(node, list) and "items" in schema:
        return [_decoded(item, schema["items"]) for item in node]
    return _decoded_object(node, schema) if isinstance(node, dict) else node


def _decoded_object(node: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    fields = schema.get("fields")
    if isinstance(fields, list):
        return _decoded_struct(node, fields)
    if "values" in schema:
        return {name: _decoded(value, schema["values"]) for name, value in node.items()}
    return node


def _decoded_struct(struct: dict[str, Any], fields: list[Any]) -> dict[str, Any]:
    decoded = dict(struct)
    for field in fields:
        name = field.get("field") if isinstance(field, dict) else None
        if isinstance(name, str) and decoded.get(name) is not None:
            decoded[name] = _decoded(decoded[name], field)
    return decoded


def _decimal(node: Any, schema: dict[str, Any]) -> Any:  # noqa: ANN401
    return _scaled(node, int(schema["parameters"]["scale"])) if isinstance(node, str) else node


def _variable_decimal(node: dict[str, Any], _: dict[str, Any]) -> str:
    return _scaled(node["value"], int(node["scale"]))


def _scaled(unscaled: str, scale: int) -> str:
    number = int.from_bytes(base64.b64decode(unscaled, validate=True), signed=True)
    if abs(scale) > _MOST_DIGITS:
        raise ValueError
    with localcontext(prec=_MOST_DIGITS):
        return format(Decimal(number).scaleb(-scale), "f")


def _moment(per_second: int) -> Callable[[int, dict[str, Any]], str]:
    return lambda node, _: (_EPOCH + _span(node, per_second)).isoformat().replace("+00:00", "Z")


def _time(per_second: int) -> Callable[[int, dict[str, Any]], str]:
    return lambda node, _: (_EPOCH + _span(node, per_second)).time().isoformat()


def _span(count: int, per_second: int) -> timedelta:
    if not isinstance(count, int) or isinstance(count, bool):
        raise TypeError
    return timedelta(microseconds=count * 1_000_000 // per_second)


def _date(days: int, _: dict[str, Any]) -> str:
    return (_EPOCH + timedelta(days=days)).date().isoformat()


_LOGICAL: dict[str, Callable[[Any, dict[str, Any]], Any]] = {
    "org.apache.kafka.connect.data.Decimal": _decimal,
    "org.apache.kafka.connect.data.Timestamp": _moment(1_000),
    "org.apache.kafka.connect.data.Date": _date,
    "org.apache.kafka.connect.data.Time": _time(1_000),
    "io.debezium.data.VariableScaleDecimal": _variable_decimal,
    "io.debezium.time.Timestamp": _moment(1_000),
    "io.debezium.time.MicroTimestamp": _moment(1_000_000),
    "io.debezium.time.NanoTimestamp": _moment(1_000_000_000),
    "io.debezium.time.Date": _date,
    "io.debezium.time.Time": _time(1_000),
    "io.debezium.time.MicroTime": _time(1_000_000),
    "io.debezium.time.NanoTime": _time(1_000_000_000),
}
