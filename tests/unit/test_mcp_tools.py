"""The tools for agents, over parts that a test makes up."""

import logging
from datetime import UTC, datetime

import pytest

from embedstream.console.metrics import Metrics
from embedstream.errors import StoreUnavailable
from embedstream.mcp.budget import CHARACTERS, Budget
from embedstream.mcp.described import fields_of
from embedstream.mcp.server import make_server
from embedstream.search.answer import Answer, Chunk, Hit
from embedstream.settings import Settings
from embedstream.status.read import Status
from support.console import Observer, Searcher
from support.mcp import agent, ask, facts, parts_of, refusal

MOMENT = datetime(2026, 1, 2, tzinfo=UTC)
READS = ["describe", "get_message", "list_dead_letters", "search", "status", "where_is"]
WRITES = ["repair", "replay_dead_letters"]
BIG = 2**53 + 1


def hit(id="a", text="some words", **more):
    facts = {"source": "s", "message_timestamp": MOMENT, "metadata": {"n": BIG}} | more
    return Hit(id, 0.5, 0.5, text, **facts)


def found(*hits):
    return Answer(hits, "exact", True, {0: 7}, {}, None)


def searching(answer, **settings):
    searcher = Searcher(answer)
    parts = parts_of(Settings.model_construct(**settings), Observer(Status("t", "table", rows=3)), searcher)
    return agent(parts), searcher


def tools(*, writes):
    parts = parts_of(Settings.model_construct())
    return ask(make_server(parts, writes=writes), lambda client: client.list_tools()).tools


def test_reading_is_offered_to_everybody_writing_where_it_is_let():
    assert sorted(tool.name for tool in tools(writes=False)) == READS
    assert sorted(tool.name for tool in tools(writes=True)) == sorted(READS + WRITES)


def test_what_only_looks_is_marked_and_what_changes_something_too():
    for tool in tools(writes=True):
        assert tool.annotations.read_only_hint == (tool.name in READS)
        assert (tool.annotations.destructive_hint is True) == (tool.name in WRITES)


def test_every_tool_and_argument_is_described_and_every_answer_has_a_schema():
    for tool in tools(writes=True):
        assert tool.description
        assert tool.output_schema["properties"]
        assert all("description" in each for each in tool.input_schema["properties"].values()), tool.name


def test_writing_is_a_rehearsal_by_default():
    for tool in tools(writes=True):
        if tool.name in WRITES:
            assert tool.input_schema["properties"]["dry_run"]["default"] is True


def test_the_instructions_say_that_texts_are_no_instructions():
    server = make_server(parts_of(Settings.model_construct()), writes=False)

    async def instructions(client):
        return client.instructions

    assert "never instructions" in ask(server, instructions)


def test_a_search_is_counted_as_one_of_the_page_is():
    parts = parts_of(Settings.model_construct(), searcher=Searcher(found(hit())))
    metrics = Metrics(parts)
    assert facts(agent(parts)("search", query="words"))["hits"]
    labels = 'method="exact",mode="hybrid",pipeline="embedstream"'
    assert f"embedstream_search_seconds_count{{{labels}}} 1.0" in metrics.render().decode()


def test_a_search_asks_for_what_the_agent_asked():
    call, searcher = searching(found(hit(chunk=Chunk(1, 2, 12))))
    where = {"field": "metadata.n", "op": "gte", "value": 3}
    answer = facts(call("search", query="words", k=3, mode="semantic", where=where, after="2026-01-01T00:00:00Z"))
    (request,) = searcher.requests
    assert (request.query, request.k, request.mode, request.where) == ("words", 3, "semantic", where)
    assert (request.after, request.before) == (datetime(2026, 1, 1, tzinfo=UTC), None)
    (told,) = answer["hits"]
    assert (told["id"], told["text"], told["characters"], told["similarity"]) == ("a", "some words", 10, 0.5)
    assert (told["metadata"], told["chunk"]) == ({"n": BIG}, {"seq": 1, "start": 2, "end": 12})
    assert (answer["method"], answer["complete"], answer["as_of"], answer["note"]) == ("exact", True, {"0": 7}, None)


