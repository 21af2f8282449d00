import pytest

from embedstream.decode.default import decode
from embedstream.decode.message import Record, Rules
from embedstream.limits import LARGEST_MESSAGE, MIB, Letter, poll_records, record_bytes, slot_heap_bytes
from embedstream.local.flink import FlinkCluster

TEXT = 1000


def test_a_text_of_the_largest_size_is_decoded_however_it_is_escaped():
    value = b'{"text": "' + b"\\u0041" * TEXT + b'"}'
    assert len(value) <= record_bytes(TEXT)
    assert decode(Record(None, value, "t", 0, 0, 0), Rules("m", TEXT)).text == "A" * TEXT


@pytest.mark.parametrize("limit", [1024, 100_000, MIB, 8 * MIB, 65 * MIB])
def test_a_dead_letter_fits_into_its_topic(limit):
    letter = Letter.of(MIB, limit)
    assert letter.request <= max(limit, 20_000)
    assert min(letter) >= 0


def test_a_dead_letter_keeps_all_that_can_be_sent_again_and_all_that_is_decoded():
    assert Letter.of(MIB).value == Letter.of(MIB, 65 * MIB).value == LARGEST_MESSAGE
    assert Letter.of(10 * MIB).value == record_bytes(10 * MIB)


def test_the_memory_of_a_slot_grows_with_the_longest_text():
    in_the_image = 352 * MIB  # of a TaskManager with two slots; see deploy/flink/config.yaml
    assert 250 * MIB < slot_heap_bytes(MIB) <= in_the_image
    assert slot_heap_bytes(MIB // 16) < slot_heap_bytes(MIB) < slot_heap_bytes(4 * MIB) < slot_heap_bytes(10 * MIB)


@pytest.mark.parametrize(("text", "records"), [(1, 8), (MIB, 8), (4 * MIB, 2), (100 * MIB, 1)])
def test_the_larger_the_texts_the_fewer_records_are_taken_at_a_time(text, records):
    assert poll_records(text) == records


def test_the_embedded_cluster_has_memory_for_the_longest_text(tmp_path):
    cluster = FlinkCluster(tmp_path, 1, 2, 3, tmp_path, tmp_path, {}, max_text_bytes=4 * MIB)
    cluster.lay_out()
    lines = dict(line.split(": ", 1) for line in (tmp_path / "conf" / "config.yaml").read_text().splitlines())
    heap = int(lines["taskmanager.memory.task.heap.size"].removesuffix("m"))
    assert heap * MIB >= 3 * slot_heap_bytes(4 * MIB)
