"""How far the clocks of the parts are from this machine's."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from embedstream.doctor.check import Check, Verdict, fail, ok, skipped, warn

if TYPE_CHECKING:
    from embedstream.doctor.world import World

_WARN_SECONDS = 2.0
_FAIL_SECONDS = 60.0
_REMEDY = "synchronise the clocks (NTP): versions are told apart by their times"


def _database(world: World) -> Verdict:
    began = datetime.now(UTC)
    ((there,),) = world.connection.execute("SELECT clock_timestamp()").fetchall()
    middle = began + (datetime.now(UTC) - began) / 2
    return judge("the database", (there - middle).total_seconds())


def _service(world: World) -> Verdict:
    response, here = world.health
    try:
        there = parsedate_to_datetime(response.headers["date"])
    except (KeyError, ValueError):
        return skipped("the service's answer has no Date header")
    # The header tells full seconds, which have begun up to one second ago.
    behind = (here - there).total_seconds()
    return judge("the service", 0.0 if 0.0 <= behind <= 1.0 else min(-behind, 1.0 - behind, key=abs))


def _broker(_: World) -> Verdict:
    return skipped("Kafka tells its time only to who writes a record, and doctor writes nothing")


def judge(who: str, ahead: float) -> Verdict:
    direction = "ahead of" if ahead > 0 else "behind"
    fact = f"the clock of {who} is {abs(ahead):.1f} s {direction} this machine's"
    if abs(ahead) > _FAIL_SECONDS:
        return fail(fact, _REMEDY)
    return warn(fact, _REMEDY) if abs(ahead) > _WARN_SECONDS else ok(fact)


CHECKS = (
    Check("clock.database", _database, ("database.reachable",)),
    Check("clock.service", _service, ("service.reachable",)),
    Check("clock.broker", _broker),
)
