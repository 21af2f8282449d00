"""What is wrong with the world around the pipeline, and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedstream.doctor import broker, clock, cluster, database, log, service
from embedstream.doctor.check import Finding, run
from embedstream.doctor.world import World
from embedstream.store import Names

if TYPE_CHECKING:
    from embedstream.settings import Settings

CHECKS = (*service.CHECKS, *database.CHECKS, *broker.CHECKS, *log.CHECKS, *clock.CHECKS, *cluster.CHECKS)


def examine(settings: Settings) -> list[Finding]:
    """A finding for each check, whatever the others found; writes nothing anywhere.

    Raises ConfigError for a table name that cannot be used.
    """
    Names.of(settings.pgvector_table)
    with World(settings) as world:
        return run(CHECKS, world)
