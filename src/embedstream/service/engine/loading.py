"""From settings to an engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedstream.errors import ConfigError
from embedstream.service.engine.cpus import usable_cpus
from embedstream.service.engine.fake import HashEngine
from embedstream.service.engine.model import fake_dimension, find_model
from embedstream.service.engine.names import is_on_hub
from embedstream.service.engine.openvino_engine import OpenVinoEngine
from embedstream.service.engine.progress import Progress
from embedstream.service.engine.torch_engine import SentenceTransformersEngine

if TYPE_CHECKING:
    from embedstream.service.engine.protocol import Engine
    from embedstream.settings import Settings


def load_engine(settings: Settings, progress: Progress | None = None) -> Engine:
    """The engine that EMBEDDING_ENGINE asks for, with the model that EMBEDDING_MODEL does, which is downloaded where it
    is on the Hub.

    Raises ConfigError.
    """
    workers = settings.embedding_threads or usable_cpus()
    dimension = fake_dimension(settings.embedding_model)
    if dimension is not None:
        return HashEngine(dimension, workers)
    if settings.embedding_engine == "openvino":
        return OpenVinoEngine(find_model(_here(settings, progress)), workers, settings.embedding_precision)
    if settings.embedding_precision not in ("auto", "f32"):
        raise ConfigError(
            f"EMBEDDING_PRECISION is {settings.embedding_precision}, but EMBEDDING_ENGINE {settings.embedding_engine} "
            "computes in f32 only: set one of the two to its default"
        )
    return SentenceTransformersEngine(find_model(_here(settings, progress), any_network=True), workers)


def _here(settings: Settings, progress: Progress | None) -> str:
    """What finds the model on this machine."""
    if not is_on_hub(settings):
        return settings.embedding_model
    from embedstream.service.engine.hub import fetch_patiently  # noqa: PLC0415 - a third of a second, for who needs it

    return str(fetch_patiently(settings, progress or Progress()))
