"""The page of the indexes, over a table."""

import pytest

from embedstream import store
from embedstream.console.app import create_app
from embedstream.console.parts import Parts
from support.console import until
from support.index import NAME, fill, held_build, look, space

LOCAL = {"base_url": "http://localhost:8083"}


@pytest.fixture
def client():
    """Makes the client of a console over settings."""
    made = []

    def make(settings):
        made.append(Parts.of(settings))
        return create_app(made[-1]).test_client()

    yield make
    for parts in made:
        parts.close()


def test_it_is_built_measured_and_dropped_by_hand(database, client):
    store.prepare(database, space(64))
    fill(database, 6000, 64)
    with store.connect(database) as connection:
        connection.execute("ANALYZE text_message_embeddings")
    browser = client(database)

    def page():
        return browser.get("/parts/index", **LOCAL).text

    assert "Vector index: none" in page()
    assert "over about 6,000 rows" in page()
    for kind in ("vector", "words", "metadata"):
        browser.post(f"/index/build?kind={kind}", **LOCAL)
        until(lambda kind=kind: look(database, kind).state == "valid", 60)
    until(lambda: page().count(": valid</h2>") == 3)
    assert NAME in page()
    browser.post("/parts/recall", data={"rows": "3"}, **LOCAL)
    until(lambda: "% of the 10 nearest rows are found" in browser.get("/parts/recall", **LOCAL).text, 60)
    browser.post("/index/drop?kind=words", **LOCAL)
    until(lambda: "Word index: none" in page(), 60)
    assert "until a backlog has come and gone" in page()
    assert look(database).state == "valid"


def test_a_build_is_watched_whoever_began_it_and_its_drop_ends_it(filled, client):
    browser = client(filled)
    with held_build(filled) as failures:
        until(lambda: "old snapshots" in browser.get("/parts/index", **LOCAL).text)
        browser.post("/index/build?kind=vector", **LOCAL)
        until(lambda: "is being built already (backend" in browser.get("/parts/index", **LOCAL).text)
        browser.post("/index/drop?kind=vector", **LOCAL)
        until(lambda: failures, 30)
    until(lambda: look(filled).state == "none", 30)


def test_what_this_console_builds_it_stops(filled, client):
    browser = client(filled)
    with store.connect(filled) as reader:
        reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        reader.execute("SELECT 1")
        browser.post("/index/build?kind=vector", **LOCAL)
        until(lambda: "old snapshots" in browser.get("/parts/index", **LOCAL).text, 30)
        browser.post("/index/stop?kind=vector", **LOCAL)
        until(lambda: "The build was stopped" in browser.get("/parts/index", **LOCAL).text, 30)
        assert look(filled).state in ("none", "invalid")


def test_before_there_is_a_table_the_page_says_what_to_do(database, client):
    browser = client(database)
    assert "there is no table" in browser.get("/parts/index", **LOCAL).text
    browser.post("/parts/recall", **LOCAL)
    until(lambda: "there is no table" in browser.get("/parts/recall", **LOCAL).text)
