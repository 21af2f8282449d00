import json
import re
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree as ET

import pytest
from typer.testing import CliRunner

from benchmarks import compare, report
from benchmarks.__main__ import SCENARIOS, app
from benchmarks.headlines import headlines, placed
from benchmarks.load import Shape, percentiles
from benchmarks.machine import circumstances
from benchmarks.measure import measure, ratios, summary
from benchmarks.peak import gflop
from benchmarks.peers.process import HERE, PeerFailed
from benchmarks.peers.streaming import STREAMING
from benchmarks.plan import WARM_UP, Contender, Plan, Skipped
from benchmarks.plot import bars
from benchmarks.scenarios.engine import PEERS
from benchmarks.scenarios.replay import Seen, rate
from benchmarks.shapes import rows, shapes
from benchmarks.texts import fingerprint, prose
from embedstream.decode.message import Rules

ROOT = Path(__file__).resolve().parents[2]


def plan(rounds=3):
    return Plan(rounds, 1, quick=True, directory=Path(), closing=ExitStack())


def scenario(entries, baseline="a"):
    return SimpleNamespace(TITLE="A title", FIGURE="rate", BASELINE=baseline, contenders=lambda _: iter(entries))


def result(rates, name="engine", quick=False, at="2026-01-01T00:00:00+00:00"):
    rounds = {contender: [{"rate": rate} for rate in own] for contender, own in rates.items()}
    entries = [
        Contender(contender, lambda number, own=own: {"rate": own[max(number, 0)]}) for contender, own in rates.items()
    ]
    entries.append(Skipped("left", "no wheel"))
    measured = measure(scenario(entries), plan(len(next(iter(rates.values())))), lambda _: None)
    assert measured["rounds"] == rounds
    settings = {"rounds": 3, "seed": 1, "quick": quick}
    facts = {"machine": {"cpu": "x", "flags": ["avx2"], "cpus_of_affinity_and_cgroup": 2, "memory_gib": 24, "busy": 0}}
    own = {
        "title": "A title",
        "figure": "rate",
        "settings": settings,
        "texts": "f",
        "at": at,
        "commit": "abc",
        "minutes": 4.2,
    }
    return {"scenario": name, "command": "c", "set": {}, "versions": {"python": "3.11"}, **own, **facts, **measured}


@pytest.mark.timeout(180)  # it parses the whole standard library
def test_texts_repeat_by_seed_and_are_distinct():
    texts = prose(500, "1/0")
    assert texts == prose(500, "1/0") != prose(500, "1/1")
    assert len(set(texts)) == 500
    assert fingerprint(texts) != fingerprint(texts[1:])


@pytest.mark.timeout(180)
def test_texts_have_the_lengths_of_prose():
    words = sorted(len(text.split()) for text in prose(1000, "1/0"))
    assert words[100] < 10
    assert 25 < sum(words) / len(words) < 60 < words[950]


def test_contenders_take_turns_and_the_warm_up_does_not_count():
    calls = []

    def contender(name):
        return Contender(name, lambda number: calls.append((number, name)) or {"rate": 1.0})

    measured = measure(scenario([contender("a"), contender("b")]), plan(2), lambda _: None)
    assert calls == [(number, name) for number in (WARM_UP, 0, 1) for name in "ab"]
    assert measured["rounds"] == {"a": [{"rate": 1.0}] * 2, "b": [{"rate": 1.0}] * 2}


def test_summary():
    assert summary([4.0, 1.0, 2.0]) == {"median": 2.0, "min": 1.0, "max": 4.0, "spread": 1.5}
    assert summary([0.0])["spread"] == 0


def test_ratios_are_taken_within_each_round():
    rounds = {"a": [{"rate": 1.0}, {"rate": 10.0}], "b": [{"rate": 2.0}, {"rate": 20.0}], "c": [{"other": 1.0}] * 2}
    assert ratios(rounds, "rate", "a") == {"b": {"to": "a", "figure": "rate", **summary([2.0, 2.0])}}
    assert ratios(rounds, "rate", None) == {}


def test_compare_tells_a_change_from_noise():
    before, after = result({"a": [1.0, 1.2], "b": [2.0, 2.2]}), result({"a": [1.1, 1.3], "b": [4.0, 4.1]})
    found = {(change.contender, change.figure): change for change in compare.changes(before, after)}
    assert not found["a", "rate"].clear
    assert found["b", "rate"].clear
    assert found["b", "rate"].share == pytest.approx(4.05 / 2.1 - 1)
    assert ("b", "rate / a") in found


def test_compare_warns_where_the_runs_differ():
    before = result({"a": [1.0]})
    after = {**before, "scenario": "service", "texts": "g", "machine": {**before["machine"], "cpu": "y"}}
    assert [line.split(":")[0] for line in compare.warnings(before, after)] == [
        "the scenarios differ", "the texts differ", "the machines differ (cpu)",
    ]  # fmt: skip


def test_report_takes_the_newest_whole_result():
    old, new = result({"a": [1.0]}), result({"a": [2.0]}, at="2026-01-02T00:00:00+00:00")
    quick = result({"a": [3.0]}, quick=True, at="2026-01-03T00:00:00+00:00")
    assert report.newest([new, quick, old], SCENARIOS) == [new]


def test_report_writes_page_and_plots(tmp_path):
    paths = list(report.write([result({"a": [1.0, 2.0], "b": [300.0, 400.0]})], tmp_path))
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == ["performance/engine.svg", "performance.md"]
    page = paths[1].read_text()
    assert "| b | 350 (300 to 400) | 250 (200 to 300) |" in page
    assert "Left out: left (no wheel)." in page


