import pytest

from embedstream.search.filters import compile_filter
from embedstream.search.problem import InvalidRequest

OK = {"field": "metadata.a", "op": "eq", "value": 1}


@pytest.mark.parametrize(
    ("tree", "reason"),
    [
        (None, "write {"),
        ([], "write {"),
        ({}, "a condition is"),
        ({"field": 1, "value": 1}, "a condition is"),
        ({**OK, "more": 1}, "and nothing else"),
        ({"and": [OK], "or": [OK]}, "a condition is"),
        ({"and": OK}, "a condition is"),
        ({"and": [3]}, "write {"),
        ({"field": "a", "value": 1}, "there is no field a: write metadata.name"),
        ({"field": "metadatas", "value": 1}, "there is no field"),
        ({"field": "metadata", "value": 1}, "of metadata as a whole"),
        ({"field": "metadata.", "value": 1}, "names with dots between"),
        ({"field": "metadata..a", "value": 1}, "names with dots between"),
        ({"field": 'metadata."a', "value": 1}, "names with dots between"),
        ({"field": 'metadata."\\x"', "value": 1}, "as JSON writes a string"),
        ({"field": "metadata.a", "op": "like", "value": 1}, "the op is one of eq, ne"),
        ({"field": "metadata.a", "op": []}, "the op is one of eq, ne"),
        ({"field": "metadata.a", "op": "eq"}, "eq needs a value"),
        ({"field": "metadata.a", "value": {}}, "eq takes a string"),
        ({"field": "metadata.a", "op": "ne", "value": []}, "ne takes a string"),
        ({"field": "metadata.a", "op": "in", "value": "x"}, "in takes a list"),
        ({"field": "metadata.a", "op": "in", "value": [[]]}, "in takes a list"),
        ({"field": "metadata.a", "op": "gt", "value": True}, "gt takes a string or a number"),
        ({"field": "metadata.a", "op": "lt", "value": None}, "lt takes a string or a number"),
        ({"field": "metadata.a", "op": "exists", "value": 1}, "exists takes"),
        ({"field": "metadata.a", "op": "prefix", "value": 1}, "prefix takes a string"),
        ({"field": "metadata.a", "value": float("nan")}, "cannot hold"),
        ({"field": "metadata.a", "value": 10**400}, "cannot hold"),
        ({"field": "metadata.a", "op": "contains", "value": {"x": float("inf")}}, "cannot hold"),
        ({"field": "source", "value": 1}, "field source: the value is a string"),
        ({"field": "truncated", "value": 1}, "the value is true or false"),
        ({"field": "token_count", "value": "1"}, "the value is a number"),
        ({"field": "token_count", "value": True}, "the value is a number"),
        ({"field": "token_count", "op": "contains", "value": "1"}, "contains is for"),
        ({"field": "message_timestamp", "op": "gt", "value": "2026-01-01"}, "with its zone"),
        ({"field": "message_timestamp", "op": "gt", "value": "soon"}, "with its zone"),
        ({"field": "message_timestamp", "op": "prefix", "value": "2026"}, "prefix is for"),
        ({"or": [OK] * 1001}, "more than 1000 conditions"),
    ],
    ids=lambda part: str(part)[:60],
)
def test_a_bad_filter_gets_one_clear_sentence(tree, reason):
    with pytest.raises(InvalidRequest) as failure:
        compile_filter(tree)
    said = str(failure.value)
    assert reason in said
    assert said.startswith("where: ")
    assert "\n" not in said


def test_what_nests_deep_stays_short():
    tree = OK
    for _ in range(16):
        tree = {"not": {"and": [tree, OK]}}
    _, parameters = compile_filter(tree)
    assert len(str(parameters)) < 3000
