"""What a registry knows of a record's form, and what reads records by it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias


class Reference(NamedTuple):
    """A schema that another one imports under this name."""

    name: str
    text: str


class Schema(NamedTuple):
    """A schema with all that it refers to, directly or not: what is referred to stands before what refers to it.

    `type` is the registry's word: AVRO, PROTOBUF or JSON.
    """

    type: str
    text: str
    references: tuple[Reference, ...] = ()


Decoder: TypeAlias = Callable[[bytes, int], object]
"""Plain values of the bytes from a position on; raises Unreadable, or whatever its library raises."""


class Unreadable(ValueError):
    """Bytes that are not what their schema says; the message completes "the value ..."."""


class Unusable(ValueError):
    """A schema that cannot be used; the message completes "the schema ..."."""