def test_numbers_have_the_digits_that_count():
    assert [report.number(value, 3) for value in (0.12345, 12.345, 1234.5)] == ["0.123", "12.3", "1,234"]
    assert [report.number(value, 6) for value in (0.9999512, 0.99999999)] == ["0.999951", "1"]


def test_a_plot_is_well_formed_and_names_each_contender():
    texts = [element.text for element in ET.fromstring(bars("a <title>", {"x & y": (1, 0.5, 2)})).iter()]
    assert "a <title>" in texts
    assert "x & y" in texts
    assert bars("empty", {})


def test_a_replay_is_timed_between_its_first_and_last_checkpoint():
    assert rate([Seen(0, 0), Seen(10, 100), Seen(11, 300), Seen(12, 500)]) == 200
    assert rate([Seen(0, 0), Seen(10, 500)]) == 50


def test_products_of_a_model():
    config = {"hidden_size": 4, "intermediate_size": 16, "num_hidden_layers": 2}
    assert gflop(config, [1]) == pytest.approx(2 * (2 * (4 * 16 + 2 * 64) + 16) / 1e9)
    assert gflop(config, [1, 1]) == 2 * gflop(config, [1])


def test_latencies_are_told_in_milliseconds():
    assert percentiles([0.1, 0.2, 0.3], (50,)) == {"p50_ms": pytest.approx(200)}
    assert str(Shape(64, 4)) == "64x4"


def test_a_streaming_peer_is_left_out_where_it_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_PEERS", str(tmp_path))
    peer = STREAMING[0]
    with pytest.raises(PeerFailed, match=f"no .venv-peers/{peer.package}: make bench-peers"):
        peer.version()
    site = tmp_path / peer.package / "lib" / "python3.11" / "site-packages"
    for directory in (site, tmp_path / peer.package / "bin"):
        directory.mkdir(parents=True)
    (tmp_path / peer.package / "bin" / "python").touch()
    with pytest.raises(PeerFailed, match="not installed"):
        peer.version()
    (site / f"{peer.package}-1.2.dist-info").mkdir()
    (site / f"{peer.package}-1.2.dist-info" / "METADATA").write_text(f"Name: {peer.package}\nVersion: 1.2\n")
    assert peer.version() == {peer.package: "1.2"}


@pytest.mark.parametrize("peer", STREAMING, ids=lambda peer: peer.package)
def test_a_streaming_peer_has_a_script_and_a_pinned_environment(peer):
    assert (HERE / peer.script).exists()
    pinned = [line for line in (HERE / f"{peer.package}.txt").read_text().splitlines() if line[:1] != "#"]
    assert all("==" in line for line in pinned)
    assert peer.package in [line.partition("==")[0].partition("[")[0] for line in pinned]


def test_make_installs_the_environment_of_every_peer():
    [line] = re.findall(r"^PEERS := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(line.split()) == {home for _, home in PEERS.values()} | {peer.package for peer in STREAMING}


def test_the_command_compares_files(tmp_path):
    path = tmp_path / "one.json"
    path.write_text(json.dumps(result({"a": [1.0], "b": [2.0]})))
    done = CliRunner().invoke(app, ["compare", str(path), str(path)])
    assert done.exit_code == 0
    assert "within the spread" in done.output
    assert CliRunner().invoke(app, ["run", "nothing"]).exit_code == 2


def test_circumstances_hold_no_secret(monkeypatch):
    monkeypatch.setenv("PGVECTOR_PASSWORD", "hidden")
    facts = circumstances()
    assert "hidden" not in json.dumps(facts)
    assert facts["machine"]["cpus_of_affinity_and_cgroup"] >= 1


def test_the_page_is_what_the_results_give(tmp_path):
    results = [json.loads(path.read_text()) for path in sorted((ROOT / "benchmarks" / "results").glob("*.json"))]
    for path in report.write(report.newest(results, SCENARIOS), tmp_path):
        committed = ROOT / "docs" / path.relative_to(tmp_path)
        assert committed.read_text() == path.read_text(), "run `python -m benchmarks report`"
    readme = (ROOT / "README.md").read_text()
    assert readme == placed(readme, headlines(report.newest(results, SCENARIOS))), "run `python -m benchmarks report`"


def test_headlines_are_ratios_of_the_same_rounds():
    engine = result({"sentence-transformers": [10.0, 30.0], "embedstream": [40.0, 90.0]})
    text = headlines([engine])
    assert "| engine, f32 | 65 texts/s | 3.50 times sentence-transformers |" in text
    service = {**result({"engine": [20.0], "64x4 base64": [21.0], "1x1 JSON": [1.0]}), "scenario": "service"}
    assert "| service, 64 texts a request, 4 connections | 21 texts/s | 1.05 times engine |" in headlines([service])
    assert placed("a\n<!-- headlines -->\nold\n<!-- /headlines -->\nb", text).count(text) == 1
    assert headlines([]) == ""


def test_the_shapes_hold_the_same_messages():
    """What is compared is the form alone: each gives the id, the text and the metadata of its row."""
    texts = ["A text.", "Another \u00e9."]
    for name, shape in shapes(Rules(None, 1000)).items():
        for text, (message,) in zip(texts, map(shape.decode, shape.records(rows(texts))), strict=True):
            assert text in message.text, name
            assert message.id.startswith("article-"), name
            assert ("number" in message.metadata) == (name != "plain text"), name
