"""What all groups of commands have in common on the command line."""

from __future__ import annotations

from typing import Annotated, Any

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def command_group(purpose: str, **options: Any) -> typer.Typer:
    """Commands whose help and errors are plain text."""
    return typer.Typer(
        help=purpose, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False, **options
    )
