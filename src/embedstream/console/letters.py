"""Dead letters: which there are, what one holds, and the way back, which is shown before anything is sent."""

from __future__ import annotations

import logging
import math
import secrets
import shlex
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple

from flask import Blueprint, redirect, render_template, request, url_for

from embedstream.console.guard import need_writer
from embedstream.console.parts import parts, pipeline
from embedstream.dead_letters import edit, show
from embedstream.dead_letters import letter as letters
from embedstream.dead_letters.letter import Filter, Place, filter_of
from embedstream.dead_letters.listing import marks, survey
from embedstream.dead_letters.rehearsal import foretelling, rehearse
from embedstream.dead_letters.replay import Replayed, replay
from embedstream.decode.message import Record
from embedstream.display import printable
from embedstream.errors import ConfigError, EmbedstreamError
from embedstream.journey.scan import Seeker
from embedstream.web.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from werkzeug.wrappers import Response

    from embedstream.console.parts import Pipeline
    from embedstream.console.tasks import Task
    from embedstream.dead_letters.letter import DeadLetter
    from embedstream.dead_letters.listing import Mark, Survey
    from embedstream.dead_letters.rehearsal import Rehearsal
    from embedstream.display import Watch
    from embedstream.settings import Settings

logger = logging.getLogger(__name__)

routes = Blueprint("letters", __name__)

_CONDITIONS = ("stage", "code", "since")
_LISTED = 100
_LOOKED_AT = 50_000
_READ_FOR = 5.0
_SHOWN_RECORDS = 20
_SHOWN_BYTES = 8192
_MOST_EDITED = 100_000
"""Bytes: a form may have 500,000, and each of them may take three."""


class Shown(NamedTuple):
    """A dead letter, whether it was replayed, and the ids that its message is about, where it can be told."""

    letter: DeadLetter
    mark: Mark | None
    ids: list[str]
    editable: str | None


@dataclass(frozen=True)
class Order:
    """What somebody wants to have sent again; `text` is what a form made of the payload of the one that is meant."""

    words: str
    wanted: Filter
    text: str | None
    again: bool

    def change(self, letter: DeadLetter) -> bytes | None:
        return letter.value if self.text is None else edit.from_form(letter.value, self.text)


class Rehearsed(NamedTuple):
    order: Order
    rehearsal: Rehearsal


@routes.get("/dead-letters")
def listed() -> str:
    """Of a filter that means nothing the page says why, beside it."""
    try:
        _asked(request.args)
        error = ""
    except ConfigError as exc:
        error = str(exc).removeprefix("--")
    return render_template("letters.html", form=request.args, error=error, stages=letters.STAGES)


@routes.get("/parts/dead-letters")
def listed_part() -> str:
    chosen, form = pipeline(), request.args
    wanted = _asked(form)

    def look(watch: Watch) -> Survey:
        return survey(chosen.settings, wanted, _LISTED, _LOOKED_AT, watch)

    key = f"letters {chosen.name} {wanted.stage} {wanted.code} {form.get('since') or ''}"
    task = parts().tasks.ensure(key, look, _READ_FOR)
    return render_template("parts/letters.html", form=form, task=task, options=_options(form))


def _options(form: Mapping[str, str]) -> str:
    """Of the command: anybody may have written the link."""
    words = [word for name in _CONDITIONS if form.get(name) for word in (f"--{name}", form[name])]
    return f" {shlex.join(words)}" if words else ""


def _asked(form: Mapping[str, str]) -> Filter:
    return filter_of(form.get("stage") or None, form.get("code") or None, form.get("since") or None)


@routes.get("/dead-letters/<place>")
def one(place: str) -> str:
    return render_template("letter.html", place=Place.parse(place))


@routes.get("/parts/dead-letters/<place>")
def one_part(place: str) -> str:
    chosen, found = pipeline(), Place.parse(place)
    task = parts().tasks.ensure(
        f"letter {chosen.name} {found}", lambda watch: _shown(chosen.settings, found, watch), _READ_FOR
    )
    return render_template(
        "parts/letter.html", place=found, task=task, readable=_readable, printable=printable, most=_SHOWN_BYTES
    )


def _shown(settings: Settings, place: Place, watch: Watch) -> Shown:
    letter = letters.read_one(settings, place)
    mark = marks(settings, [letter.facts], set(), _LOOKED_AT, watch).get(place)
    value = letter.value if len(letter.value or b"") <= _MOST_EDITED and not letter.facts.omitted else None
    return Shown(letter, mark, _ids(settings, letter), edit.editable(value))


