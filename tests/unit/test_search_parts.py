"""What the search does before and after it asks PostgreSQL."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedstream.search.answer import marked
from embedstream.search.found import Row
from embedstream.search.freshness import wait_until
from embedstream.search.fusion import DEPTH, fuse
from embedstream.search.plan import method_of
from embedstream.search.problem import InvalidRequest, NotReached
from embedstream.search.request import Request, request_of
from embedstream.search.words import any_of, spans, websearch


def rows(*ids):
    return [Row((id,), 1 - place / 1000) for place, id in enumerate(ids)]


def ids(fused):
    return [row.key[0] for row in fused]


def test_what_stands_in_both_lists_comes_first_and_words_count_twice():
    found = fuse(rows("a", "b", "c"), rows("d", "c"))
    assert ids(found) == ["c", "d", "a", "b"]
    assert [row.places for row in found] == [(3, 2), (None, 1), (1, None), (2, None)]
    assert found[0].score == pytest.approx(1 / 63 + 2 / 62)
    assert found[1].similarity is None
    assert found[2].similarity == 1


def test_without_words_the_order_is_that_of_meaning():
    assert ids(fuse(rows("b", "a", "c"), [])) == ["b", "a", "c"]
    assert fuse([], []) == []


@given(st.permutations(range(400)), st.permutations(range(400)), st.integers(0, 400))
def test_what_is_fused_begins_the_same_however_much_is_asked_for(one, other, words):
    semantic, keyword = rows(*one), rows(*other[:words])
    whole = fuse(semantic, keyword)
    assert sorted(ids(whole)) == list(range(400))
    short = fuse(semantic[:DEPTH], keyword)
    assert ids(short)[:DEPTH] == ids(whole)[:DEPTH]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("walk a tree", "walk a tree"),
        ("loop.run_in_executor", "loop run in executor"),
        ('"run_in_executor" x', '"run in executor" x'),
        ("-foo", "-foo"),
        ("-foo_bar", '-"foo bar"'),
        ('-"foo_bar baz"', '-"foo bar baz"'),
        ("well-known", "well known"),
        ('"open', '"open'),
        ("a/b:c@d", "a b c d"),
        ("- . _", "  "),
        ("\x00x\ud800", "\ufffdx\ufffd"),
        ("cat or dog", "cat or dog"),
    ],
)
def test_words_are_looked_for_as_texts_are_cut(query, words):
    assert websearch(query) == words


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("one two", "one or two"),
        ("one", None),
        ("", None),
        ("a_b -c", "a or b"),
        ('"a b" c', '"a b" or c'),
        ("a or b", "a or b"),
        ("-a -b", None),
    ],
)
def test_some_of_the_words(query, words):
    assert any_of(query) == words


@pytest.mark.parametrize(
    ("text", "headline", "found"),
    [
        ("walk a tree", "\x02walk\x03 a \x02tree\x03", ((0, 4), (7, 11))),
        ("walk", "walk", ()),
        ("a_b", "\x02a\x03 \x02b\x03", ((0, 1), (2, 3))),
        ("walk a tree", "\x02walk\x03 ... tree", ()),
        ("", "", ()),
    ],
)
def test_highlights_are_places_in_the_text(text, headline, found):
    assert spans(text, headline) == found


def test_marked_text_is_safe():
    text = "<b>walk</b> & <i>tree"
    assert marked(text, [(3, 7)]) == "&lt;b&gt;<mark>walk</mark>&lt;/b&gt; &amp; &lt;i&gt;tree"
    assert marked("<", []) == "&lt;"


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({}, "exactly one of query, vector and id"),
        ({"query": "x", "id": "y"}, "exactly one of query, vector and id"),
        ({"id": "y", "mode": "hybrid"}, "mode hybrid looks for words"),
        ({"vector": [1], "mode": "keyword"}, "mode keyword looks for words"),
        ({"query": "x" * 10_001, "mode": "keyword"}, "at most 10000 characters"),
        ({"query": "x", "mode": "keyword", "min_similarity": 0.5}, "min_similarity is of the modes"),
        ({"query": "x", "mode": "fuzzy"}, "mode: input should be 'semantic', 'keyword' or 'hybrid'"),
        ({"query": "x", "k": 0}, "k: input should be greater than or equal to 1"),
        ({"query": "x", "k": 1000, "offset": 1}, "at most 1000 together"),
        ({"query": "x", "after": "2026-01-01T00:00:00"}, "after: input should have timezone info"),
        ({"query": "x", "wait_for": {"0": -1}}, "are not negative"),
        ({"query": "x", "wait_for": {"a": 1}}, "wait_for.a"),
        ({"query": "x", "where": {"field": "a", "value": 1}}, "where: there is no field a"),
        ({"query": "x", "whre": {}}, "whre: extra inputs are not permitted"),
    ],
    ids=lambda part: str(part)[:50],
)
def test_a_bad_request_gets_one_clear_sentence(facts, reason):
    with pytest.raises(InvalidRequest) as failure:
        request_of(facts)
    assert reason in str(failure.value)
    assert "\n" not in str(failure.value)


def test_a_request_as_json_has_it():
    request = request_of({"query": "x", "wait_for": {"0": 4711}, "before": "2026-01-01T00:00:00Z"})
    assert request.wait_for == {0: 4711}
    assert request.before.isoformat() == "2026-01-01T00:00:00+00:00"
    assert Request(query="x").mode == "semantic"


@pytest.mark.parametrize(
    ("node", "by_words", "method"),
    [
        ({"Order By": "(embedding <=> x)"}, False, "index"),
        ({"Plans": [{"Plans": [{"Order By": "x"}]}]}, False, "index"),
        ({"Plans": [{"Index Cond": "(metadata @@ x)"}]}, False, "filter"),
        ({"Index Cond": "(id = x)"}, False, "exact"),
        ({"Index Cond": "(to_tsvector(x) @@ y)"}, True, "index"),
        ({"Index Cond": "(to_tsvector(x) @@ y)"}, False, "exact"),
        ({}, True, "exact"),
    ],
)
def test_the_method_is_read_from_the_plan(node, by_words, method):
    assert method_of([{"Plan": node}], by_words=by_words) == method


def test_waiting_ends_when_every_partition_is_there():
    steps = iter([{0: 5}, {0: 6, 1: 3}, {0: 6, 1: 4}])
    wait_until(lambda: next(steps), {0: 5, 1: 3}, 5)
    assert list(steps) == []


def test_waiting_has_an_end_that_tells_how_far_the_table_came():
    with pytest.raises(
        NotReached, match=r"offset 9 of partition 1 \(it is before offset 0\) within 0\.05 s"
    ) as failure:
        wait_until(lambda: {0: 7}, {0: 6, 1: 9}, 0.05)
    assert failure.value.as_of == {0: 7}
