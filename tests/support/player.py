"""Plays submission and job without Flink: begins where `starts` says, ingests to the end of the log, commits."""

from collections import Counter

from embedstream import kafka, starts, store
from embedstream.decode.default import decoder
from embedstream.decode.message import Record, Rules
from embedstream.ingest import Ingest
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


def play(settings, *, adopts=False, commits=True, until=None):
    """One life of the job; `until` bounds the offsets that it reads."""
    store.prepare(settings, SPACE, adopts=adopts)
    chosen = starts.begin(settings, adopts=adopts)
    ends = {position.partition: position.end for position in kafka.positions(settings)}
    ranges = {start.partition: (start.offset, until or ends[start.partition]) for start in chosen}
    records = [record_of(message) for message in kafka.read(settings, settings.kafka_input_topic, ranges)]
    table = store.TableStore(settings, SPACE, lambda *gap: kafka.has_record(settings, *gap))
    ingest = Ingest(HashEmbedder(), table, decoder(Rules.of(settings, SPACE.model_name)), Patience())
    kinds = Counter(outcome.kind for outcome in ingest(records)) if records else Counter()
    table.close()
    if commits:
        kafka.set_offsets(settings, {number: end for number, (_, end) in ranges.items()})
    return Run(chosen, kinds, ingest.texts_embedded)


def record_of(message):
    place = (message.topic(), message.partition(), message.offset())
    return Record(message.key(), message.value(), *place, message.timestamp()[1])
