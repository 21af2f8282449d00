"""Texts a second through HTTP, as a share of the raw engine; batch x connections."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from benchmarks.load import Encoding, Shape, load
from benchmarks.peers.process import PeerFailed, running_server
from benchmarks.plan import Contender, Figures, Plan, Skipped
from benchmarks.raw import ENGINE, RawEngine
from benchmarks.stack import running_service
from embedstream.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

TITLE = "Service: texts a second through HTTP, batch x connections"
FIGURE = "texts_per_second"
BASELINE = ENGINE

SHAPES = (Shape(1, 1), Shape(1, 16), Shape(1, 64), Shape(16, 4), Shape(64, 4), Shape(512, 2))
ENCODINGS: dict[str, Encoding] = {"JSON": "float", "base64": "base64"}

FEW_TEXTS = 64


def contenders(plan: Plan) -> Iterator[Contender | Skipped]:
    shapes = [shape for shape in SHAPES if not plan.quick or shape.batch * shape.connections <= FEW_TEXTS]
    engine = RawEngine()
    url = plan.closing.enter_context(running_service(plan.directory, load_settings().embedding_model))
    yield Contender(ENGINE, lambda number: {FIGURE: engine.texts_per_second(_texts(plan, number, Shape(1, 1)))})
    for name, encoding in ENCODINGS.items():
        for shape in shapes:
            yield Contender(f"{shape} {name}", partial(_figures, plan, url, shape, encoding))
    try:
        peer = plan.closing.enter_context(running_server("flask_tutorial.py", plan.directory))
    except PeerFailed as exc:
        yield Skipped("Flask tutorial", str(exc))
        return
    for shape in shapes:
        yield Contender(f"Flask tutorial {shape}", partial(_figures, plan, peer, shape, "float"))


def _texts(plan: Plan, number: int, shape: Shape) -> list[str]:
    """At least one request for each connection."""
    return plan.texts(number, max(plan.count(number, 600, FEW_TEXTS), shape.batch * shape.connections))


def _figures(plan: Plan, url: str, shape: Shape, encoding: Encoding, number: int) -> Figures:
    return load(url, _texts(plan, number, shape), shape, encoding)
