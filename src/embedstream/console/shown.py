"""How facts are written in pages: what is not known is said so, and moments are for a browser to put into its zone."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from flask import g
from markupsafe import Markup

from embedstream.console.parts import parts, pipeline
from embedstream.display import as_json, duration
from embedstream.journey.show import OUTCOMES
from embedstream.migrate.standing import as_line

if TYPE_CHECKING:
    from flask import Flask

UNKNOWN = "not known"
PAGES = (
    ("pages.overview", "Overview"),
    ("pages.search", "Search"),
    ("pages.message", "Message"),
    ("letters.listed", "Dead letters"),
    ("auditing.audit", "Audit"),
    ("pages.doctor", "Doctor"),
    ("indexing.index", "Index"),
    ("atlas.shown", "Map"),
    ("pipelines.listed", "Pipelines"),
    ("pages.settings", "Settings"),
)
"""Their endpoints, in the order of the navigation."""


def install(app: Flask) -> None:
    app.jinja_env.filters.update(
        quoted=shlex.quote,
        number=number,
        lasting=lasting,
        moment=moment,
        plainly=plainly,
        text=shown_text,
        migration=as_line,
    )
    app.jinja_env.globals.update(pages=PAGES, outcomes=OUTCOMES)
    app.context_processor(_facts)


def _facts() -> dict[str, Any]:
    """Of every page; a page about a pipeline that there is not shows the first one around its error."""
    known = parts()
    try:
        chosen = pipeline()
    except Exception:  # noqa: BLE001 - the page says what is wrong
        chosen = known.chosen(None)
    return {
        "pipelines": list(known.pipelines.values()),
        "pipeline": chosen,
        "role": g.get("role", "none"),
        "asks_for_key": bool(known.settings.console_api_key or known.settings.console_read_key),
        "hides_texts": known.settings.console_hide_texts,
    }


def number(value: float | None, digits: int = 0) -> str:
    """An integer stays exact, whatever its size."""
    if value is None:
        return UNKNOWN
    return f"{value:,}" if isinstance(value, int) and not digits else f"{value:,.{digits}f}"


def lasting(seconds: float | None) -> str:
    return UNKNOWN if seconds is None else duration(seconds)


def moment(value: datetime | None) -> Markup | str:
    """As UTC; the script that every page has puts it into the zone of who reads it, and UTC into its title."""
    if value is None:
        return UNKNOWN
    utc = value.astimezone(UTC)
    return Markup('<time datetime="{}">{} UTC</time>').format(
        utc.isoformat(timespec="milliseconds").replace("+00:00", "Z"), utc.strftime("%Y-%m-%d %H:%M:%S")
    )


def plainly(value: object) -> str:
    """JSON as Python writes it: a browser would round integers beyond 2^53."""
    return as_json(value)


def shown_text(text: str | None, characters: int | None = None) -> str:
    """The text, or how long it is where texts are hidden."""
    if text is None:
        return ""
    length = len(text) if characters is None else characters
    return f"(hidden, {length:,} characters)" if parts().settings.console_hide_texts else text
