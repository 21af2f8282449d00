"""The page of the audit, over reports that a test makes up."""

import re
import threading
import time
from pathlib import Path

import pytest
from pydantic import SecretStr

from embedstream.audit import Finding, Repair, Report, Wishes
from embedstream.audit.report import Outcomes
from embedstream.console import auditing
from embedstream.errors import ConfigError
from support.console import console

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "audit.md"
LOCAL = {"base_url": "http://localhost:8083"}
NASTY = "<script>alert('x')</script>"
EQUAL = Report("in", "t", 5, 4, Outcomes(stored=4, superseded=1), (), 0, 0, 0, 0, {}, ())
UNEQUAL = Report(
    "in", "t", 5, 4, Outcomes(stored=2, unexplained=3), (), 0, 0, 0, 0, {"missing": 30, "moved": 1},
    (Finding("missing", NASTY, None, "0/9007199254740993"),), troubles=("a trouble",),
)  # fmt: skip
MENDABLE = Repair(2, 1, 0, 0, dry_run=True)


class Audits:
    """Answers with a report; while it is held, it is under way."""

    def __init__(self):
        self.report = EQUAL
        self.asked = []
        self.go_on = threading.Event()
        self.go_on.set()

    def audit(self, _settings, wishes, watch):
        self.asked.append(wishes)
        with watch("reading in", 10) as update:
            for number in range(3):
                update(number)
            while not self.go_on.wait(0.005):
                update(3)
        if isinstance(self.report, Exception):
            raise self.report
        return self.report


@pytest.fixture
def audits(monkeypatch):
    made = Audits()
    monkeypatch.setattr(auditing.proving, "audit", made.audit)
    yield made
    made.go_on.set()


@pytest.fixture
def client(audits):
    return console().test_client()


def get(client, path="/parts/audit"):
    answer = client.get(path, **LOCAL)
    assert answer.status_code == 200
    return answer.text


def post(client, path="/audit", status=303, **form):
    answer = client.post(path, data=form, **LOCAL)
    assert answer.status_code == status, answer.text
    return answer.text


def until(client, condition):
    deadline = time.monotonic() + 10
    while not condition(text := get(client)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert condition(text), text
    return text


def done(client, **form):
    post(client, **form)
    return until(client, lambda text: "every 1s" not in text)


def test_before_the_first_one_it_says_what_it_costs_and_how_to_begin(client):
    text = get(client, "/audit")
    assert "it costs" in text
    assert "No report yet" in text
    assert "embedstream audit" in text


def test_an_equal_table_closes(client):
    text = done(client)
    assert "<h2>Equal</h2>" in text
    assert "closes: 5 = 4 + 1 + 0 + 0 + 0 + 0 + 0 + 0" in text
    assert 'data-copy="embedstream audit"' in text


def test_what_is_found_leads_to_its_journey(client, audits):
    audits.report = UNEQUAL
    text = done(client)
    assert "not equal: 30 missing, 1 moved" in text
    assert "/message/%3Cscript%3E" in text
    assert "<script>alert" not in text
    assert "0/9007199254740993" in text
    assert "and 29 more" in text
    assert "embedstream audit --limit 30" in text
    assert "a trouble" in text


def test_every_kind_of_finding_is_said_in_words():
    findings = REFERENCE.read_text().split("## Findings")[1].split("## Repair")[0]
    kinds = re.findall(r"^\| `(\w+)` \|", findings, flags=re.MULTILINE)
    assert "missing" in kinds
    assert set(kinds) <= auditing.KINDS.keys()


def test_a_sample_is_embedded_again(client, audits):
    text = done(client, sample="100")
    assert audits.asked == [Wishes(sample=100)]
    assert "embedstream audit --sample 100" in text
    for wrong in ("-1", "x", "10001", "1.5"):
        post(client, status=400, sample=wrong)


def test_a_second_one_is_refused(client, audits):
    audits.go_on.clear()
    post(client)
    assert "wait for its end, or cancel it" in post(client, status=409)
    assert "reading in: 3 of 10" in until(client, lambda text: "reading in: 3" in text)
    audits.go_on.set()
    until(client, lambda text: "every 1s" not in text)
    assert len(audits.asked) == 1


def test_it_can_be_cancelled_and_the_last_report_stays(client, audits):
    done(client)
    audits.go_on.clear()
    post(client)
    assert "<h2>Equal</h2>" in until(client, lambda text: "reading in" in text)
    post(client, "/audit/cancel")
    text = until(client, lambda text: "every 1s" not in text)
    assert "was cancelled" in text
    assert "<h2>Equal</h2>" in text


def test_what_goes_wrong_is_said_and_the_last_report_stays(client, audits):
    done(client)
    audits.report = ConfigError("there is no topic")
    text = done(client)
    assert "there is no topic" in text
    assert "<h2>Equal</h2>" in text


def mendable(client, audits, repair=MENDABLE):
    audits.report = Report(**{**vars(UNEQUAL), "repair": repair})
    text = done(client, dry_run="1")
    return text.split('name="of" value="')[1].split('"')[0] if 'name="of"' in text else None


def test_a_repair_is_what_was_shown(client, audits, caplog):
    name = mendable(client, audits)
    assert "2 would be sent again, 1 broken rows" in get(client)
    audits.report = Report(**{**vars(UNEQUAL), "repair": MENDABLE._replace(dry_run=False)})
    with caplog.at_level("INFO"):
        post(client, "/audit/repair", of=name)
        text = until(client, lambda text: "What the repair did" in text)
    assert audits.asked == [Wishes(dry_run=True), Wishes(repair=True)]
    assert "once the job has taken what was sent again" in text
    assert "2 sent again" in caplog.text
    post(client, "/audit/repair", status=409, of=name)


def test_nothing_is_repaired_that_was_not_shown(client, audits):
    post(client, "/audit/repair", status=409, of="")
    audits.report = UNEQUAL
    done(client)
    assert 'name="of"' not in get(client)
    name = mendable(client, audits)
    done(client, dry_run="1")
    post(client, "/audit/repair", status=409, of=name)
    assert all(not wishes.repair for wishes in audits.asked)


def test_what_a_repair_cannot_mend_has_no_button(client, audits):
    assert mendable(client, audits, Repair(0, 0, 0, 4, dry_run=True)) is None
    assert "nothing that a repair could do" in get(client)


def test_who_only_reads_starts_ends_and_repairs_nothing(audits):
    client = console(console_api_key=SecretStr("w"), console_read_key=SecretStr("r")).test_client()
    client.post("/login", data={"key": "r"}, **LOCAL)
    assert "may only look" in get(client, "/audit")
    for path in ("/audit", "/audit/cancel", "/audit/repair"):
        post(client, path, status=403)
    assert audits.asked == []
