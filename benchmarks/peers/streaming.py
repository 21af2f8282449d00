"""Streaming peers: programs of an environment of their own that fill a table from a topic."""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import distributions
from typing import TYPE_CHECKING

from benchmarks.delivery import messages, stored
from benchmarks.peers.process import HERE, PeerFailed, environment
from benchmarks.plan import Contender, Skipped
from embedstream import embedding, kafka, store
from embedstream.local.part import Part, PartFailed, running
from embedstream.local.process import Command
from embedstream.settings import child_environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.plan import Measure, Plan
    from embedstream.settings import Settings


@dataclass(frozen=True)
class Streaming:
    """`processes` share the partitions of the topic, where the library knows no other way to use two of them.

    With the stub model it gets one in `ceiling_share` of the texts, or a slow one would take most of the run.
    """

    name: str
    script: str
    package: str
    processes: int = 1
    ceiling_share: int = 1

    def version(self) -> dict[str, str]:
        """Raises PeerFailed where it is not installed."""
        places = [str(path) for path in environment(self.package).glob("lib/python*/site-packages")]
        for found in distributions(name=self.package, path=places):
            return {self.package: found.version}
        raise PeerFailed(f"{self.package} is not installed: make bench-peers")


STREAMING = (
    Streaming("Quix Streams", "quix_streams.py", "quixstreams", processes=2),
    Streaming("CocoIndex", "cocoindex_flow.py", "cocoindex", ceiling_share=20),
    Streaming("Pathway", "pathway_pipeline.py", "pathway"),
)


def streaming_contender(plan: Plan, peer: Streaming, settings: Settings, measure: Measure) -> Contender | Skipped:
    """The peer, running for as long as the plan; left out where it does not run here."""
    try:
        version = peer.version()
        plan.closing.enter_context(running_streaming(peer, settings, plan.directory))
    except PeerFailed as exc:
        return Skipped(peer.name, str(exc))
    return Contender(peer.name, measure, version)


@contextmanager
def running_streaming(peer: Streaming, settings: Settings, directory: Path) -> Iterator[Settings]:
    """The peer with topic and table of its own, ended after the block.

    Raises PeerFailed unless a message gets through.
    """
    python = environment(peer.package) / "bin" / "python"
    kafka.ensure_topics(settings)
    store.prepare(settings, embedding.read_space(settings))
    with ExitStack() as started:
        for number in range(peer.processes):
            home = directory / f"{settings.kafka_group_id}-{number}"
            home.mkdir()
            process = _Process([str(python), str(HERE / peer.script)], settings, home)
            try:
                started.enter_context(running(process))
            except PartFailed as exc:
                raise PeerFailed(str(exc).strip().splitlines()[-1]) from exc
        yield settings


class _Process(Part):
    """Ready when a message stays in the table: CocoIndex 1.0.26 has deleted by then what it stored while it started."""

    name = "peer"
    start_seconds = 90.0
    look_seconds = 2.0

    def __init__(self, command: list[str], settings: Settings, home: Path) -> None:
        super().__init__(home / "log", settings.embedding_service_url)
        self._command = command
        self._settings = settings
        self._home = home
        self._next_look = 0.0
        self._sent = ""
        self._seen = False

    def program(self) -> Command:
        own = {
            "COCOINDEX_DB": str(self._home / "cocoindex.db"),
            "COCOINDEX_DISABLE_USAGE_TRACKING": "1",
            "PATHWAY_THREADS": str(self._settings.flink_parallelism),
        }
        return Command(self._command, {**child_environment(self._settings), **own})

    def is_ready(self) -> bool:
        if time.monotonic() < self._next_look:
            return False
        with store.connect(self._settings) as connection:
            found = stored(connection, self._settings, [self._sent]) == 1
        if not found:
            self._send()
        seen_before, self._seen = self._seen, found
        self._next_look = time.monotonic() + self.look_seconds
        return found and seen_before

    def _send(self) -> None:
        [message] = messages(["A text that shows whether it works."])
        kafka.produce(self._settings, self._settings.kafka_input_topic, [message.record()])
        self._sent = message.id
