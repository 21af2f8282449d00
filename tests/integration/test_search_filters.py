"""Every operator of the filters beside a model in Python, on a real PostgreSQL."""

import json
import operator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.sql import SQL

from embedstream import store
from embedstream.search.filters import compile_filter
from embedstream.search.problem import InvalidRequest
from embedstream.settings import load_settings
from support.index import space

pytestmark = pytest.mark.timeout(300)

MOMENT = datetime(2025, 11, 24, tzinfo=UTC)
KEYS = ["a", "b", "c.d", 'q"\\', "", "é\u2028", "$x"]
TEXTS = st.sampled_from(["", "a", "ab", "b", "5", "true", 'q"\\', "é\u2028", "$x", "A.*", "😀", "\uff5a", "\x01\n"])
NUMBERS = st.one_of(st.integers(-3, 6), st.sampled_from([0.1, 0.5, 5.0, -2.5, 1e300, 1e-7, 10**40, 2**53 + 1]))
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS)
ANY = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip
METADATA = st.dictionaries(st.sampled_from(KEYS), ANY, max_size=4)
PATHS = st.lists(st.sampled_from(KEYS), min_size=1, max_size=2)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "metadata": METADATA, "source": st.none() | TEXTS, "days": st.integers(0, 3),
            "token_count": st.integers(1, 4), "truncated": st.booleans(),
        }
    ), min_size=1, max_size=6,
)  # fmt: skip
SAME = ("eq", "ne")
ORDER = ("gt", "gte", "lt", "lte")


def condition(field, op, value):
    return st.fixed_dictionaries({"field": st.just(field), "op": op, "value": value})


def field_of(path):
    return "metadata" + "".join(f".{json.dumps(key)}" for key in path)


def of_metadata(path):
    field = field_of(path)
    return st.one_of(
        condition(field, st.sampled_from(SAME), SCALARS),
        condition(field, st.just("in"), st.lists(SCALARS, max_size=3)),
        condition(field, st.sampled_from(ORDER), NUMBERS | TEXTS),
        condition(field, st.just("exists"), st.booleans()),
        condition(field, st.just("contains"), ANY),
        condition(field, st.just("prefix"), TEXTS),
    )


TIMES = st.integers(0, 3).map(lambda days: (MOMENT + timedelta(days)).isoformat())
CONDITIONS = st.one_of(
    PATHS.flatmap(of_metadata),
    condition("metadata", st.just("contains"), METADATA),
    condition("source", st.sampled_from(SAME), st.none() | TEXTS),
    condition("source", st.just("in"), st.lists(st.none() | TEXTS, max_size=3)),
    condition("source", st.sampled_from((*ORDER, "contains", "prefix")), TEXTS),
    condition("source", st.just("exists"), st.booleans()),
    condition("id", st.sampled_from((*SAME, *ORDER, "prefix", "contains")), st.sampled_from(["0", "1", "3", ""])),
    condition("message_timestamp", st.sampled_from((*SAME, *ORDER)), TIMES),
    condition("token_count", st.sampled_from((*SAME, *ORDER)), NUMBERS),
    condition("truncated", st.sampled_from(SAME), st.booleans()),
)
TREES = st.recursive(
    CONDITIONS,
    lambda inner: st.one_of(
        st.fixed_dictionaries({"and": st.lists(inner, max_size=3)}),
        st.fixed_dictionaries({"or": st.lists(inner, max_size=3)}),
        st.fixed_dictionaries({"not": inner}),
    ),
    max_leaves=6,
)  # fmt: skip


def holds(tree, row):
    if "and" in tree:
        return all(holds(part, row) for part in tree["and"])
    if "or" in tree:
        return any(holds(part, row) for part in tree["or"])
    if "not" in tree:
        return not holds(tree["not"], row)
    field, op, value = tree["field"], tree["op"], tree["value"]
    if op == "ne":
        return not holds({**tree, "op": "eq"}, row)
    if field.startswith("metadata"):
        return of_json(row["metadata"], keys_of(field), op, value)
    return of_column(row[field], field, op, value)


def keys_of(field):
    rest, keys = field.removeprefix("metadata"), []
    while rest:
        key, end = json.JSONDecoder().raw_decode(rest[1:])
        keys.append(key)
        rest = rest[1 + end :]
    return keys


def of_json(metadata, keys, op, value):
    if op == "contains" and not (keys and isinstance(value, str)):
        for key in reversed(keys):
            value = {key: value}
        return contains(metadata, value)
    found = [metadata]
    for key in keys:
        found = [each[key] for each in unwrapped(found) if isinstance(each, dict) and key in each]
    if op == "exists":
        return bool(found) is value
    return any(compares(each, op, value) for each in unwrapped(found))


def unwrapped(found):
    return [each for one in found for each in (one if isinstance(one, list) else [one])]


