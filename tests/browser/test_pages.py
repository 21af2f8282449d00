"""Every page, as people see it: in both colour schemes, at the width of a telephone, by keyboard."""

import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe

from embedstream.audit import Finding, Repair, Report, Wishes
from embedstream.audit.report import Dead, Outcomes
from embedstream.console import atlas, indexing, pipelines
from embedstream.console.auditing import Audited
from embedstream.console.letters import Order, Rehearsed, Shown
from embedstream.console.tasks import Task
from embedstream.dead_letters.letter import DeadLetter, Facts, Filter, Place
from embedstream.dead_letters.listing import Mark, Span, Survey
from embedstream.dead_letters.rehearsal import Rehearsal
from embedstream.dead_letters.replay import Replayed
from embedstream.decode.message import Record
from embedstream.display import as_json
from embedstream.doctor.check import Finding as Check
from embedstream.index.recall import Recall
from embedstream.index.seen import Needs, Seen
from embedstream.index.state import Index
from embedstream.journey.report import Entry, Journey, Looked, Row, Version
from embedstream.search.answer import Answer, Hit, Places
from embedstream.search.neighbours import Neighbours, Point, graph
from embedstream.status.health import Health
from embedstream.status.read import Partition, Status
from support.console import console

MOMENT = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
NASTY = "<img src=x onerror=document.title='owned'> \x1b[31m & \u202e " + "long" * 60
STATUS = Status(
    "text-messages", "text_message_embeddings", job="RUNNING", messages=4248, lag=12, unread=12, rows=4200, deleted=3,
    partitions=[Partition(0, 2100, 2112, 12), Partition(1, 2136, 2136, 0)], oldest_unread_seconds=3.2, rate=42.0,
    eta_seconds=1.0, dead_letters=2, since_checkpoint_seconds=4.0, failed_checkpoints=0, service="all-MiniLM-L6-v2",
    outcomes={"stored": 4200, "rejected": 2}, counts={"embedded_texts": 4200}, latency_ms={"p50": 40, "p99": 150},
    health=Health("degraded", [f"a reason with {NASTY}"]),
)  # fmt: skip
HIT = Hit(
    "os.walk", 0.61, 0.03, f"{NASTY} walk", "docs", MOMENT, {"kind": "function", "large": 2**60 + 1},
    places=Places(1, 2), highlights=((0, 4),),
)  # fmt: skip
ANSWER = Answer((HIT,), "index", complete=False, as_of={0: 2100, 1: 2136}, next_offset=10)
JOURNEY = Journey(
    "os.walk", "text-messages", "text_message_embeddings",
    versions=(
        Version("os.walk", 0, 7, 0, MOMENT, MOMENT, "message", "superseded", "the first text", 14),
        Version("os.walk", 0, 9, 0, MOMENT, MOMENT, "message", "stored", NASTY, 400),
    ),
    row=Row(NASTY, 400, "docs", {"kind": "function"}, MOMENT, MOMENT, "all-MiniLM-L6-v2", "1", 20, truncated=False),
    ledger=Entry("stored", MOMENT, "text-messages", 0, 9, 0, MOMENT), dead_letters=(), finding=None,
    looked_at=(Looked(0, 0, 10, 0, 20),),
)  # fmt: skip
EXAMINED = [
    Check("service.reachable", "ok", "it answers", None),
    Check("broker.topic", "FAIL", f"the topic is {NASTY}", "embedstream submit makes it"),
    Check("clock.database", "warn", "it is 3 s behind", None),
]
FACTS = Facts(
    Place(0, 17), MOMENT, "decode", "not_json", f"is no JSON: {NASTY}", 2, "text-messages", Place(1, 41), 0, None
)
LETTER = DeadLetter(FACTS, b"os.walk", json.dumps({"text": NASTY}).encode(), (("trace", b"\xff" * 40),))
SURVEY = Survey(
    [FACTS, replace(FACTS, place=Place(1, 3))], Counter({("decode", "not_json"): 4000}),
    {FACTS.place: Mark("replayed", Place(1, 52)), Place(1, 3): Mark("not_known")}, [Span(0, 10, 18, 0)],
)  # fmt: skip
RECORD = {"partition": 1, "key": "os.walk", "size": 90, "begins": NASTY, "becomes": "stored as os.walk"}
REHEARSED = Rehearsed(
    Order("dead letters 0:17", Filter(), "{}", again=False),
    Rehearsal(Replayed(1, 2, 3), [RECORD], frozenset([FACTS.place])),
)
REPORT = Report(
    "text-messages", "text_message_embeddings", 4248, 4200, Outcomes(stored=4200, superseded=40, dead=2, unexplained=6),
    (Dead("decode", "not_json", 2),), 0, 0, 0, 10, {"missing": 40, "moved": 1},
    (Finding("missing", NASTY, "0/7", "1/9"),), troubles=(f"a trouble with {NASTY}",),
    repair=Repair(5, 1, 2, 0, dry_run=True),
)  # fmt: skip
PATHS = (
    "/",
    "/search",
    "/search?q=walk&where=kind%3Dfunction",
    "/message/",
    "/message/os.walk",
    "/dead-letters",
    "/dead-letters/0:17",
    "/dead-letters/replays/one",
    "/audit",
    "/doctor",
    "/index",
    "/index/drop?kind=vector",
    "/map",
    "/pipelines",
    "/settings",
)
NEEDS = Needs(4200, 512, fits=False, workers=2)
SEEN = [
    Seen("vector", Index("valid", "t_hnsw", f"CREATE INDEX {NASTY}", 5 * 2**20), NEEDS),
    Seen("words", Index("building", phase="loading", percent=41.6, tuples=1000), NEEDS),
    Seen("metadata", Index("invalid", "t_meta", NASTY, 8192), NEEDS),
]
RECALL = Recall("t", 4200, "t_hnsw", 10, None, 20, 0.93, 0.5, 8.1, 150.0)
POINTS = tuple(Point(f"id/{n}", NASTY, 300, "docs", {"kind": "abc"[n % 3]}) for n in range(40))
GRAPH = Neighbours(40, POINTS, *graph(np.random.default_rng(7).standard_normal((40, 8))))
RECORDS = [
    Record(b"k", b'{"id": "1", "text": "<b>hello</b>", "metadata": {"n": 1}}', "t", 0, 7, 0),
    Record(None, b"\xff", "t", 0, 8, 0),
]


