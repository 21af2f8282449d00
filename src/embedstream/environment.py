"""How a setting is read from the environment: from the variable of its name in capitals, or from the file that the
variable `<NAME>_FILE` points to; and what a word in a variable means.
"""

from __future__ import annotations

import logging
import os
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from pydantic_settings import EnvSettingsSource, PydanticBaseSettingsSource

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

logger = logging.getLogger(__name__)

_SERVICE_LINK = re.compile(r"(tcp|udp|sctp)://\S+:\d+")
_ON, _OFF = ("on", "auto"), ("off",)
_SYNONYMS = {
    "warn": ("warning",), "fatal": ("error",), "critical": ("error",), "trace": ("debug",),
    "on": _ON, "true": _ON, "yes": _ON, "1": _ON, "false": _OFF, "no": _OFF, "0": _OFF,
}  # fmt: skip

OF_NO_VARIABLE = frozenset({"decoding"})
"""The settings that no environment variable says, but the pipeline file."""


class VariableSource(EnvSettingsSource):
    """Reads the value of a field from the variable of its name."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        if field_name in OF_NO_VARIABLE:
            return None, field_name, False
        return super().get_field_value(field, field_name)


class FileSource(PydanticBaseSettingsSource):
    """Reads the value of a field from the file that `<NAME>_FILE` names."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        if field_name in OF_NO_VARIABLE:
            return None, field_name, False
        path = os.environ.get(f"{field_name.upper()}_FILE")
        return (Path(path).read_text(encoding="utf-8").strip() if path else None, field_name, False)

    def __call__(self) -> dict[str, Any]:
        """Reads no file of a field that has its value already: it need not be readable here."""
        fields = {n: field for n, field in self.settings_cls.model_fields.items() if n not in self.current_state}
        values = {name: self.get_field_value(field, name)[0] for name, field in fields.items()}
        return {name: value for name, value in values.items() if value is not None}


def is_service_link(name: str, value: object) -> bool:
    """Whether Kubernetes set the variable, or Docker's links did: both tell every container where a service `pgvector`
    is in PGVECTOR_PORT.
    """
    found = name.endswith(("_port", "_host")) and isinstance(value, str) and bool(_SERVICE_LINK.fullmatch(value))
    if found:
        _warn_of_service_link(name.upper(), str(value))
    return found


@cache
def _warn_of_service_link(name: str, value: str) -> None:
    logger.warning(
        "%s=%s is passed over: it is a service link of Kubernetes or Docker, not a setting of embedstream "
        "(enableServiceLinks: false turns them off)",
        name,
        value,
    )


def choices_of(annotation: Any) -> tuple[str, ...]:  # noqa: ANN401 - any type
    """The words of a Literal, or of those in a union."""
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    return tuple(choice for part in get_args(annotation) for choice in choices_of(part))


def chosen(value: object, choices: tuple[str, ...]) -> object:
    """The choice that a word means, whatever its case; YAML and env files make true of on, and add quotes."""
    if not isinstance(value, str):
        return value
    word = value.strip().strip("\"'").lower()
    meant = {choice.lower(): choice for choice in choices}
    return next((meant[each] for each in (word, *_SYNONYMS.get(word, ())) if each in meant), value)
