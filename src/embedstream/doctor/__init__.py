"""What is wrong with the world around the pipeline, and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedstream.doctor import broker, clock, cluster, database, log, mapping, service
from embedstream.doctor.check import Check, Finding, run
from embedstream.doctor.world import World
from embedstream.errors import ConfigError
from embedstream.store import Names

if TYPE_CHECKING:
    from embedstream.settings import Settings

CHECKS = (
    *service.CHECKS,
    *database.CHECKS,
    service.CANARY,
    *broker.CHECKS,
    *log.CHECKS,
    *clock.CHECKS,
    *cluster.CHECKS,
)

"""Of every pipeline; one with a mapping has those of `mapping` as well."""

OF_SUBMISSION = frozenset(
    {
        *(f"service.{name}" for name in ("size", "reachable", "ready", "dimension", "remote", "canary")),
        *(
            f"database.{name}"
            for name in ("reachable", "encoding", "writable", "extension", "table", "rights", "space")
        ),
        *(f"broker.{name}" for name in ("reachable", "login", "rights", "group")),
        *(f"mapping.{name}" for name in ("decoder", "registry")),
        *(each.name for each in cluster.OF_SUBMISSION),
    }
)
"""The checks without whose success no job can run."""


def check_submission(settings: Settings) -> None:
    """Raises ConfigError with the first thing that would keep a job from running, in doctor's own words."""
    with World(settings) as world:
        for finding in run([each for each in _checks_of(settings) if each.name in OF_SUBMISSION], world):
            if finding.state == "FAIL":
                raise ConfigError(f"{finding.fact}: {finding.remedy}" if finding.remedy else finding.fact)


def examine(settings: Settings) -> list[Finding]:
    """A finding for each check, whatever the others found; writes nothing anywhere.

    Raises ConfigError for a table name that cannot be used.
    """
    Names.of(settings.pgvector_table)
    with World(settings) as world:
        return run(_checks_of(settings), world)


def _checks_of(settings: Settings) -> tuple[Check, ...]:
    return (*CHECKS, *mapping.CHECKS) if settings.decoding else CHECKS
