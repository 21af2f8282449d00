"""Expressions of a pipeline file: what they mean, what they read, and what is refused when they are compiled."""

from contextlib import suppress

import jmespath
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedstream.decode.expressions import ExpressionError, compile_expression, header_names, kind
from embedstream.errors import ConfigError, Rejected

SCOPE = {
    "value": {
        "title": "t", "tags": ["a", "b"], "n": 0, "items": [{"type": "d", "d": "x", "text": "one"}, {"type": "e"}],
        "a-b": {"c.d": 1}, "text": '{"x": [1]}', "html": "<p>a</p><p>b</p>", "no": False,
    },
    "key": {"id": 2}, "event": {"op": "d"}, "headers": {"ce-id": "7"},
}  # fmt: skip


def evaluated(text, **options):
    return compile_expression(text, **options)(SCOPE)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("value.title", "t"),
        ("value.title.x", None),
        ("value.absent.deeper", None),
        ('value."a-b"."c.d"', 1),
        ('headers."ce-id"', "7"),
        ("value.tags[1]", "b"),
        ("value.items[?type == 'd'].text", ["one"]),
        ("value.items[?type == @.d].text", []),
        ("value.items[].text | [0]", "one"),
        ("join(', ', value.tags)", "a, b"),
        ("value.absent || value.title", "t"),
        ("event.op == 'd' && value.title == 't'", True),
        ("event.op == `d`", True),
        ("value.n > `1`", False),
        ("value.absent == `null`", True),
        ("!(value.no)", True),
        ("from_json(value.text).x[0]", 1),
        ("from_json(value.absent)", None),
        ("from_html(value.absent)", None),
        ("[value.title, key.id]", ["t", 2]),
        ("value.items[*].{t: text, id: type}", [{"t": "one", "id": "d"}, {"t": None, "id": "e"}]),
        ("sort_by(value.items, &type)[0].type", "d"),
        ('`"\\n"`', "\n"),
    ],
)  # fmt: skip
def test_what_an_expression_gives(text, expected):
    assert evaluated(text) == expected


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("value", ("value",)),
        ("value.a.b", ("value", "a", "b")),
        ('value."a-b".c', ("value", "a-b", "c")),
        ('(value)."a"', ("value", "a")),
        ("value.a[0]", None),
        ("value.a || value.b", None),
        ("value.*", None),
    ],
)
def test_a_path_of_names_is_plain(text, path):
    compiled = compile_expression(text)
    assert (compiled.path, compiled.is_plain) == (path, path is not None)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda node: st.lists(node, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "c d", "", "é"]), node),
    max_leaves=20,
)
NAMES = st.lists(st.sampled_from(["a", "b", '"c d"', '"é"', '"a"', '""']), max_size=4)


@given(JSON, NAMES)
def test_a_plain_path_means_the_same_to_jmespath(value, names):
    text = ".".join(["value", *names])
    compiled = compile_expression(text)
    assert compiled.is_plain
    assert compiled({"value": value}) == jmespath.search(text, {"value": value})


REFUSED = [
    ("", 1, "empty"),
    ("  ", 3, "empty"),
    ("value.", 7, "ends too early"),
    ("value.items[?type", 18, "ends too early"),
    ("value..title", 7, '"."'),
    ("value title", 7, '"title"'),
    ("value.n = `1`", 9, "write =="),
    ("value.a-b", 8, "double quotes"),
    ("value.n == 5", 12, "`5`"),
    ("headers['ce-id']", 9, 'headers."ce-id"'),
    ("value.'x", 7, "Unclosed"),
    ("vlaue.title", 1, "did you mean value?"),
    ("title", 1, "value.title"),
    ("value.title || titel", 16, "there is no titel"),
    ("event.op == d", 13, "'d'"),
    ('event.op == "d"', 13, "'d'"),
    ("value.x == null", 12, "`null`"),
    ("value.items[?type == null]", 22, "`null`"),
    ("value.items[?true == done]", 14, "`true`"),
    ("value.items[?type == d]", 22, "'d'"),
    ("value.items[?d.type == d]", 24, "'d'"),
    ("item.text", 1, "only inside of each"),
    ("strip(value.title)", 1, "no function strip()"),
    ("lenght(value.title)", 1, "did you mean length()?"),
    ("length(value.title, value.n)", 1, "takes 1 argument, not 2"),
    ("value.n || join(value.tags)", 12, "takes 2 arguments, not 1"),
    ("not_null()", 1, "at least 1 argument"),
    ("sort_by(value.items, type)", 1, "&name"),
    ("length(&value)", 1, "without &"),
    ("!value.no", 1, "write !(...)"),
    ("@", 1, "begin with one of value, key"),
    ("*.title", 1, "begin with one of"),
    ("[0]", 1, "begin with one of"),
    ("headers", 1, "one by one"),
    ("headers.*", 1, "one by one"),
    ("keys(headers)", 6, "one by one"),
    ("headers | keys(@)", 1, "one by one"),
    ("headers.[a, b]", 1, "one by one"),
    ("value.a || headers.b[0]", 12, "one by one"),
    ("(" * 5000 + "value" + ")" * 5000, 1, "too deep"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "column", "message"), REFUSED, ids=[text[:30] or "nothing" for text, _, _ in REFUSED])
