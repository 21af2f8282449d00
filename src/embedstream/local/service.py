"""The embedding service as a part of the stack."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, ClassVar

import httpx

from embedstream.local.part import Part
from embedstream.local.process import Command

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from embedstream.settings import Settings


ENDING_SECONDS = 10.0
"""What the service may take to end once it has answered what it accepted."""


class Service(Part):
    name = "service"
    start_seconds: ClassVar[float] = 180.0  # it loads a model, and tries its shapes

    def __init__(self, settings: Settings, env: Mapping[str, str], log: Path) -> None:
        super().__init__(log, settings.embedding_service_url)
        self._env = env
        self._lengthy: str | None = None
        self.stop_seconds = settings.embedding_drain_seconds + ENDING_SECONDS

    def program(self) -> Command:
        return Command([sys.executable, "-m", "embedstream.service"], self._env)

    def is_ready(self) -> bool:
        try:
            answer = httpx.get(f"{self.address}/health", timeout=1.0, trust_env=False)
        except httpx.HTTPError:
            return False
        self._lengthy = None if answer.is_success else _download(answer)
        return answer.is_success

    def lengthy(self) -> str | None:
        return self._lengthy


def _download(answer: httpx.Response) -> str | None:
    """What the service says of the model's download."""
    try:
        progress = answer.json()["progress"]
        if progress["step"] != "downloading":
            return None
        if progress["trouble"]:
            return f"waiting for the model {progress['model']}: {progress['trouble']}"
        size = progress.get("total_bytes")
        return f"downloading the model {progress['model']}{f' ({size >> 20} MiB)' if size else ''}"
    except (ValueError, KeyError, TypeError):
        return None
