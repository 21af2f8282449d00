"""`embedstream migrate` on the command line; like cli.py it imports what a command needs inside of it."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from embedstream.display import as_json, progress, say
from embedstream.errors import ConfigError
from embedstream.options import AsJson, OfPipeline, command_group
from embedstream.pipelines.choice import pipeline_settings

if TYPE_CHECKING:
    from embedstream.migrate.state import Step
    from embedstream.settings import Settings

app = command_group(
    "Move a table to another model while it is written and searched: a second table is filled from the stored texts, "
    "and takes the name at the cut-over."
)

Share = Annotated[
    float, typer.Option(min=0.01, max=1, help="Work for at most this share of the time, and leave the rest to the job.")
]
DEFAULT_SHARE = 0.25


@app.command()
def start(
    service: Annotated[
        str, typer.Option(metavar="URL", help="Service of the other model, at an address that the job can reach, too.")
    ],
    share: Share = DEFAULT_SHARE,
    pipeline: OfPipeline = None,
    json: AsJson = False,
) -> None:
    """Begin, and work until the other table lacks nothing; Ctrl-C ends the work, but not the migration.

    Run again, it goes on where it was. While messages wait to be read, it rests.

    Example: embedstream migrate start --service http://localhost:5001
    """
    from embedstream.migrate.begin import begin

    settings = pipeline_settings(pipeline)
    begin(settings, _url(service), share)
    _work(settings, share, json=json)


@app.command()
def resume(share: Share = DEFAULT_SHARE, pipeline: OfPipeline = None, json: AsJson = False) -> None:
    """Go on with a migration, paused or not, until the other table lacks nothing.

    Example: embedstream migrate resume --share 0.5
    """
    from embedstream.migrate.begin import unpause

    settings = pipeline_settings(pipeline)
    unpause(settings, share)
    _work(settings, share, json=json)


@app.command()
def pause(pipeline: OfPipeline = None, json: AsJson = False) -> None:
    """Have whoever embeds for the other table stop; the table's changes still go to it, without vectors.

    Example: embedstream migrate pause
    """
    from embedstream.migrate.begin import pause as rest

    settings = pipeline_settings(pipeline)
    rest(settings)
    _show(settings, json=json)


@app.command()
def status(pipeline: OfPipeline = None, json: AsJson = False) -> None:
    """Show how far the migration is, and when it will be done.

    Example: embedstream migrate status --json
    """
    _show(pipeline_settings(pipeline), json=json)


@app.command("cut-over")
def cut_over(pipeline: OfPipeline = None, json: AsJson = False) -> None:
    """Give the other table the name, in one transaction; refused while anything is missing of it.

    Example: embedstream migrate cut-over
    """
    _switch(pipeline_settings(pipeline), "cut-over", json=json)


@app.command("roll-back")
def roll_back(pipeline: OfPipeline = None, json: AsJson = False) -> None:
    """Give the name back to the table before; refused while anything is missing of that.

    Example: embedstream migrate roll-back
    """
    _switch(pipeline_settings(pipeline), "roll-back", json=json)


@app.command()
def finish(pipeline: OfPipeline = None, json: AsJson = False) -> None:
    """After the cut-over: drop the table before. There is no way back then.

    Example: embedstream migrate finish
    """
    settings = pipeline_settings(pipeline)
    facts = _end(settings, "finish")
    if json:
        say(as_json(facts))
        return
    say(f"table {settings.pgvector_table} holds vectors of {facts['space']}, and the one before is gone")
    if facts["service"] not in (None, settings.embedding_service_url):
        say(f"set EMBEDDING_SERVICE_URL={facts['service']}, here and where the job is submitted")
        say("until then it is known from the table")


@app.command()
def abort(pipeline: OfPipeline = None, json: AsJson = False) -> None:
    """Before the cut-over: give the migration up, and drop the table that was to follow.

    Example: embedstream migrate abort
    """
    settings = pipeline_settings(pipeline)
    facts = _end(settings, "abort")
    text = f"table {settings.pgvector_table} holds vectors of {facts['space']}, as before"
    say(as_json(facts) if json else text)


def _url(given: str) -> str:
    url = given.rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise ConfigError(f"--service {given!r}: it must start with http:// or https://")
    if "@" in url.partition("://")[2].partition("/")[0]:
        raise ConfigError("--service: it must have no user and no password in it: it is written down with the table")
    return url


def _work(settings: Settings, share: float, *, json: bool) -> None:
    from embedstream.migrate.throttle import Throttle, Watched, lag_of
    from embedstream.migrate.work import work

    throttle = Throttle(share, Watched(partial(lag_of, settings)))
    work(settings, throttle, progress, say if not json else lambda _: None)
    _show(settings, json=json)


def _show(settings: Settings, *, json: bool) -> None:
    from embedstream import store
    from embedstream.migrate.standing import as_lines, read_standing

    with store.database(settings) as connection:
        standing = read_standing(connection, settings)
    if json:
        say(as_json({"migration": standing and asdict(standing) | {"is_ready": standing.is_ready}}))
    else:
        say(as_lines(standing) if standing else f"table {settings.pgvector_table} is not being migrated")


def _switch(settings: Settings, step: Step, *, json: bool) -> None:
    from embedstream.migrate.swap import switch

    done = switch(settings, step)
    if json:
        say(as_json({"table": settings.pgvector_table, **done._asdict(), "space": str(done.space)}))
        return
    say(
        f"table {settings.pgvector_table} holds vectors of {done.space} now: readers waited for "
        f"{done.blocked_ms:.0f} ms, writers for {done.waited_ms:.0f} ms"
    )
    then = "roll-back, or migrate finish" if step == "cut-over" else "cut-over, or migrate abort"
    say(f"the other table is kept in step: embedstream migrate {then}")


def _end(settings: Settings, step: Step) -> dict[str, str | None]:
    from embedstream import store
    from embedstream.migrate.swap import finish as end

    end(settings, step)
    with store.database(settings) as connection:
        space, service = store.pinned_space(connection, settings), store.read_service(connection, settings)
    return {"table": settings.pgvector_table, "space": str(space), "service": service.url}
