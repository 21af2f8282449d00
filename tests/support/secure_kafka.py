"""A broker as other people have theirs: logins of every kind, rights by user, and a policy for topics."""

from __future__ import annotations

import base64
import threading
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus

from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from py4j.java_gateway import GatewayParameters, JavaGateway, launch_gateway

from embedstream.jars import cache_directory, jar_paths
from embedstream.local.flink import flink_home
from embedstream.local.kafka import JAVA, Kafka
from embedstream.local.part import running
from embedstream.local.ports import LOOPBACK, free_port
from embedstream.settings import load_settings
from support.certificates import TokenSigner, make_certificates

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embedstream.local.process import Command

# Each of these characters means something to one of the parsers on the way.
PASSWORDS = (
    "fine-1", 'pa"ss', "pa\\word1", "a\\", '"', "${env:HOME} $1 {x}", "it's; a = 'b' // c # d",
    "пароль-ñ-密码", "a,b=c%d&", "trail ",

)  # fmt: skip
WITH_NEWLINE = "two\nlines\r"
CLIENT, SECRET = "the client", 'se"c\\r:e t+%'
SHADED = "org.apache.flink.kafka.shaded.org.apache.kafka"
POLICY = Path(__file__).parents[1] / "data" / "policy" / "limits.jar"
LISTENERS = ("PLAIN", "MTLS", "OAUTH")


class SecureBroker(Kafka):
    """Beside the open listener, whose clients may do everything, one for SASL, one for TLS, one for tokens."""

    def __init__(self, directory: Path, jwks: Path, ports: dict[str, int]) -> None:
        super().__init__(
            directory, ports["OPEN"], ports["CONTROLLER"], cache_directory(load_settings()), directory / "kafka.log"
        )
        self._jwks = jwks
        self._ports = ports

    def _java(self, main_class: str, *arguments: str, doing: str = "starting") -> Command:
        command = super()._java(main_class, *arguments, doing=doing)
        argv = [f"{part}:{POLICY}" if before == "-cp" else part for before, part in pairwise(["", *command.argv])]
        allowed = f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={self._jwks.as_uri()}"
        return replace(command, argv=[argv[0], allowed, *argv[1:]])

    def _write_properties(self, data: Path) -> None:
        super()._write_properties(data)
        ours = {name: f"{name}://{LOOPBACK}:{self._ports[name]}" for name in LISTENERS}
        open_listener = f"PLAINTEXT://{self.address}"
        folder = self._jwks.parent
        users = "".join(f" user_{number}={_jaas(text)}" for number, text in enumerate(PASSWORDS))
        more = {
            "listeners": ",".join([open_listener, f"CONTROLLER://{self._controller}", *ours.values()]),
            "advertised.listeners": ",".join([open_listener, *ours.values()]),
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,PLAIN:SASL_PLAINTEXT,"
            "MTLS:SSL,OAUTH:SASL_PLAINTEXT",
            "listener.name.plain.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
            "listener.name.plain.plain.sasl.jaas.config": f"{_MODULES}.plain.PlainLoginModule required{users};",
            "listener.name.plain.scram-sha-256.sasl.jaas.config": f"{_MODULES}.scram.ScramLoginModule required;",
            "listener.name.plain.scram-sha-512.sasl.jaas.config": f"{_MODULES}.scram.ScramLoginModule required;",
            "listener.name.mtls.ssl.client.auth": "required",
            "listener.name.mtls.ssl.keystore.type": "PEM",
            "listener.name.mtls.ssl.keystore.location": folder / "broker.pem",
            "listener.name.mtls.ssl.truststore.type": "PEM",
            "listener.name.mtls.ssl.truststore.location": folder / "ca.pem",
            "listener.name.oauth.sasl.enabled.mechanisms": "OAUTHBEARER",
            "listener.name.oauth.oauthbearer.sasl.jaas.config":
                f"{_MODULES}.oauthbearer.OAuthBearerLoginModule required;",
            "listener.name.oauth.oauthbearer.sasl.server.callback.handler.class":
                f"{_MODULES}.oauthbearer.OAuthBearerValidatorCallbackHandler",
            "sasl.oauthbearer.jwks.endpoint.url": self._jwks.as_uri(),
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
            "create.topic.policy.class.name": "Limits",
        }  # fmt: skip
        escaped = (f"{name}={str(value).replace(chr(92), chr(92) * 2)}\n" for name, value in more.items())
        text = "".join(escaped).encode("ascii", "backslashreplace").decode().replace("\\x", "\\u00")
        with self._properties.open("a") as file:
            file.write(text)


_MODULES = "org.apache.kafka.common.security"


def _jaas(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


@dataclass(frozen=True)
class Secure:
    """Addresses by listener, the folder of the certificates, and where tokens are."""

    open: str
    addresses: dict[str, str]
    folder: Path
    tokens: str


@contextmanager
def secure_broker(directory: Path) -> Iterator[Secure]:
    make_certificates(directory)
    signer = TokenSigner(directory)
    ports: dict[str, int] = {}
    for name in ("OPEN", "CONTROLLER", *LISTENERS):
        ports[name] = free_port(avoid=frozenset(ports.values()))
    broker = SecureBroker(directory / "kafka", signer.jwks, ports)
    with running(broker), token_endpoint(signer) as tokens:
        addresses = {name: f"{LOOPBACK}:{ports[name]}" for name in LISTENERS}
        yield Secure(broker.address, addresses, directory, tokens)


@contextmanager
def token_endpoint(signer: TokenSigner) -> Iterator[str]:
    """Gives a token to whoever comes with the one client's id and secret."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            known = self.headers["Authorization"] in _authorizations()
            body = signer.token("the-client") if known else ""
            answer = f'{{"access_token": "{body}", "token_type": "bearer", "expires_in": 300}}' if known else "{}"
            self.send_response(200 if known else 401)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://{LOOPBACK}:{server.server_port}/token"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _authorizations() -> set[str]:
    pairs = {f"{CLIENT}:{SECRET}", f"{quote(CLIENT)}:{quote(SECRET)}", f"{quote_plus(CLIENT)}:{quote_plus(SECRET)}"}
    return {f"Basic {base64.b64encode(pair.encode()).decode()}" for pair in pairs}


def add_scram_user(bootstrap: str, user: str, password: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
        change = UserScramCredentialUpsertion(user, ScramCredentialInfo(mechanism, 4096), password.encode())
        admin.alter_user_scram_credentials([change])[user].result(10)


def allow(
    root: AdminClient,
    user: str,
    kind: ResourceType,
    name: str,
    *operations: AclOperation,
    pattern: ResourcePatternType = ResourcePatternType.LITERAL,
) -> None:
    acls = [
        AclBinding(kind, name, pattern, f"User:{user}", "*", operation, AclPermissionType.ALLOW)
        for operation in operations
    ]
    for future in root.create_acls(acls).values():
        future.result(10)


@contextmanager
def connector_jvm(*options: str) -> Iterator[Any]:
    """A JVM with the connector and what Flink itself brings; it has the environment of this process."""
    jars = [*jar_paths("flink", cache_directory(load_settings())), *flink_home().glob("lib/*.jar")]
    port, process = launch_gateway(
        classpath=":".join(map(str, jars)), javaopts=list(options), java_path=str(JAVA), die_on_exit=True,
        return_proc=True,
    )  # fmt: skip
    gateway = JavaGateway(gateway_parameters=GatewayParameters(port=port))
    try:
        yield gateway.jvm
    finally:
        gateway.shutdown()
        process.stdin.close()
        process.wait(20)
