"""What EMBEDDING_MODEL names: an installed model or a directory, else a model on the Hugging Face Hub."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from embedstream.errors import ConfigError
from embedstream.service.engine.model import is_installed

if TYPE_CHECKING:
    from embedstream.settings import Settings

# As the Hub allows them; what begins otherwise is somebody's path.
_OF_HUB = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


def is_on_hub(settings: Settings) -> bool:
    """Whether the model is the Hub's: neither a directory nor, unless a revision is set, installed.

    Raises ConfigError where a revision is set of what has none.
    """
    wanted, revision = settings.embedding_model, settings.embedding_model_revision
    if not Path(wanted).expanduser().is_dir() and _OF_HUB.fullmatch(wanted):
        return bool(revision) or not is_installed(wanted)
    if revision:
        raise ConfigError(
            f"EMBEDDING_MODEL_REVISION is {revision}, but EMBEDDING_MODEL {wanted} is not a model of the Hub: unset it"
        )
    return False
