"""Checks, their findings, and what becomes of those that need another one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import psycopg
from confluent_kafka import KafkaException

from embedstream.errors import EmbedstreamError
from embedstream.store import trouble

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from embedstream.doctor.world import World

_DAY = 24 * 60 * 60
State = Literal["ok", "warn", "FAIL", "skipped"]


class Verdict(NamedTuple):
    """`fact` is what was found, `remedy` what to do about it."""

    state: State
    fact: str
    remedy: str | None = None


class Check(NamedTuple):
    """Looks at one thing; `needs` are the names of the checks without whose success it makes no sense."""

    name: str
    look: Callable[[World], Verdict]
    needs: tuple[str, ...] = ()


class Finding(NamedTuple):
    """The verdict of a check under its stable name."""

    check: str
    state: State
    fact: str
    remedy: str | None

    def __str__(self) -> str:
        return f"{self.state:<7}  {self.check:<28}  {self.fact}{f': {self.remedy}' if self.remedy else ''}"


def ok(fact: str) -> Verdict:
    return Verdict("ok", fact)


def warn(fact: str, remedy: str) -> Verdict:
    return Verdict("warn", fact, remedy)


def fail(fact: str, remedy: str | None = None) -> Verdict:
    return Verdict("FAIL", fact, remedy)


def untold(name: str, topic: str, wanted: str) -> Verdict:
    """Of a configuration that the broker keeps to itself."""
    return warn(
        f"the broker does not tell {name} of {topic}",
        f"see to it that it is {wanted}; with the operation DescribeConfigs on the topic this check can",
    )


def skipped(fact: str) -> Verdict:
    return Verdict("skipped", fact)


def run(checks: Iterable[Check], world: World) -> list[Finding]:
    """Run them in their order; a check comes after those that it needs."""
    findings: dict[str, Finding] = {}
    for check in checks:
        missing = [name for name in check.needs if findings[name].state in ("FAIL", "skipped")]
        verdict = skipped(f"needs {', '.join(missing)}") if missing else _look(check, world)
        findings[check.name] = Finding(check.name, *verdict)
    return list(findings.values())


def _look(check: Check, world: World) -> Verdict:
    """Errors of ours end with what to do already."""
    try:
        return check.look(world)
    except EmbedstreamError as exc:
        return fail(str(exc))
    except psycopg.Error as exc:
        return fail(f"PostgreSQL: {trouble(exc)}", "check PGVECTOR_USER and its rights")
    except KafkaException as exc:
        return fail(f"Kafka: {exc.args[0].str()}", "check KAFKA_* and the rights of its user")


def span(seconds: float) -> str:
    """A length of time in its largest unit of which it has two."""
    for unit, length in (("days", _DAY), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
