"""Decoding on every core: each process reads a share of the partitions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedstream.audit import records, rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from embedstream.audit.records import Range
    from embedstream.message import Rules
    from embedstream.settings import Settings


def lines(settings: Settings, ranges: Sequence[Range], rules: Rules) -> Iterator[tuple[bytes, int]]:
    """Blocks of lines for the table `sent`, each with the number of records in it."""
    for messages in records.read(settings, settings.kafka_input_topic, ranges):
        yield rows.sent(messages, rules).encode(), len(messages)
