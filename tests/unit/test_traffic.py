"""The tests' own corpus of bad input says of each piece what must become of it."""

import pytest

from embedstream.decode.default import decode
from embedstream.decode.message import Record, Rules
from embedstream.errors import Rejected
from support.traffic import GARBAGE


def test_there_are_many_kinds_of_garbage():
    assert len({(value, key) for value, key, _ in GARBAGE}) == len(GARBAGE) >= 60


@pytest.mark.parametrize(("value", "key", "code"), GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_is_rejected_with_its_code(value, key, code):
    record = Record(key, value, "topic", 0, 0, 1_764_000_000_000)
    with pytest.raises(Rejected) as caught:
        decode(record, Rules("sentence-transformers/all-MiniLM-L6-v2", 1_048_576))
    assert (caught.value.stage, caught.value.code) == ("decode", code)
