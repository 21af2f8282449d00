"""Records of a real Debezium (tests/data/record_debezium.py), decoded as the change that they are named after says."""

import json
from datetime import UTC, datetime

import pytest

from embedstream.decode.message import Delete, Message
from embedstream.errors import Rejected
from support.recorded import RECORDS, decoder, recorded

VARIANTS = [
    "plain", "schemas", "unwrap", "unwrap_rewrite", "connect_times_string_decimals", "isostring_times_double_decimals",
    "nanosecond_times", "adaptive_time_microseconds",
]  # fmt: skip
NAMES = [name for name in RECORDS if name.partition(".")[0] in VARIANTS]
FORMAT = {"key": "json", "value": "json"}
LONG = "A sentence that is long enough. " * 100


def decode(name, text="value.body", **decoding):
    envelope = "unwrap" if name.startswith("unwrap") else "debezium"
    [found] = decoder(envelope=envelope, format=FORMAT, text=text, **decoding)(recorded(name))
    return found


def key_of(name):
    key = RECORDS[name]["key"]
    return ":".join(str(part) for part in key.get("payload", key).values())


def of_kind(*endings):
    return pytest.mark.parametrize("name", [name for name in NAMES if name.partition(".")[2] in endings])


@pytest.mark.parametrize("variant", VARIANTS)
def test_there_are_records_of_every_variant(variant):
    assert f"{variant}.create" in NAMES


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith(("delete", "tombstone"))])
def test_a_delete_deletes_the_id_of_its_key(name):
    found = decode(name)
    assert isinstance(found, Delete)
    assert found.id == key_of(name)


@pytest.mark.parametrize("name", [name for name in NAMES if not name.endswith(("delete", "tombstone", "truncate"))])
def test_a_row_has_the_id_of_its_key(name):
    found = decode(name)
    assert isinstance(found, Message)
    assert found.id == key_of(name)


@of_kind("snapshot", "create", "update_body", "whole_create", "whole_key_change_create", "pair_create")
def test_a_row_has_its_text(name):
    texts = {"snapshot": "a body", "update_body": "a new body", "pair_create": "a comment"}
    assert decode(name).text == texts.get(name.partition(".")[2], LONG)


@of_kind("update_with_unchanged_body", "key_change_create")
def test_a_text_that_did_not_change_is_not_taken_for_one(name):
    assert decode(name).text is None


@of_kind("update_with_unchanged_body", "key_change_create")
def test_a_text_of_several_parts_needs_all_of_them(name):
    with pytest.raises(Rejected) as info:
        decode(name, text=["value.title", "value.body"])
    assert info.value.code == "text_unavailable"


@of_kind("whole_update_with_unchanged_body", "whole_key_change_create")
def test_with_the_replica_identity_full_a_long_text_is_there(name):
    assert decode(name, text=["value.title", "value.body"]).text == f"second title\n\n{LONG}"


@of_kind("truncate")
def test_a_truncated_table_is_a_dead_letter(name):
    with pytest.raises(Rejected) as info:
        decode(name)
    assert info.value.code == "truncate"


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("column", "hour"), [("updated_at", 1), ("made_at", 3)])
def test_times_are_those_of_the_row_in_every_precision(variant, column, hour):
    found = decode(f"{variant}.create", timestamp=f"value.{column}").timestamp
    microsecond = 123000 if (variant, column) == ("connect_times_string_decimals", "made_at") else 123456
    assert found == datetime(2026, 1, 2, hour, 4, 5, microsecond, tzinfo=UTC)


@pytest.mark.parametrize("variant", VARIANTS)
def test_columns_of_other_types_are_metadata(variant):
    found = decode(f"{variant}.create", metadata={name: f"value.{name}" for name in ("price", "flags", "tags", "id")})
    prices = {"schemas": "12.34", "connect_times_string_decimals": "12.34", "isostring_times_double_decimals": 12.34}
    assert json.loads(found.metadata) == {
        "price": prices.get(variant, "BNI="), "flags": '{"a": 1}', "tags": ["one", "two"], "id": 2,
    }  # fmt: skip
