"""The embedding service, and whether it fits the table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedstream.doctor.check import Check, Verdict, fail, ok, warn

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


CHECKS = (
    Check("service.size", _size),
    Check("service.reachable", _reachable),
    Check("service.ready", _ready, ("service.reachable",)),
    Check("service.dimension", _dimension, ("service.ready",)),
    Check("service.pinned", _pinned, ("service.ready",)),
    Check("service.model", _model, ("service.ready",)),
)
