"""Decoding on every core: each process reads an equal share of every partition."""

from __future__ import annotations

import multiprocessing
import os
import signal
from contextlib import closing, contextmanager, suppress
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any

from embedstream.audit import records, rows
from embedstream.audit.records import Range
from embedstream.decode.opening import decoder_of, headers_of
from embedstream.errors import ConfigError, EmbedstreamError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from multiprocessing.connection import Connection
    from typing import TypeAlias

    from embedstream.settings import Settings

    Block: TypeAlias = tuple[bytes, int]

_MOST_PROCESSES = 8
# A process takes about a second to start.
_WORTH_A_PROCESS = 50_000


def lines(settings: Settings, ranges: Sequence[Range], models: Sequence[str]) -> Iterator[Block]:
    """Blocks of lines for the table `sent`, each with the number of records in it."""
    total = sum(each.end - each.first for each in ranges)
    count = min(os.cpu_count() or 1, _MOST_PROCESSES, total // _WORTH_A_PROCESS)
    if count < 2:  # noqa: PLR2004 - one process is this one
        yield from _blocks(settings, ranges, models)
        return
    with _started(settings, shares(ranges, count), models) as pipes:
        while pipes:
            for pipe in wait(pipes):
                block = _received(pipe)
                if block:
                    yield block
                else:
                    pipes.remove(pipe)


def shares(ranges: Sequence[Range], count: int) -> list[list[Range]]:
    """Cut each range in `count` parts of about the same length; the n-th parts are the n-th share."""
    return [
        [
            Range(partition, first + (end - first) * n // count, first + (end - first) * (n + 1) // count)
            for partition, first, end in ranges
        ]
        for n in range(count)
    ]


def _blocks(settings: Settings, ranges: Sequence[Range], models: Sequence[str]) -> Iterator[Block]:
    decode, headers = decoder_of(settings, *models), headers_of(settings)
    for messages in records.read(settings, settings.kafka_input_topic, ranges):
        yield rows.sent(messages, decode, headers).encode(), len(messages)


@contextmanager
def _started(settings: Settings, parts: Sequence[Sequence[Range]], models: Sequence[str]) -> Iterator[list[Any]]:
    """A pipe from each process; one whose pipe has lost its reader, because this one was killed, ends too."""
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    try:
        for ranges in parts:
            receiver, sender = context.Pipe(duplex=False)
            pipes.append(receiver)
            with closing(sender):
                process = context.Process(target=_work, args=(sender, settings, ranges, models), daemon=True)
                process.start()
            processes.append(process)
        yield pipes.copy()
    finally:
        for pipe in pipes:
            pipe.close()
        for process in processes:
            process.terminate()
            process.join()


def _work(sender: Connection, settings: Settings, ranges: Sequence[Range], models: Sequence[str]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The console's worker keeps it blocked, and so would its children: who terminates them waits for them.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    with suppress(BrokenPipeError):
        try:
            for block in _blocks(settings, ranges, models):
                sender.send(block)
            sender.send(None)
        except EmbedstreamError as exc:
            sender.send(ConfigError(str(exc)))


def _received(pipe: Any) -> Block | None:  # noqa: ANN401 - a pipe carries anything
    block: Block | ConfigError | None
    try:
        block = pipe.recv()
    except EOFError:
        raise ConfigError("a process that read the topic was killed: is there enough memory?") from None
    if isinstance(block, ConfigError):
        raise block
    return block
