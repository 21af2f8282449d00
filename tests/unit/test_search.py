import json

import pytest

from embedstream.corpus import docstrings
from embedstream.errors import ConfigError
from embedstream.search.conditions import parse_where


@pytest.mark.parametrize(
    ("conditions", "where"),
    [
        ([], []),
        (["kind=function", "n=3"], [({"kind": "function"},), ({"n": 3}, {"n": "3"})]),
        (['{"a": {"b": 1}}'], [({"a": {"b": 1}},)]),
        (["a=b=c"], [({"a": "b=c"},)]),
        (["a="], [({"a": ""},)]),
        (["a=true"], [({"a": True}, {"a": "true"})]),
        (["a=null"], [({"a": None}, {"a": "null"})]),
        (["a=1e3"], [({"a": 1000.0}, {"a": "1e3"})]),
        (['a="2024"'], [({"a": "2024"},)]),
        (['a=["x", 1]'], [({"a": ["x", 1]},)]),
        (["a=NaN", "a=-Infinity"], [({"a": "NaN"},), ({"a": "-Infinity"},)]),
        (["a=1e999", "a=007"], [({"a": "1e999"},), ({"a": "007"},)]),
        (["a=" + "9" * 5000], [({"a": "9" * 5000},)]),
        (["a=" + "[" * 100_000], [({"a": "[" * 100_000},)]),
        (['{"a": "\\u0000", "b\\ud800": 1}'], [({"a": "\ufffd", "b\ufffd": 1},)]),
        (["a=\udcff"], [({"a": "\ufffd"},)]),
    ],
)
def test_metadata_filters(conditions, where):
    assert parse_where(conditions) == where


@pytest.mark.parametrize("condition", ["kind", "=x", "[1]", '{"a": "b=c"', '{"a": NaN}', ' {"a"=1}'])
def test_a_filter_that_is_none(condition):
    with pytest.raises(ConfigError, match="key=value"):
        parse_where([condition])


def test_a_filter_that_nests_too_deep():
    with pytest.raises(ConfigError, match="too deep"):
        parse_where(["a=" + "[" * 500 + "]" * 500])


def test_the_corpus_is_prose_under_distinct_names():
    corpus = docstrings()
    assert len(corpus) > 3000
    assert len({entry.name for entry in corpus}) == len(corpus)
    assert {entry.kind for entry in corpus} == {"module", "class", "function"}
    assert all(entry.text.strip() and entry.name.startswith(entry.module) for entry in corpus)
    json.dumps([entry._asdict() for entry in corpus])
