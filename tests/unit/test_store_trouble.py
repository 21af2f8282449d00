import pytest
from psycopg import errors

from embedstream import store
from embedstream.decode.default import decode
from embedstream.decode.message import Record, Rules
from embedstream.errors import StoreUnavailable
from embedstream.ingest import Change
from embedstream.settings import load_settings
from embedstream.space import Space

SPACE = Space("org/model", "r1", 4, normalised=True, max_tokens=256)
CHANGES = [
    Change(decode(Record(id.encode(), b'{"text": "x"}', "t", 0, n, 0), Rules("org/model", 100)))
    for n, id in enumerate("abcdefgh")
]

TROUBLE = [
    "08000", "08006", "25006", "25P02", "40001", "40P01", "42501", "42P01", "53000", "53100", "53200", "53300",
    "53400", "55000", "55P03", "57014", "57P01", "57P02", "57P03", "58030", "XX000", "XX001",
]  # fmt: skip
DATA = ["22000", "22001", "22003", "22021", "22023", "22P02", "22P05", "23502", "23505", "23514", "54000", "54001"]


class Failing:
    """A connection on which every statement raises `error`."""

    def __init__(self, error):
        self.error = error

    def execute(self, *_, **__):
        raise self.error

    def transaction(self):
        raise self.error

    def close(self):
        pass


def table_failing_with(sqlstate, monkeypatch):
    table = store.TableStore(load_settings(), SPACE)
    monkeypatch.setattr(table, "_open", lambda: Failing(errors.lookup(sqlstate)("x")))
    return table


@pytest.mark.parametrize("sqlstate", TROUBLE)
def test_trouble_of_the_database_is_charged_to_no_row(sqlstate, monkeypatch):
    table = table_failing_with(sqlstate, monkeypatch)
    with pytest.raises(StoreUnavailable):
        table.write(CHANGES)
    with pytest.raises(StoreUnavailable):
        table.look_up(["a"])


@pytest.mark.parametrize("sqlstate", DATA)
def test_only_errors_of_the_data_are_charged_to_rows(sqlstate, monkeypatch):
    written = table_failing_with(sqlstate, monkeypatch).write(CHANGES)
    assert {error.code for error in written.rejected.values()} == {f"sqlstate_{sqlstate}"}
    assert len(written.rejected) == len(CHANGES)