def done(key, result):
    return Task(key, MOMENT, state="done", result=result, ended=datetime(2999, 1, 1, tzinfo=UTC))


@pytest.fixture
def app(monkeypatch):
    made = console(*[STATUS] * 5, answer=ANSWER)
    monkeypatch.setattr(indexing, "see", lambda _: SEEN)
    monkeypatch.setattr(pipelines, "latest", lambda *_: RECORDS)
    tasks = made.extensions["parts"].tasks
    results = {
        "message embedstream False os.walk": JOURNEY, "doctor embedstream": EXAMINED,
        "letters embedstream None None ": SURVEY, "rehearsal embedstream one": REHEARSED,
        "letter embedstream 0:17": Shown(LETTER, Mark("not_known"), ["os.walk", NASTY], '{"text": "<b>"}'),
        "index recall None embedstream": RECALL, "map embedstream": as_json(atlas.facts_of(GRAPH, hides_texts=False)),
        "try embedstream": pipelines.look(made.extensions["parts"].settings, 2),
    }  # fmt: skip
    for key, result in results.items():
        tasks._tasks[key] = done(key, result)
    made.extensions["parts"].audits["embedstream"] = Audited(REPORT, Wishes(dry_run=True), MOMENT)
    return made


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", PATHS)
def test_everybody_can_use_every_page(app, serve, tab, path, scheme):
    page = tab(serve(app), scheme).open(path)
    found = Axe().run(page).response["violations"]
    assert [(each["id"], [node["html"][:200] for node in each["nodes"]]) for each in found] == []
    assert page.title() != "owned"
    assert page.locator("h1").count() == 1


@pytest.mark.parametrize("path", PATHS)
def test_a_telephone_is_wide_enough(app, serve, tab, path):
    page = tab(serve(app), width=360).open(path)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_search_needs_no_mouse(app, serve, tab):
    page = tab(serve(app)).open("/")
    page.keyboard.press("/")
    page.wait_for_url("**/search")
    page.keyboard.press("/")
    page.keyboard.type("walk")
    page.keyboard.press("Enter")
    page.get_by_role("link", name="os.walk").wait_for()
    assert "q=walk" in page.url
    for key in ("Escape", "g", "d"):
        page.keyboard.press(key)
    page.wait_for_url("**/doctor")


def test_the_numbers_move_by_themselves_and_times_are_local(app, serve, tab):
    page = tab(serve(app)).open("/")
    assert page.locator(".health time").get_attribute("title").endswith("UTC")
    parts = app.extensions["parts"]
    parts.chosen(None).watcher._observer.readings = [Status("text-messages", "t", job="RUNNING", messages=9999)]
    parts.chosen(None).watcher.look()
    page.get_by_text("9,999").wait_for(timeout=6000)
    assert page.locator("#chart-rate canvas").count() == 1


def test_a_page_is_small_and_fast(app, serve, tab):
    """First paint within 300 ms is for a quiet machine: what is bounded here is what is sent."""
    page = tab(serve(app)).open("/")
    sizes = page.evaluate("performance.getEntriesByType('resource').map((each) => each.transferSize)")
    assert 0 < sum(sizes) < 60_000


def test_the_map_shows_what_is_near_what(app, serve, tab):
    page = tab(serve(app)).open("/map")
    page.locator("#map-canvas").wait_for(timeout=30_000)
    assert page.locator("#map-state").text_content() == "40 rows, all."
    assert page.locator("#map-legend li").all_text_contents() == ["a", "b", "c"]
    page.fill("#map-id", "id/3")
    page.keyboard.press("Enter")
    assert page.locator("#map-chosen tbody tr").count() == 16
    assert page.locator("#map-chosen p a").get_attribute("href") == "/message/id/3"
    page.fill("#map-id", "nowhere")
    page.keyboard.press("Enter")
    page.get_by_text("No row of the map has this id").wait_for()


def test_what_the_map_lights_up_is_said(app, serve, tab):
    page = tab(serve(app)).open("/map")
    page.locator("#map-canvas").wait_for(timeout=30_000)
    page.fill("#q", "walk")
    page.keyboard.press("Enter")
    page.get_by_text("0 of the 1 rows that are nearest to the words are on the map.").wait_for()


def test_a_drop_asks_and_can_be_left(app, serve, tab):
    page = tab(serve(app)).open("/index")
    page.locator("#drop-vector").click()
    page.get_by_role("button", name="Keep it").click()
    page.wait_for_url("**/index?pipeline=embedstream")
