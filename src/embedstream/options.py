"""What all groups of commands have in common on the command line."""

from __future__ import annotations

import json
import math
from typing import Annotated, Any, NoReturn

import typer

OfPipeline = Annotated[
    str | None, typer.Option("--pipeline", metavar="NAME", help="Pipeline of embedstream.yaml, where it has several.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def command_group(purpose: str, **options: Any) -> typer.Typer:
    """Commands whose help and errors are plain text."""
    return typer.Typer(
        help=purpose, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False, **options
    )


def json_or_text(text: str) -> Any:  # noqa: ANN401 - any JSON
    """What the text is as JSON; itself where it is none, as NaN, or where it is a number beyond any float."""
    try:
        value = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return text
    return text if isinstance(value, float) and math.isinf(value) else value


def _refuse(name: str) -> NoReturn:
    raise ValueError(name)