def contains(whole, part, *, top=True):
    """As jsonb's @>."""
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(k in whole and contains(whole[k], v, top=False) for k, v in part.items())
    if isinstance(part, list):
        return isinstance(whole, list) and all(any(contains(w, p, top=False) for w in whole) for p in part)
    return same(whole, part)


def kind(value):
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


def exact(value):
    return Decimal(json.dumps(value)) if kind(value) == "number" else value


def same(one, other):
    return kind(one) == kind(other) and not isinstance(one, dict | list) and exact(one) == exact(other)


def compares(found, op, value):
    if op == "in":
        return any(same(found, each) for each in value)
    if op == "eq":
        return same(found, value)
    if kind(found) != kind(value):
        return False
    return of_column(exact(found), "", op, exact(value))


OPERATORS = {
    "exists": lambda found, value: (found is not None) is value,
    "eq": operator.eq,
    "in": lambda found, value: found in value,
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
    "contains": operator.contains,
    "prefix": str.startswith,
}


def of_column(found, field, op, value):
    if field == "message_timestamp":
        value = datetime.fromisoformat(value)
    if field == "token_count":
        value = exact(value)
    if found is None and op not in ("exists", "eq", "in"):
        return False
    return OPERATORS[op](found, value)


@pytest.fixture(scope="module")
def connection(postgres):
    with postgres.fresh_database() as name:
        wanted = load_settings(pgvector_host=postgres.host, pgvector_port=postgres.port, pgvector_db=name)
        store.prepare(wanted, space(2))
        with store.connect(wanted) as connection:
            yield connection


def put(connection, rows):
    connection.execute("TRUNCATE text_message_embeddings")
    for number, row in enumerate(rows):
        connection.execute(
            "INSERT INTO text_message_embeddings VALUES (%s, 't', '{1,0}', 'm', 'r', %s, %s, now(), %s::jsonb, %s, %s)",
            [str(number), row["source"], MOMENT + timedelta(row["days"]), json.dumps(row["metadata"]),
             row["token_count"], row["truncated"]],
        )  # fmt: skip


def found(connection, tree):
    sql, parameters = compile_filter(tree)
    query = SQL("SELECT id FROM text_message_vectors WHERE {}").format(sql)
    return {id for (id,) in connection.execute(query, parameters)}


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(rows=ROWS, trees=st.lists(TREES, min_size=4, max_size=8))
def test_a_filter_finds_what_the_model_finds(connection, rows, trees):
    put(connection, rows)
    known = [
        {**row, "id": str(number), "message_timestamp": MOMENT + timedelta(row["days"])}
        for number, row in enumerate(rows)
    ]
    for tree in trees:
        wanted = {row["id"] for row in known if holds(tree, row)}
        assert found(connection, tree) == wanted, tree


def test_what_cannot_be_stored_is_looked_for_as_it_was_stored(connection):
    put(connection, [{"metadata": {"a": "\ufffd"}, "source": None, "days": 0, "token_count": 1, "truncated": False}])
    for value in ("\x00", "\ud800"):
        assert found(connection, {"field": "metadata.a", "op": "eq", "value": value}) == {"0"}
        assert found(connection, {"field": "metadata", "op": "contains", "value": {"a": value}}) == {"0"}


def test_names_without_dots_need_no_quotes(connection):
    row = {"metadata": {"a": {"b c": [1, {"d": 2}]}}, "source": None, "days": 0, "token_count": 1, "truncated": False}
    put(connection, [row])
    for field in ("metadata.a.b c.d", 'metadata.a."b c".d'):
        assert found(connection, {"field": field, "value": 2}) == {"0"}


def test_an_index_on_metadata_serves_what_is_equal(connection):
    connection.execute("CREATE INDEX of_metadata ON text_message_embeddings USING gin (metadata jsonb_path_ops)")
    connection.execute("SET enable_seqscan = off")
    sql, parameters = compile_filter(
        {"and": [{"field": "metadata.a", "value": 7}, {"field": "metadata.n", "op": "gt", "value": 5}]}
    )
    query = SQL("EXPLAIN SELECT id FROM text_message_vectors WHERE {}").format(sql)
    plan = str(connection.execute(query, parameters).fetchall())
    connection.execute("RESET enable_seqscan; DROP INDEX of_metadata")
    assert "Bitmap Index Scan on of_metadata" in plan


def test_the_deepest_and_the_largest_filter_are_taken(connection):
    tree = {"field": "metadata.a", "value": 1}
    for _ in range(32):
        tree = {"not": tree}
    assert found(connection, tree) == set()
    found(connection, {"or": [{"field": "metadata.a", "op": "ne", "value": n} for n in range(1000)]})
    found(connection, {"or": [{"field": "token_count", "op": "ne", "value": n} for n in range(1000)]})
    with pytest.raises(InvalidRequest, match="deeper than 32"):
        compile_filter({"not": tree})
