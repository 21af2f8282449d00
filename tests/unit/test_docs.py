"""What the documents say is held to the code where that is cheap."""

import dataclasses
import re
from importlib import resources
from pathlib import Path
from typing import get_args

import pytest

from embedstream import doctor, starts
from embedstream.audit.report import Outcomes, Report
from embedstream.ingest import Kind
from embedstream.settings import Settings
from embedstream.space import Space
from embedstream.status.read import Partition, Status
from embedstream.store import lacking_rights

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
POSTGRES = (ROOT / "docs/howto/your-postgres.md").read_text()
TABLE = "text_message_embeddings"

of_each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def anchors(page):
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@of_each_page
def test_every_link_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        path, _, anchor = target.partition("#")
        if not path.startswith(("http://", "https://")):
            found = page.parent / path if path else page
            assert found.exists(), target
            assert not anchor or anchor in anchors(found), target


@of_each_page
def test_every_path_of_ours_is_there(page):
    for path in re.findall(r"`((?:tests|src|docs|deploy|tools|requirements)/[\w./-]+)`", page.read_text()):
        assert (ROOT / path).exists(), path


@of_each_page
def test_every_setting_that_is_named_can_be_set(page):
    ours = {name.upper() for name in Settings.model_fields}
    prefixes = "|".join({f"{name.partition('_')[0]}_" for name in ours if "_" in name} - {"LOG_", "MAX_"})
    others = (ROOT / "compose.yaml").read_text() + (ROOT / "Makefile").read_text()
    for name in set(re.findall(rf"`((?:{prefixes})[A-Z0-9_]+)[`=]", page.read_text())):
        assert name in ours or name.removesuffix("_FILE") in ours or name in others or name in ELSEWHERE, name


ELSEWHERE = {"FLINK_LIB_DIR", "HF_HOME"}  # Flink's own, and Hugging Face's


@of_each_page
def test_every_check_that_is_named_is_one_of_doctor_s(page):
    names = {check.name for check in (*doctor.CHECKS, *doctor.mapping.CHECKS)}
    groups = "|".join({name.partition(".")[0] for name in names})
    assert set(re.findall(rf"`((?:{groups})\.[a-z_]+)`", page.read_text())) <= names


def rows(text, heading):
    """The first cells of the table that follows."""
    table = text[text.index(heading) :].partition("|---")[2].partition("\n\n")[0]
    return re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| ([^|]*) \|", table, flags=re.MULTILINE)))


@pytest.mark.parametrize(
    ("relation", "heading", "elsewhere"),
    [
        ("progress", "`<table>_progress`, a row for each", set()),
        ("space", "`<table>_space` has the model", {"only_row", *Space._fields}),
    ],
)
def test_every_column_is_explained(relation, heading, elsewhere):
    files = [resources.files("embedstream.sql") / name for name in ("schema.sql", "migrate.sql")]
    schema = "\n".join(file.read_text(encoding="utf-8") for file in files)
    body = re.search(rf"CREATE TABLE IF NOT EXISTS {{{relation}}} \((.*?)^\)", schema, flags=re.DOTALL | re.MULTILINE)
    columns = set(re.findall(r"^    (\w+) (?:text|integer|bigint|timestamptz|boolean)", body[1], flags=re.MULTILINE))
    columns |= set(re.findall(rf"ALTER TABLE {{{relation}}} ADD COLUMN IF NOT EXISTS (\w+)", schema))
    assert len(columns) > 7
    assert set(rows(POSTGRES, heading)) == columns - elsewhere


class Nobody:
    """A connection of a user who may do nothing."""

    def execute(self, *_):
        return self

    def fetchone(self):
        return (False,)


def test_the_grants_are_all_that_the_job_needs():
    grant = re.search(r"GRANT (SELECT.*?)\n\s+ON (.*?)\n\s+TO app;", POSTGRES, flags=re.DOTALL)
    given = {f'{right} on "{name}"' for right in grant[1].split(", ") for name in grant[2].split(", ")}
    wanted = set(lacking_rights(Nobody(), Settings()))
    assert wanted
    assert wanted <= given


def test_the_rights_of_the_job_are_those_that_doctor_asks_for():
    """Cell by cell, for who grants no more."""
    _, *cells = re.search(r"^\| the job (.*)$", POSTGRES, flags=re.MULTILINE)[0].strip("| ").split(" | ")
    suffixes = ("", "_ledger", "_progress", "_space")
    told = {f'{right} on "{TABLE}{suffix}"' for suffix, cell in zip(suffixes, cells, strict=False)
            for right in cell.strip(" |").split(", ")}  # fmt: skip
    assert told == set(lacking_rights(Nobody(), Settings()))


def test_every_figure_is_explained():
    metrics = (ROOT / "docs/reference/metrics.md").read_text()
    for each in (*dataclasses.fields(Status), *dataclasses.fields(Partition)):
        assert f"`{each.name}`" in metrics, each.name
    assert all(f"| `{kind}` | counter" in metrics for kind in get_args(Kind))
    audit = (ROOT / "docs/reference/audit.md").read_text()
    figures = [each.name for each in dataclasses.fields(Report) if each.type == "int"]
    assert len(figures) > 7
    assert [name for name in (*Outcomes._fields, *figures) if f"`{name}`" not in audit] == []


def test_every_reason_for_a_beginning_is_explained():
    text = (ROOT / "docs/explanation/architecture.md").read_text()
    written = re.findall(r'why = (?:committed, |progress\.next, )?"([^"]+)"', Path(starts.__file__).read_text())
    reasons = [*written, *starts._ANEW.values()]
    assert len(reasons) > 5
    assert [reason for reason in reasons if f"`{reason}`" not in text] == []
