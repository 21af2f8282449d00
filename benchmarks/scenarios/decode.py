"""What a message costs before it is embedded: opened, mapped, its text hashed; and what it costs to cut a long one."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.plan import Contender, Figures, Plan, Skipped
from benchmarks.shapes import rows, shapes
from embedstream.decode.chunks import Splitter
from embedstream.decode.message import Rules, attempt
from embedstream.decode.spec import Chunks
from embedstream.errors import Rejected
from embedstream.service.engine.model import find_model
from embedstream.service.engine.tokens import TextTokenizer
from embedstream.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.shapes import Shape

TITLE = "Decoding: CPU time a message, by format"
FIGURE = "us_per_message"
BASELINE = "default"

_REPEATS = 20
_DOCUMENT = 20_000


def contenders(plan: Plan) -> Iterator[Contender | Skipped]:
    for name, shape in shapes(Rules.of(load_settings(), None)).items():
        yield Contender(name, partial(_decoded, plan, shape))
    yield Contender(f"chunks of {_DOCUMENT:,} characters", partial(_cut, plan, _splitter()))


def _decoded(plan: Plan, shape: Shape, number: int) -> Figures:
    records = shape.records(rows(plan.texts(number, plan.count(number, 2000, 200))))
    outcomes = [attempt(record, shape.decode) for record in records]
    if refused := next((each for each in outcomes if isinstance(each, Rejected) or not each), None):
        raise ValueError(f"a message was not decoded: {refused}")
    return {FIGURE: _least(lambda: [attempt(record, shape.decode) for record in records], len(records))}


def _cut(plan: Plan, splitter: Splitter, number: int) -> Figures:
    texts = plan.texts(number, 2000)
    whole = " ".join(texts)
    documents = [whole[at : at + _DOCUMENT] for at in range(0, _DOCUMENT * plan.count(number, 20, 4), _DOCUMENT)]
    chunks = sum(len(splitter.split(document)) for document in documents)
    took = _least(lambda: [splitter.split(document) for document in documents], len(documents), repeats=3)
    return {FIGURE: took, "chunks": chunks / len(documents)}


def _least(work: Callable[[], object], count: int, repeats: int = _REPEATS) -> float:
    """CPU time, in microseconds for each of `count`, of the fastest of some tries: the others are the machine's."""
    took = []
    for _ in range(repeats):
        began = time.process_time()
        work()
        took.append(time.process_time() - began)
    return min(took) / count * 1e6


def _splitter() -> Splitter:
    return Splitter(Chunks(), TextTokenizer(find_model(load_settings().embedding_model)).described)
