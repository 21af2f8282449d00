"""The way to the REST API of the cluster: its certificate, and what a proxy before it asks for."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import httpx

from embedstream.errors import ConfigError

if TYPE_CHECKING:
    from embedstream.settings import Settings


def client(settings: Settings, timeout: float, transport: httpx.BaseTransport | None = None) -> httpx.Client:
    """Raises ConfigError where FLINK_REST_CA_LOCATION cannot be read."""
    authorization = settings.flink_rest_authorization
    return httpx.Client(
        base_url=settings.flink_rest_url,
        headers={"Authorization": authorization.get_secret_value()} if authorization else None,
        timeout=timeout,
        transport=transport,
        trust_env=False,
        verify=_trusted(settings) if settings.flink_rest_url.startswith("https:") else False,
    )


def _trusted(settings: Settings) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=settings.flink_rest_ca_location)
    except OSError as exc:
        raise ConfigError(f"FLINK_REST_CA_LOCATION: cannot read {settings.flink_rest_ca_location}: {exc}") from exc


def unreachable(settings: Settings, exc: httpx.HTTPError) -> ConfigError:
    url = settings.flink_rest_url
    if "CERTIFICATE_VERIFY_FAILED" in str(exc):
        return ConfigError(f"the certificate at {url} is signed by nobody known here: set FLINK_REST_CA_LOCATION")
    return ConfigError(f"no Flink JobManager answers at {url} ({type(exc).__name__}): start it, or set FLINK_REST_URL")


def takes_no_job(settings: Settings, status: int, size: int) -> ConfigError:
    return ConfigError(
        f"{settings.flink_rest_url} takes no job (HTTP {status} to POST /jobs with {size / 2**20:.0f} MiB): "
        "set FLINK_REST_URL to an address that does, or let the proxy there pass such requests"
    )


def refused(settings: Settings, status: int) -> ConfigError:
    url = settings.flink_rest_url
    if status in (401, 403):
        return ConfigError(f"{url} does not let us in (HTTP {status}): set FLINK_REST_AUTHORIZATION")
    return ConfigError(f"what answers at {url} is no Flink JobManager: set FLINK_REST_URL")
