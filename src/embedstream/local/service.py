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
        self.stop_seconds = settings.embedding_drain_seconds + ENDING_SECONDS

    def program(self) -> Command:
        return Command([sys.executable, "-m", "embedstream.service"], self._env)

    def is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.address}/health", timeout=1.0, trust_env=False).is_success
        except httpx.HTTPError:
            return False
