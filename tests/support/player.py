"""Plays submission and job without Flink: begins where `starts` says, ingests to the end of the log, commits."""

from collections import Counter

from embedstream import kafka, starts, store
from embedstream.decode.opening import decoder_of, headers_of
from embedstream.ingest import Ingest
from embedstream.kafka import record_of
from embedstream.retry import Patience
from embedstream.space import Space
from support.fakes import HashEmbedder

SPACE = Space("org/model", "r1", 4, normalised=True, max_tokens=256)


class Run:
    """`starts` by partition, the number of records by outcome, and how many texts were embedded."""

    def __init__(self, chosen, kinds, embedded):
        self.starts = {start.partition: start.offset for start in chosen}
        self.whys = {start.why for start in chosen}
        self.kinds = kinds
        self.embedded = embedded


def play(settings, *, adopts=False, replays=False, commits=True, until=None):
    """One life of the job; `until` bounds the offsets that it reads."""
    store.prepare(settings, SPACE, adopts=adopts)
    chosen = starts.begin(settings, adopts=adopts, replays=replays)
    ends = {position.partition: position.end for position in kafka.positions(settings)}
    ranges = {start.partition: (start.offset, until or ends[start.partition]) for start in chosen}
    messages = kafka.read(settings, settings.kafka_input_topic, ranges)
    records = [record_of(message, headers_of(settings)) for message in messages]
    table = store.TableStore(settings, SPACE, lambda *gap: kafka.has_record(settings, *gap))
    ingest = Ingest(HashEmbedder(), table, decoder_of(settings, SPACE.model_name), Patience())
    outcomes = ingest(records) if records else []
    kinds = Counter(item.kind for outcome in outcomes for item in outcome.items.values() or (outcome,))
    table.close()
    if commits:
        kafka.set_offsets(settings, {number: end for number, (_, end) in ranges.items()})
    return Run(chosen, kinds, ingest.texts_embedded)
