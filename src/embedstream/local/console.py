"""The console as a part of the stack."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, ClassVar

import httpx

from embedstream.local.part import Part
from embedstream.local.ports import LOOPBACK
from embedstream.local.process import Command

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class Console(Part):
    name = "console"
    is_kept_trying: ClassVar[bool] = True  # it only shows what the others do

    def __init__(self, port: int, env: Mapping[str, str], log: Path) -> None:
        super().__init__(log, f"http://{LOOPBACK}:{port}")
        self._env = env

    def program(self) -> Command:
        return Command([sys.executable, "-m", "embedstream.console"], self._env)

    def is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.address}/health", timeout=1.0, trust_env=False).is_success
        except httpx.HTTPError:
            return False
