"""From settings to an engine."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from embedstream.errors import ConfigError
from embedstream.service.engine.architectures import Static
from embedstream.service.engine.cpus import usable_cpus
from embedstream.service.engine.fake import FAKE_TOKENS, HashEngine
from embedstream.service.engine.model import fake_dimension, find_model, wishes_of
from embedstream.service.engine.names import is_on_hub
from embedstream.service.engine.openvino_engine import OpenVinoEngine
from embedstream.service.engine.progress import Progress
from embedstream.service.engine.static_engine import StaticEngine
from embedstream.service.engine.torch_engine import GPU_WORKERS, SentenceTransformersEngine

if TYPE_CHECKING:
    from embedstream.service.engine.model import Model
    from embedstream.service.engine.protocol import Engine
    from embedstream.settings import Settings

logger = logging.getLogger(__name__)


def load_engine(settings: Settings, progress: Progress | None = None) -> Engine:
    """The engine that EMBEDDING_ENGINE asks for, with the model that EMBEDDING_MODEL does, which is downloaded where it
    is on the Hub.

    Raises ConfigError.
    """
    dimension = fake_dimension(settings.embedding_model)
    if dimension is not None:
        workers = settings.embedding_threads or usable_cpus()
        return HashEngine(dimension, workers, settings.embedding_max_tokens or FAKE_TOKENS)
    any_network = settings.embedding_engine == "sentence-transformers"
    if settings.embedding_device != "cpu" and not any_network:
        raise ConfigError(
            f"EMBEDDING_DEVICE is {settings.embedding_device}, which EMBEDDING_ENGINE {settings.embedding_engine} does "
            "not compute on: set that to sentence-transformers"
        )
    model = find_model(_here(settings, progress), any_network=any_network, wishes=wishes_of(settings))
    for warning in model.warnings:
        logger.warning("%s", warning)
    return _engine_of(settings, model)


def _engine_of(settings: Settings, model: Model) -> Engine:
    workers = settings.embedding_threads or usable_cpus()
    if isinstance(model.network, Static):
        _refuse_precisions_but(settings, "f32")
        return StaticEngine(model, model.network, workers)
    if settings.embedding_engine == "static":
        raise ConfigError(f"EMBEDDING_ENGINE is static, but the model in {model.root} is not: set it to openvino")
    if settings.embedding_engine == "openvino":
        return OpenVinoEngine(model, workers, settings.embedding_precision)
    _refuse_precisions_but(settings, "f32", "bf16")
    return SentenceTransformersEngine(
        model,
        workers if settings.embedding_device == "cpu" else settings.embedding_threads or GPU_WORKERS,
        settings.embedding_precision,
        device=settings.embedding_device,
        batch_tokens=settings.embedding_batch_tokens,
    )


def _refuse_precisions_but(settings: Settings, *able: str) -> None:
    if settings.embedding_precision not in ("auto", *able):
        raise ConfigError(
            f"EMBEDDING_PRECISION is {settings.embedding_precision}, but this model and EMBEDDING_ENGINE "
            f"{settings.embedding_engine} compute in {' and '.join(able)} only: set one of the two to its default"
        )


def _here(settings: Settings, progress: Progress | None) -> str:
    """What finds the model on this machine."""
    if not is_on_hub(settings):
        return settings.embedding_model
    from embedstream.service.engine.hub import fetch_patiently  # noqa: PLC0415 - a third of a second, for who needs it

    return str(fetch_patiently(settings, progress or Progress()))