def test_texts_are_cut_to_the_budget_and_the_answer_says_so():
    call, _ = searching(found(hit("a", "x" * 90_000), hit("b"), hit("c", "y" * 90_000)))
    answer = facts(call("search", query="words"))
    assert sum(len(each["text"]) for each in answer["hits"]) <= CHARACTERS
    assert [each["characters"] for each in answer["hits"]] == [90_000, 10, 90_000]
    assert len(answer["hits"][2]["text"]) > CHARACTERS / 2
    assert answer["note"].startswith("cut: ")


def test_metadata_that_is_too_long_is_left_out_whole():
    budget = Budget(1, 100)
    assert budget.take("text", {"a": "b" * 80}) == ("text", None)
    assert budget.is_cut


def test_hidden_texts_are_hidden_from_agents():
    call, _ = searching(found(hit(text="private words")), console_hide_texts=True)
    answer = call("search", query="words")
    (told,) = facts(answer)["hits"]
    assert (told["text"], told["characters"]) == (None, 13)
    assert "private" not in answer.content[0].text
    assert "CONSOLE_HIDE_TEXTS" in facts(answer)["note"]


def test_the_status_in_facts_and_in_words():
    call, _ = searching(None)
    answer = facts(call("status"))
    assert (answer["rows"], answer["unread"], answer["pipeline"]) == (3, None, "embedstream")
    assert "3 rows" in answer["words"]


@pytest.mark.parametrize(
    ("tool", "arguments", "said"),
    [
        ("search", {}, "query: field required"),
        ("search", {"query": "x", "k": 51}, "k: input should be less than or equal to 50"),
        ("search", {"query": "x", "mode": "guess"}, "mode: input should be"),
        ("search", {"query": "x", "after": "2026-01-01T00:00:00"}, "after: input should have timezone info"),
        ("search", {"query": "x", "where": {"field": "nothing", "value": 1}}, "there is no field nothing"),
        ("search", {"query": "x", "pipeline": "other"}, "there is no pipeline other"),
        ("where_is", {}, "give an id, or partition and offset"),
        ("where_is", {"id": "a", "partition": 0, "offset": 1}, "give an id, or partition and offset"),
        ("where_is", {"partition": 0}, "give an id, or partition and offset"),
        ("list_dead_letters", {"stage": "cook"}, "stage: input should be"),
        ("list_dead_letters", {"since": "soon"}, "write a time such as"),
        ("replay_dead_letters", {"all": True}, "Unknown tool"),
    ],
)
def test_what_is_wrong_is_told_in_words(tool, arguments, said):
    call, _ = searching(found())
    answer = refusal(call(tool, **arguments))
    assert said in answer
    assert "\n" not in answer
    assert "pydantic" not in answer


def test_trouble_of_the_world_is_told_in_its_own_words():
    call, _ = searching(StoreUnavailable("PostgreSQL at db: away"))
    assert refusal(call("search", query="x")) == "PostgreSQL at db: away"


def test_nothing_of_an_error_that_nobody_foresaw_gets_out(caplog):
    call, _ = searching(RuntimeError("password=secret"))
    with caplog.at_level(logging.ERROR):
        answer = refusal(call("search", query="my private query"))
    assert answer == "search failed; the log of embedstream says more"
    assert [record.getMessage() for record in caplog.records] == ["tool search failed"]
    assert "my private query" not in caplog.text


def test_fields_of_metadata_as_a_filter_names_them():
    rows = [{"kind": "a", "in.side": 1, "deep": {"x": True}}, {"kind": "b"}, {"kind": "a", "deep": None}]
    fields = {each.field: each for each in fields_of(rows)}
    assert next(iter(fields)) == "metadata.kind"
    assert (fields["metadata.kind"].rows, fields["metadata.kind"].examples) == (3, ["a", "b"])
    assert fields["metadata.deep"].types == ["object", "null"]
    assert fields["metadata.deep.x"].examples == [True]
    assert fields['metadata."in.side"'].types == ["number"]


def test_examples_that_are_long_are_cut():
    (field,) = fields_of([{"a": "x" * 1000}])
    assert len(field.examples[0]) == 80
