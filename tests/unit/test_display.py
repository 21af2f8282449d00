"""Whatever a message, a header or another program says: no terminal obeys it."""

import ast
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import embedstream
from embedstream.audit.report import Dead, Finding, Outcomes, Report
from embedstream.cli import app
from embedstream.dead_letters import replay
from embedstream.dead_letters.letter import DeadLetter, Facts, Place
from embedstream.display import as_json, first_line, harmless, printable, say, table
from embedstream.doctor.check import Finding as Check
from embedstream.errors import ConfigError
from embedstream.kafka import Outgoing
from embedstream.search import answer
from embedstream.status.health import Health
from embedstream.status.read import Status

# Colour, window title, C1's CSI, carriage return, bell, an override of direction, an isolate, a line separator, a tag.
HOSTILE = "a\x1b[31mb\x1b]0;owned\x07c\x9b2Jd\re\x7ff\u202eg\u2066h\u2028i\U000e0041j"
TRICKS = [
    *map(chr, range(0x20)), *map(chr, range(0x7F, 0xA0)), "\u061c", "\u200e", "\u200f", "\u2028", "\u2029",
    *map(chr, range(0x202A, 0x202F)), *map(chr, range(0x2066, 0x2070)), "\U000e0041",
]  # fmt: skip
NOW = datetime(2026, 1, 31, tzinfo=UTC)


def tricks(text):
    return [character for character in text if character in TRICKS and character != "\n"]


def test_the_example_is_full_of_tricks():
    assert len(set(tricks(HOSTILE))) == 9


@pytest.mark.parametrize("trick", [*TRICKS, "\ud800"], ids=ascii)
def test_a_trick_becomes_a_mark(trick):
    assert printable(f"a{trick}b") == "a\ufffdb"
    assert harmless(f"a{trick}b") == ("a\nb" if trick == "\n" else "a\ufffdb")


@pytest.mark.parametrize("text", ["naïve café", "می‌خواهم", "👩‍👩‍👧", "שלום", "日本語\u3000", "a\u00a0b", "ก็"])
def test_ordinary_scripts_stay_as_they_are(text):
    assert printable(text) == harmless(text) == text
    assert json.dumps(text, ensure_ascii=False) == as_json(text)


@given(st.recursive(st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=5))
def test_json_says_the_same_without_tricks(facts):
    text = as_json(facts)
    assert json.loads(text) == facts
    assert not tricks(text)
    text.encode()


def test_json_keeps_what_is_hostile_as_escapes():
    assert json.loads(as_json({"id": HOSTILE, HOSTILE: 1})) == {"id": HOSTILE, HOSTILE: 1}
    assert not tricks(as_json([HOSTILE]))


def test_cells_and_first_lines_are_one_line_each():
    assert len(table(["id", "text"], [(f"a\nb{HOSTILE}", "x")]).split("\n")) == 2
    assert not tricks(table([HOSTILE], [(HOSTILE,)]))
    assert first_line(f"\n {HOSTILE}") == printable(HOSTILE.partition("\r")[0])


def test_what_is_said_has_its_lines(capsys):
    say("a\n\x1b[2Jb")
    say(ConfigError("\x1b[2J"), to_stderr=True)
    assert tuple(capsys.readouterr()) == ("a\n\ufffd[2Jb\n", "\ufffd[2J\n")


FACTS = Facts(Place(0, 1), NOW, HOSTILE, HOSTILE, HOSTILE, 1, "text-messages", Place(0, 0), 0, None)
LETTERS = [
    DeadLetter(FACTS, HOSTILE.encode(), value, ((HOSTILE, HOSTILE.encode()), ("plain", b"x")))
    for value in (HOSTILE.encode(), json.dumps({"text": HOSTILE}).encode(), b"\x1b\xff")
]
REPORT = Report(
    topic=HOSTILE, table=HOSTILE, messages=1, ids=1, outcomes=Outcomes(unexplained=1), expired=0, newer=0,
    dead_letters=(Dead(HOSTILE, HOSTILE, 1),), other_topics=0, sampled=0, kinds={"stale": 1},
    findings=(Finding("stale", HOSTILE, HOSTILE, HOSTILE),),
)  # fmt: skip
STATUS = Status(topic=HOSTILE, table=HOSTILE, job=HOSTILE, service=HOSTILE, health=Health("degraded", (HOSTILE,)))
HIT = answer.Hit(HOSTILE, 0.5, 0.5, HOSTILE, HOSTILE, NOW, {HOSTILE: HOSTILE})
ANSWER = answer.Answer((HIT,), "exact", complete=True, as_of={0: 1})


class Looks:
    def __init__(self, *_):
        pass

    def read(self):
        return STATUS


def replayed(*_, send, **__):
    return replay.Replayed(send(iter([Outgoing(HOSTILE.encode(), HOSTILE.encode())])), 0, 0)


def says(*answer):
    return lambda _, say, **__: [say(line) for line in answer]


def refuses(*_, **__):
    raise ConfigError(HOSTILE)


LETTER = "embedstream.dead_letters.letter"
COMMANDS = {
    "search": (["search", "x"], "embedstream.search.searcher.search", lambda *_: ANSWER),
    "audit": (["audit"], "embedstream.audit.audit", lambda *_: REPORT),
    "status": (["status"], "embedstream.status.read.Observer", Looks),
    "doctor": (["doctor"], "embedstream.doctor.examine", lambda *_: [Check("a", "FAIL", HOSTILE, HOSTILE)]),
    "list": (["dead-letters", "list"], f"{LETTER}.read", lambda *_: iter(LETTERS)),
    **{
        f"show {n}": (["dead-letters", "show", "0:1"], f"{LETTER}.read_one", lambda *_, each=each: each)
        for n, each in enumerate(LETTERS)
    },
    "export": (["dead-letters", "export"], f"{LETTER}.read", lambda *_: iter(LETTERS)),
    "replay": (["dead-letters", "replay", "--all", "--dry-run"], "embedstream.dead_letters.rehearsal.replay", replayed),
    "submit": (["submit"], "embedstream.submit.submit", says(HOSTILE)),
}  # fmt: skip


@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_prints_a_trick(monkeypatch, name, as_json):
    arguments, target, fake = COMMANDS[name]
    monkeypatch.setattr(target, fake)
    if as_json and name in ("submit", "export"):
        return
    shown = CliRunner().invoke(app, [*arguments, *(["--json"] if as_json else [])]).output
    assert "owned" in shown or name == "show 2"
    assert not tricks(shown)


def test_nor_does_an_error(monkeypatch, capsys):
    monkeypatch.setattr("embedstream.search.searcher.search", refuses)
    monkeypatch.setattr("sys.argv", ["embedstream", "search", "x"])
    with pytest.raises(SystemExit, match="2"):
        embedstream.cli.main()
    shown = capsys.readouterr().err
    assert "owned" in shown
    assert not tricks(shown)


PACKAGE = Path(embedstream.__file__).parent
FILES = [path for path in sorted(PACKAGE.rglob("*.py")) if path.name != "display.py" and "service" not in path.parts]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_is_printed_but_by_the_one_module_that_makes_it_harmless(path):
    """`print`, `typer.echo` and writing to standard output would get round it."""
    calls = [ast.unparse(node.func) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    assert not {"print", "typer.echo", "typer.secho", "sys.stdout.write"} & set(calls)
