"""How near the vectors of another precision are to those of float32, and how fast they come.

As a program it tries bfloat16: it reads a pickled Trial from its standard input, and writes a Probed as JSON. The
runtime's kernels have died of a signal in bfloat16 with some networks: then it is this process that ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import subprocess
import sys
import threading
import time
from typing import IO, TYPE_CHECKING, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from embedstream.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from embedstream.service.engine.model import Model

    Run = Callable[[Sequence[Sequence[str]]], Sequence[npt.NDArray[np.float32]]]
    """Batches of texts to their vectors."""

_ROUNDS = 3

_SHORT = (
    "Where is my parcel?",
    "The payment failed twice.",
    "Please cancel order 48-1932.",
    "naïve café, Straße, İstanbul",
    "Пароль не подходит",
    "密码错误,请帮我重置账户。",
    "Great service 🙏🙏",
    "7",
)
_LONG = (
    (
        "The ferry to the island leaves at seven in the morning, unless the fog is too thick to see the lighthouse. "
        "Passengers who miss it may wait for the afternoon boat, or walk along the causeway at low tide."
    ),
    "def total(rows: list[int]) -> int:\n    return sum(row for row in rows if row > 0)  # only gains",
    "SELECT id, text FROM messages WHERE created_at > now() - interval '1 day' ORDER BY id;",
    '{"key": [1, 2.5, null, true], "nested": {"text": "a value"}} and <p>an <b>HTML</b> &amp; entity</p>',
)
PROBE = (_SHORT, _LONG)


class Probed(NamedTuple):
    """Of a precision, in terms of float32: the smallest cosine to its vectors, and how many times as fast it is."""

    fidelity: float
    speed: float


class Trial(NamedTuple):
    model: Model
    workers: int


class Died(Exception):
    """The process that tried a precision ended without a finding."""


def probe_apart(trial: Trial) -> Probed:
    """What bfloat16 does to a model, tried in a process of its own.

    Raises Died.
    """
    command = [sys.executable, "-m", "embedstream.service.engine.probe"]
    # Unbuffered: what a child that has ended did not read would be written again at the close.
    with subprocess.Popen(command, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        given, told = cast("IO[bytes]", child.stdin), cast("IO[bytes]", child.stdout)
        # Not closed before it is done: its end is how the child sees that this process has ended.
        with contextlib.suppress(BrokenPipeError):
            given.write(pickle.dumps(trial))
        output = told.read()
    if child.returncode:
        raise Died(f"signal {-child.returncode}" if child.returncode < 0 else f"exit code {child.returncode}")
    return Probed(**json.loads(output.splitlines()[-1]))


def probe(exact: Run, other: Run) -> Probed:
    # By turns, or a neighbour's moment of load would decide.
    rounds = [(_timed(exact), _timed(other)) for _ in range(_ROUNDS)]
    seconds = [min(timed.seconds for timed in column) for column in zip(*rounds, strict=True)]
    return Probed(least_cosine(*(timed.vectors for timed in rounds[0])), seconds[0] / seconds[1])


class _Timed(NamedTuple):
    vectors: npt.NDArray[np.float32]
    seconds: float


def _timed(run: Run) -> _Timed:
    started = time.perf_counter()
    vectors = np.concatenate(run(PROBE))
    return _Timed(vectors, time.perf_counter() - started)


def least_cosine(left: npt.NDArray[np.float32], right: npt.NDArray[np.float32]) -> float:
    lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    return round(float(((left * right).sum(axis=1) / lengths).min()), 6)


def _main() -> None:
    trial: Trial = pickle.load(sys.stdin.buffer)  # noqa: S301 - from the process that started this one
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        probed = _tried(trial)
    except ConfigError:
        # Whoever asked meets it again, and can say it.
        sys.exit(2)
    sys.stdout.write(json.dumps(probed._asdict()) + "\n")


def _end_with_parent() -> None:
    # By its number: at the end of the process, nobody may be found in the stream's own lock.
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)


def _tried(trial: Trial) -> Probed:
    # Here, or everything that has texts to probe with would need the runtime.
    from embedstream.service.engine.inference import build, compiled, open_run  # noqa: PLC0415
    from embedstream.service.engine.tokens import TextTokenizer  # noqa: PLC0415

    tokenize = TextTokenizer(trial.model)
    graph = build(trial.model)
    exact, coarse = (
        open_run(compiled(graph, trial.workers, precision), tokenize, trial.model.max_tokens)
        for precision in ("f32", "bf16")
    )
    return probe(exact, coarse)


if __name__ == "__main__":
    _main()