def _ids(settings: Settings, letter: DeadLetter) -> list[str]:
    facts = letter.facts
    if facts.origin is None or "value" in facts.omitted or "key" in facts.omitted:
        return []
    moment = -1 if facts.timestamp is None else facts.timestamp
    try:
        return Seeker(settings, None).ids(Record(letter.key, letter.value, facts.topic, *facts.origin, moment))
    except EmbedstreamError:
        return []


def _readable(value: bytes | None) -> str:
    return show.readable(value if value is None else value[:_SHOWN_BYTES])


@routes.post("/dead-letters/rehearsals")
def rehearsal() -> Response:
    """What is shown then is all that may be sent: a dead letter that comes meanwhile is not."""
    need_writer()
    chosen, order = pipeline(), _order()
    name = secrets.token_urlsafe(9)

    def work(watch: Watch) -> Rehearsed:
        describe = foretelling(chosen.settings)
        return Rehearsed(
            order,
            rehearse(
                chosen.settings, order.wanted, order.change, again=order.again, most=_SHOWN_RECORDS,
                describe=describe, watch=watch,
            ),
        )  # fmt: skip

    parts().tasks.start(_rehearsal_key(chosen, name), work)
    return _to_replay(name)


def _order() -> Order:
    form = request.form
    again = "again" in form
    if form.get("what") == "filter":
        wanted = _asked(form)
        told = (f"{name} {form[name]}" for name in _CONDITIONS if form.get(name))
        return Order(", ".join(told) or "all dead letters", wanted, None, again)
    places = form.getlist("place")
    if not places:
        raise ConfigError("no dead letter is selected: go back and choose at least one")
    text = form.get("text")
    if text is not None and (len(places) > 1 or parts().settings.console_hide_texts):
        raise ConfigError("one dead letter at a time is edited, and only where texts are shown")
    return Order(f"dead letters {', '.join(places)}", filter_of(None, None, None, places), text, again)


@routes.get("/dead-letters/replays/<name>")
def replaying(name: str) -> str:
    return render_template("replay.html", name=name)


@routes.get("/parts/dead-letters/replays/<name>")
def replaying_part(name: str) -> str:
    chosen, tasks = pipeline(), parts().tasks
    return render_template(
        "parts/replay.html", name=name, rehearsal=tasks.last(_rehearsal_key(chosen, name)),
        replay=tasks.last(_replay_key(chosen, name)),
    )  # fmt: skip


@routes.post("/dead-letters/replays/<name>")
def send(name: str) -> Response:
    """Each rehearsal is sent once."""
    need_writer()
    chosen = pipeline()
    shown = _result(parts().tasks.last(_rehearsal_key(chosen, name)))
    parts().tasks.ensure(_replay_key(chosen, name), _sending(chosen, shown), math.inf)
    return _to_replay(name)


def _result(task: Task | None) -> Rehearsed:
    if task is None or task.state != "done" or not task.result.rehearsal.places:
        message = "what would be sent is not shown, or not any more: do a dry run first"
        raise Problem(HTTPStatus.CONFLICT, "not_shown", message)
    found: Rehearsed = task.result
    return found


def _sending(chosen: Pipeline, shown: Rehearsed) -> Callable[[Watch], Replayed]:
    """One replay at a time: the second one reads what the first has sent, and leaves it out."""
    order = shown.order

    def work(watch: Watch) -> Replayed:
        wanted = Filter(places=shown.rehearsal.places)
        with chosen.replaying:
            result = replay(chosen.settings, wanted, order.change, again=order.again, watch=watch)
        edited = "" if order.text is None else ", edited"
        logger.info("replay into %s: %s (%s%s)", chosen.settings.kafka_input_topic, result, order.words, edited)
        return result

    return work


def _to_replay(name: str) -> Response:
    there = url_for("letters.replaying", name=name, pipeline=request.args.get("pipeline"))
    return redirect(there, HTTPStatus.SEE_OTHER)


def _rehearsal_key(chosen: Pipeline, name: str) -> str:
    return f"rehearsal {chosen.name} {name}"


def _replay_key(chosen: Pipeline, name: str) -> str:
    return f"replay {chosen.name} {name}"
