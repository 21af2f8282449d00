"""Client of a schema registry with Confluent's API, as Apicurio, Karapace and Redpanda have it, too."""

from __future__ import annotations

import ssl
import time
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote
from uuid import UUID

import httpx
import msgspec
from pydantic import ValidationError

from embedstream.decode.fields import reject
from embedstream.decode.schema import Reference, Schema, Unusable
from embedstream.decode.spec import RegistryAccess
from embedstream.decode.unknown import Unknown
from embedstream.errors import ConfigError, RegistryUnavailable
from embedstream.retry import asked_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from embedstream.decode.unknown import SchemaId

_TIMEOUT = httpx.Timeout(10.0, connect=5.0)
_MOST_REFERENCES = 1000
_UNKNOWN_CODES = frozenset({40401, 40402, 40403})
T = TypeVar("T")


class Registry:
    """Schemas by their ids, each asked for once.

    An id that stays unknown is waited for (RegistryUnavailable), and rejected (`schema_unknown`) when its time is up.
    """

    def __init__(
        self,
        access: RegistryAccess | str,
        directory: Path,
        *,
        transport: httpx.BaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """File names are relative to `directory`; raises ConfigError."""
        self._access = access = _checked(access)
        self._http = httpx.Client(
            auth=_Login(access, directory),
            timeout=_TIMEOUT,
            transport=transport,
            trust_env=False,
            verify=_tls(directory / access.ca_file) if access.ca_file else True,
        )
        self.url = access.url.rstrip("/")
        self._schemas: dict[SchemaId, Schema] = {}
        self._unknown = Unknown(clock)

    def close(self) -> None:
        self._http.close()

    def check(self) -> list[str]:
        """The types of schemas that it knows; raises RegistryUnavailable."""
        return self._get("/schemas/types", list[str])

    def latest(self, subject: str) -> tuple[int, Schema] | None:
        """The subject's newest version that was not deleted; None where there is no such subject, or none is left.

        Raises RegistryUnavailable, Unusable.
        """
        try:
            root = self._get(f"/subjects/{quote(subject, safe='')}/versions/latest", _Answer, deleted=False)
        except _NotFound:
            return None
        return root.version, self._whole(root)

    def schema(self, id: SchemaId) -> Schema:
        """By its number, or by its GUID; raises RegistryUnavailable, Rejected, Unusable."""
        schema = self._schemas.get(id)
        if schema is None:
            schema = self._schemas[id] = self._fetch(id)
        return schema

    def _fetch(self, id: SchemaId) -> Schema:
        if self._unknown.is_settled(id):
            self._reject_unknown(id)
        try:
            root = self._get(f"/schemas/{'guids' if isinstance(id, UUID) else 'ids'}/{id}", _Answer)
            schema = self._whole(root)
        except _NotFound as exc:
            if self._unknown.is_up(id):
                self._reject_unknown(id)
            raise RegistryUnavailable(f"the schema registry at {self.url} does not know schema {id} yet") from exc
        self._unknown.forget(id)
        return schema

    def _whole(self, root: _Answer) -> Schema:
        return Schema(root.schema_type, root.schema, self._references(root))

    def _reject_unknown(self, id: SchemaId) -> None:
        reject(
            "schema_unknown",
            f"the schema registry at {self.url} does not know schema {id}, or not all that it refers to: check that "
            "the producer registers at this registry, or register the schema and replay the record",
        )

    def _references(self, root: _Answer) -> tuple[Reference, ...]:
        found: dict[str, Reference] = {}
        self._add_references(root, found, set())
        return tuple(found.values())

    def _add_references(self, of: _Answer, found: dict[str, Reference], seen: set[str]) -> None:
        for each in of.references:
            if each.name in seen:
                continue
            seen.add(each.name)
            if len(seen) > _MOST_REFERENCES:
                raise Unusable(f"refers to more than {_MOST_REFERENCES} others")
            path = f"/subjects/{quote(each.subject, safe='')}/versions/{each.version}"
            answer = self._get(path, _Answer)
            self._add_references(answer, found, seen)
            found[each.name] = Reference(each.name, answer.schema)

    def _get(self, path: str, kind: type[T], *, deleted: bool = True) -> T:
        """A schema that was `deleted` still reads what was written by it."""
        try:
            response = self._http.get(self.url + path, params={"deleted": "true"} if deleted else None)
        except httpx.HTTPError as exc:
            raise RegistryUnavailable(
                f"the schema registry at {self.url} does not answer ({type(exc).__name__})"
            ) from exc
        if not response.is_success:
            raise self._error(response)
        try:
            return msgspec.json.decode(response.content, type=kind)
        except (msgspec.MsgspecError, ValueError) as exc:
            raise RegistryUnavailable(f"what answers at {self.url} is no schema registry: check its URL") from exc

    def _error(self, response: httpx.Response) -> Exception:
        status = response.status_code
        if status == httpx.codes.NOT_FOUND:
            # Apicurio knows no GUIDs, and says so as if there were no such page.
            if _code(response) in _UNKNOWN_CODES or "/schemas/guids/" in response.url.path:
                return _NotFound()
            return RegistryUnavailable(
                f"{self.url} answers HTTP 404, and not as a schema registry does: check the path in its URL "
                "(Apicurio's ends in /apis/ccompat/v7)"
            )
        answers = f"the schema registry at {self.url} answers HTTP {status}"
        if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            return RegistryUnavailable(f"{answers}: {self._login_advice()}")
        return RegistryUnavailable(answers, asked_seconds(response.headers))

    def _login_advice(self) -> str:
        if self._access.token_file:
            return "check the token in registry.token_file, and its rights to read schemas and subjects"
        if self._access.user:
            return "check registry.user and registry.password_file, and the user's rights to read schemas and subjects"
        return "set registry.user and registry.password_file, or registry.token_file"


class _Reference(msgspec.Struct):
    name: str
    subject: str
    version: int


class _Answer(msgspec.Struct):
    """A schema, as both ways to ask for one give it; Avro is left unsaid."""

    schema: str
    schema_type: str = msgspec.field(name="schemaType", default="AVRO")
    references: list[_Reference] = []
    version: int = 0


class _Error(msgspec.Struct):
    error_code: int = 0


def _code(response: httpx.Response) -> int:
    try:
        return msgspec.json.decode(response.content, type=_Error).error_code
    except (msgspec.MsgspecError, ValueError):
        return 0


class _NotFound(Exception):
    """The registry says that it does not know what it was asked for."""


class _Login(httpx.Auth):
    """Reads its secret at each request: so a new one needs no restart, and none stands in an object that is shown."""

    def __init__(self, access: RegistryAccess, directory: Path) -> None:
        self._user = access.user
        self._setting = "token_file" if access.token_file else "password_file"
        name = access.token_file or access.password_file
        self._file = directory / name if name else None
        if self._file is not None:
            self._secret(self._file, ConfigError)

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if self._file is None:
            yield request
            return
        secret = self._secret(self._file, RegistryUnavailable)
        if self._user is None:
            request.headers["Authorization"] = f"Bearer {secret}"
            yield request
        else:
            yield from httpx.BasicAuth(self._user, secret).auth_flow(request)

    def _secret(self, file: Path, error: type[ConfigError | RegistryUnavailable]) -> str:
        try:
            return file.read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as exc:
            raise error(f"registry.{self._setting}: {file} cannot be read ({type(exc).__name__})") from exc


def _checked(access: RegistryAccess | str) -> RegistryAccess:
    if isinstance(access, RegistryAccess):
        return access
    try:
        return RegistryAccess(url=access)
    except ValidationError as exc:
        raise ConfigError(f"registry: {exc.errors()[0]['msg'].removeprefix('Value error, ')}") from None


def _tls(ca_file: Path) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as exc:
        raise ConfigError(f"registry.ca_file: {ca_file} holds no certificates that can be read") from exc
