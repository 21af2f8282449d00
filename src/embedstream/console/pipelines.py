"""The page of the pipelines: what each is, whether it is well, and what the latest records of its topic would be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import yaml
from flask import Blueprint, render_template, request

from embedstream.console.parts import parts, pipeline
from embedstream.dead_letters.show import readable
from embedstream.decode.opening import decoder_of
from embedstream.errors import ConfigError
from embedstream.pipelines import show
from embedstream.pipelines.choice import all_settings, file_of
from embedstream.pipelines.problem import BadFile
from embedstream.pipelines.trying import latest, splitter_now, tried

if TYPE_CHECKING:
    from pathlib import Path

    from embedstream.console.parts import Pipeline
    from embedstream.console.tasks import Task
    from embedstream.decode.message import Record
    from embedstream.display import Watch
    from embedstream.settings import Settings

routes = Blueprint("pipelines", __name__)

TRIED = 5
_MOST_TRIED = 20
_SHOWN = 2000
_LISTED = 5


class File(NamedTuple):
    """The pipeline file now: what is wrong with it, and whether it says something else than when the console began."""

    path: Path
    problems: list[str]
    has_changed: bool


class Tried(NamedTuple):
    """A record as it stands in the topic, and what it would become."""

    key: str
    value: str
    size: int | None
    headers: dict[str, str]
    becomes: dict[str, Any]


@routes.get("/pipelines")
def listed() -> str:
    known = [(each, _facts(each), _written(each)) for each in parts().pipelines.values()]
    works = {each.name: parts().tasks.last(_key(each)) for each in parts().pipelines.values()}
    return render_template("pipelines.html", known=known, works=works, file=_file(), count=TRIED, most=_MOST_TRIED)


@routes.get("/parts/try")
def try_part() -> str:
    return _part(parts().tasks.last(_key(pipeline())))


@routes.post("/parts/try")
def try_latest() -> str:
    """Readers may: nothing is written anywhere."""
    chosen, count = pipeline(), _count()

    def work(watch: Watch) -> list[Tried]:
        with watch("reading the latest records", None):
            return look(chosen.settings, count)

    return _part(parts().tasks.start(_key(chosen), work))


def look(settings: Settings, count: int) -> list[Tried]:
    """The latest records, newest first, each beside what it would become."""
    decode, splitter = decoder_of(settings, None), splitter_now(settings)
    return [_tried(record, tried(record, decode, splitter)) for record in reversed(latest(settings, count))]


def _part(task: Task | None) -> str:
    return render_template("parts/try.html", task=task, chosen=pipeline())


def _key(chosen: Pipeline) -> str:
    return f"try {chosen.name}"


def _count() -> int:
    given = request.form.get("last", str(TRIED))
    if not given.isdecimal() or not 1 <= int(given) <= _MOST_TRIED:
        raise ConfigError(f"last {given!r}: write a number from 1 to {_MOST_TRIED}")
    return int(given)


def _facts(chosen: Pipeline) -> dict[str, Any]:
    return show.of_settings(chosen.settings) | {"name": chosen.name}


def _written(chosen: Pipeline) -> str:
    """The mapping as YAML, as it stands in the file."""
    mapping = show.mapping(chosen.settings)
    return yaml.safe_dump(mapping, sort_keys=False, allow_unicode=True) if mapping else ""


def _file() -> File | None:
    base, known = parts().settings, parts().pipelines
    path = file_of(base)
    if path is None:
        return None
    try:
        now = all_settings(base)
    except BadFile as exc:
        return File(path, list(exc.lines()), has_changed=True)
    except ConfigError as exc:
        return File(path, [str(exc)], has_changed=True)
    return File(path, [], has_changed=now != {name: each.settings for name, each in known.items()})


def _tried(record: Record, becomes: dict[str, Any]) -> Tried:
    size = None if record.value is None else len(record.value)
    headers = {name: _begins(readable(value)) for name, value in record.headers.items()}
    messages = [_shortened(message) for message in becomes.get("messages", ())]
    shown = becomes | {"messages": messages} if messages else becomes
    return Tried(_begins(readable(record.key)), _begins(readable(record.value)), size, headers, shown)


def _shortened(message: dict[str, Any]) -> dict[str, Any]:
    """Deletes, and texts that stay what they are, have no text."""
    if message.get("text") is None:
        return message
    chunks = message.get("chunks", ())
    begins = [_begins(each) for each in chunks[:_LISTED]]
    text = message["text"]
    return message | {"text": _begins(text), "characters": len(text), "chunks": begins, "chunk_count": len(chunks)}


def _begins(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
