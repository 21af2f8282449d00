"""The embedding service, and whether it fits the table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedstream import canary, embedding, store
from embedstream.doctor.check import Check, Verdict, fail, ok, warn
from embedstream.remote import as_line

if TYPE_CHECKING:
    from embedstream.doctor.world import World


def _reachable(world: World) -> Verdict:
    return ok(f"{world.settings.embedding_service_url} answers HTTP {world.health.response.status_code}")


def _ready(world: World) -> Verdict:
    return ok(f"embeds with {world.space}")


def _dimension(world: World) -> Verdict:
    wanted, offered = world.settings.pgvector_dimension, world.space.dimension
    if wanted not in (None, offered):
        return fail(
            f"PGVECTOR_DIMENSION is {wanted}, but the service's vectors have {offered}",
            "set it to that, or start the service with another EMBEDDING_MODEL",
        )
    return ok(f"{offered}, as PGVECTOR_DIMENSION" if wanted else f"{offered}; PGVECTOR_DIMENSION is not set")


def _pinned(world: World) -> Verdict:
    origin = world.origin
    if origin is None:
        return ok("the model is one of the service's own machine")
    if not origin.is_pinned:
        return warn(
            f"the model is the Hub's {origin.revision}, which may move to vectors that do not fit the table",
            f"set EMBEDDING_MODEL_REVISION={origin.commit} where the service runs",
        )
    return ok(f"the model is the Hub's at commit {origin.commit}")


def _model(world: World) -> Verdict:
    warnings = world.health.response.json().get("warnings") or ()
    if not warnings:
        return ok("nothing is known against how the model is used")
    return warn("; ".join(warnings), "that is where the service runs, and makes another revision")


def _size(world: World) -> Verdict:
    text, request = world.settings.max_text_bytes, world.settings.embedding_max_request_bytes
    if text >= request:
        return fail(
            f"a text of MAX_TEXT_BYTES={text} does not fit into a request of EMBEDDING_MAX_REQUEST_BYTES={request}",
            "raise that above it, here and where the service runs, or lower MAX_TEXT_BYTES",
        )
    return ok(f"a request takes {request} bytes, a text has at most {text}")


def _remote(world: World) -> Verdict:
    remote = embedding.read_remote(world.service[0])
    if remote is None:
        return ok("the service embeds itself")
    if standstill := remote["standstill"]:
        return fail(f"the service stands still ({standstill['code']}): {standstill['message']}")
    return ok(as_line(remote))


def _canary(world: World) -> Verdict:
    kept = store.read_canary(world.connection, world.settings)
    if kept is None:
        return ok("the table keeps no vectors of fixed texts: the model's revision says all, or there is no table yet")
    now = embedding.read_canary(world.service[0])
    if now is None:
        return fail(
            "the table's vectors came from a remote server, but the service embeds itself",
            "start the service with EMBEDDING_ENGINE=remote, or use another PGVECTOR_TABLE",
        )
    if moved := canary.moved(kept, now):
        return fail(moved)
    return ok(f"the remote server embeds as it did (cosine {canary.least_cosine(kept, now):.5f})")


CHECKS = (
    Check("service.size", _size),
    Check("service.reachable", _reachable),
    Check("service.ready", _ready, ("service.reachable",)),
    Check("service.dimension", _dimension, ("service.ready",)),
    Check("service.pinned", _pinned, ("service.ready",)),
    Check("service.model", _model, ("service.ready",)),
    Check("service.remote", _remote, ("service.ready",)),
)

CANARY = Check("service.canary", _canary, ("service.ready", "database.reachable"))
"""After those of the database."""