def test_what_cannot_mean_anything_is_refused(text, column, message):
    with pytest.raises(ExpressionError) as refusal:
        compile_expression(text)
    assert isinstance(refusal.value, ConfigError)
    assert message in refusal.value.message
    assert "\n" not in refusal.value.message
    assert refusal.value.column == column


def test_inside_of_each_there_is_an_item():
    assert compile_expression("item.text", item=True).roots == {"item"}


@given(st.text(max_size=20) | st.text(alphabet="value.keyhdrs[]?*@&|='`\"(){}:,0-1 ", max_size=20))
def test_any_text_is_an_expression_or_refused(text):
    with suppress(ExpressionError):
        compile_expression(text, item=True)


@pytest.mark.parametrize(
    ("text", "roots", "headers"),
    [
        ("value.key.item", {"value"}, set()),
        ("value.title || key.id", {"value", "key"}, set()),
        ('[headers.a, headers."b-c", value.headers.d]', {"headers", "value"}, {"a", "b-c"}),
        ("value.items[?headers == 'x'].key", {"value"}, set()),
        ("value | [key, event]", {"value"}, set()),
        ("sort_by(value.items, &record)", {"value"}, set()),
        ("length(record.topic)", {"record"}, set()),
        ('`{"key": 1}`.key', set(), set()),
    ],
)  # fmt: skip
def test_what_an_expression_reads(text, roots, headers):
    compiled = compile_expression(text)
    assert (compiled.roots, compiled.headers) == (roots, headers)
    assert header_names([compiled, compile_expression("headers.z")]) == {*headers, "z"}


@pytest.mark.parametrize(
    ("text", "roots"),
    [
        ("value.a && event.b", [{"value"}, {"event"}]),
        ("value.a && (event.b || value.c)", [{"value"}, {"event", "value"}]),
        ("value.a || event.b", []),
        ("value.a", []),
    ],
)
def test_parts_that_must_all_hold_can_be_asked_one_by_one(text, roots):
    assert [part.roots for part in compile_expression(text).conjuncts] == roots


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("length(value.absent)", "length() takes string or array or object, and was given null"),
        ("join(',', [value.title, value.absent])", "join() takes array-string, and was given null"),
        ("value.title < `1`", "failed (TypeError)"),
        ("from_json(value.title)", "not JSON"),
        ("from_json(value.n)", "takes string or null, and was given number"),
        ("value.tags[::0]", "failed (ValueError)"),
    ],
)
def test_what_fails_on_a_record_rejects_it(text, message):
    with pytest.raises(Rejected) as rejection:
        evaluated(text, field="text")
    assert (rejection.value.stage, rejection.value.code) == ("decode", "mapping_failed")
    assert rejection.value.reason.startswith(f"text: {text}: ")
    assert message in rejection.value.reason


def test_a_failure_quotes_no_value():
    compiled = compile_expression("sum(value.tags)")
    with pytest.raises(Rejected) as rejection:
        compiled({"value": {"tags": ["secret"]}})
    assert "secret" not in str(rejection.value)


@given(JSON)
def test_any_json_through_any_function_gives_something_or_is_rejected(value):
    for text in (
        "length(value)", "sort(value)", "sort_by(value, &a)", "keys(value)", "to_number(value)", "sum(value)",
        "value[?a > b.c]", 'value < `"x"`', "max_by(value, &b)", "merge(value, value)", "value[::-1]", "avg(value)",
        "from_json(value)", "from_html(value)", "starts_with(value, 'a')", "to_string(value)", "reverse(value)",
    ):  # fmt: skip
        with suppress(Rejected):
            compile_expression(text)({"value": value})


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (None, "null"), (True, "true or false"), (1, "a number"), (1.5, "a number"), ("", "a string"), ([], "a list"),
        ({}, "an object"), (b"", "no JSON value"),
    ],
)  # fmt: skip
def test_names_of_what_a_value_is(value, name):
    assert kind(value) == name
