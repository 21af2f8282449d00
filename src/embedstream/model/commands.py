"""`embedstream model` on the command line; like cli.py it imports what a command needs inside of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from embedstream.display import as_json, say
from embedstream.options import AsJson, command_group
from embedstream.settings import load_settings

if TYPE_CHECKING:
    from embedstream.settings import Settings

app = command_group("Fetch a model of the Hugging Face Hub ahead of time, and say what a model is.")

Revision = Annotated[
    str | None, typer.Option(help="Branch, tag or commit (40 digits) on the Hub (left out: EMBEDDING_MODEL_REVISION).")
]


@app.command("pull")
def pull_(
    name: Annotated[str, typer.Argument(help="org/name on the Hub.")], revision: Revision = None, json: AsJson = False
) -> None:
    """Download a model into the cache, for images and for hosts without a network; what is there is not fetched again.

    Example: embedstream model pull intfloat/multilingual-e5-small --revision main
    """
    from embedstream.model.pull import pull
    from embedstream.model.show import as_text

    facts = pull(_settings(name, revision))
    say(as_json(facts) if json else as_text(facts))
    if not json:
        say(f"\nto pin it: EMBEDDING_MODEL={facts.model} EMBEDDING_MODEL_REVISION={facts.hub_commit}")


@app.command("show")
def show_(
    name: Annotated[
        str | None, typer.Argument(help="An installed model, a directory or org/name (left out: EMBEDDING_MODEL).")
    ] = None,
    revision: Revision = None,
    json: AsJson = False,
) -> None:
    """Print what a model is, its files, and how it runs; of one on the Hub no weights are fetched for that.

    Example: embedstream model show sentence-transformers/all-MiniLM-L6-v2
    """
    from embedstream.model.show import as_text, look

    facts = look(_settings(name, revision))
    say(as_json(facts) if json else as_text(facts))


def _settings(name: str | None, revision: str | None) -> Settings:
    """With another model than the environment's, its revision is another's, too."""
    settings = load_settings()
    if name is None or name == settings.embedding_model:
        return load_settings(embedding_model_revision=revision) if revision else settings
    return load_settings(embedding_model=name, embedding_model_revision=revision)
