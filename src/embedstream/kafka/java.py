"""What the job's Java clients are configured with, and what the JVMs of its cluster must know for it.

Flink's web UI shows the job's options to everybody, so each secret is a reference that one of Kafka's configuration
providers resolves where a client is made: in the JobManager and in the TaskManagers.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from embedstream.errors import ConfigError
from embedstream.kafka.client import check_login

if TYPE_CHECKING:
    from pathlib import Path

    from embedstream.settings import Settings

# The connector's jar holds Kafka's client under this name; the names of its system properties went with it.
_SHADED = "org.apache.flink.kafka.shaded.org.apache.kafka"
_COMMON = f"{_SHADED}.common"
_LOGIN_MODULES = {
    "PLAIN": f"{_COMMON}.security.plain.PlainLoginModule",
    "SCRAM-SHA-256": f"{_COMMON}.security.scram.ScramLoginModule",
    "SCRAM-SHA-512": f"{_COMMON}.security.scram.ScramLoginModule",
    "OAUTHBEARER": f"{_COMMON}.security.oauthbearer.OAuthBearerLoginModule",
}
_PROVIDERS = {
    "env": f"{_COMMON}.config.provider.EnvVarConfigProvider",
    "directory": f"{_COMMON}.config.provider.DirectoryConfigProvider",
}
# What does not stand for itself between the quotes of a login line.
_SPECIAL = re.compile(r'["\\\n\r]')
_ESCAPES = {"\n": r"\n", "\r": r"\r"}
_ONLY_JAVA_CANNOT = ("BEGIN RSA PRIVATE KEY", "BEGIN EC PRIVATE KEY", "BEGIN DSA PRIVATE KEY")


def java_config(settings: Settings) -> dict[str, str]:
    """The options for TLS and SASL. Raises ConfigError where Java could not log in with these settings."""
    check_login(settings)
    options: dict[str, str] = {}
    if settings.kafka_security_protocol != "PLAINTEXT":
        options["security.protocol"] = settings.kafka_security_protocol
    if settings.kafka_security_protocol.startswith("SASL"):
        options |= {"sasl.mechanism": settings.kafka_sasl_mechanism, **_login(settings)}
    if settings.kafka_security_protocol.endswith("SSL"):
        options |= _tls(settings)
    used = [name for name in _PROVIDERS if any(f"${{{name}:" in value for value in options.values())]
    providers = {f"config.providers.{name}.class": _PROVIDERS[name] for name in used}
    return {**options, **({"config.providers": ",".join(used)} if used else {}), **providers}


def cluster_environment(settings: Settings) -> dict[str, str]:
    """The variables that the JobManager and the TaskManagers need for the job's references, secrets included."""
    names = ("kafka_sasl_username", "kafka_sasl_password", "kafka_sasl_oauthbearer_client_id",
             "kafka_sasl_oauthbearer_client_secret", "kafka_ssl_key_password")  # fmt: skip
    environment = {name: value for name, value in settings.to_env().items() if name.lower() in names}
    if not settings.kafka_security_protocol.startswith("SASL"):
        return environment
    if settings.kafka_sasl_mechanism == "OAUTHBEARER":
        environment["JAVA_TOOL_OPTIONS"] = allowed_urls(settings)
    else:
        user, password = _user(settings)
        environment["KAFKA_SASL_JAAS_CONFIG"] = _jaas(settings, username=_escaped(user), password=_escaped(password))
    return environment


def allowed_urls(settings: Settings) -> str:
    """The option of a JVM without which Kafka's client fetches a token from nowhere."""
    return f"-D{_SHADED}.sasl.oauthbearer.allowed.urls={settings.kafka_sasl_oauthbearer_token_endpoint_url}"


def _login(settings: Settings) -> dict[str, str]:
    if settings.kafka_sasl_mechanism == "OAUTHBEARER":
        return _oauthbearer(settings)
    if not any(_SPECIAL.search(text) for text in _user(settings)):
        references = {"username": "${env:KAFKA_SASL_USERNAME}", "password": "${env:KAFKA_SASL_PASSWORD}"}
        return {"sasl.jaas.config": _jaas(settings, **references)}
    if settings.kafka_sasl_jaas_config:
        return {"sasl.jaas.config": "${env:KAFKA_SASL_JAAS_CONFIG}"}
    raise ConfigError(
        "KAFKA_SASL_USERNAME or KAFKA_SASL_PASSWORD holds a \", a \\ or a line break, which Java's login line "
        'takes for something else: run eval "$(embedstream flink-env)" where the JobManager, the TaskManagers and '
        "submit are started (it sets KAFKA_SASL_JAAS_CONFIG)"
    )


def _oauthbearer(settings: Settings) -> dict[str, str]:
    pairs = (settings.kafka_sasl_oauthbearer_extensions or "").split(",")
    extensions = {f"extension_{name}": value for name, _, value in (pair.partition("=") for pair in pairs) if name}
    options = {
        "sasl.jaas.config": _jaas(settings, **extensions),
        "sasl.login.callback.handler.class": f"{_COMMON}.security.oauthbearer.OAuthBearerLoginCallbackHandler",
        # The default ones need a library for keys and signatures that a client has no use for.
        "sasl.oauthbearer.jwt.retriever.class": f"{_COMMON}.security.oauthbearer.ClientCredentialsJwtRetriever",
        "sasl.oauthbearer.jwt.validator.class": f"{_COMMON}.security.oauthbearer.ClientJwtValidator",
        "sasl.oauthbearer.token.endpoint.url": str(settings.kafka_sasl_oauthbearer_token_endpoint_url),
        "sasl.oauthbearer.client.credentials.client.id": "${env:KAFKA_SASL_OAUTHBEARER_CLIENT_ID}",
        "sasl.oauthbearer.client.credentials.client.secret": "${env:KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET}",
    }
    scope = settings.kafka_sasl_oauthbearer_scope
    return options | ({"sasl.oauthbearer.scope": scope} if scope else {})


def _tls(settings: Settings) -> dict[str, str]:
    options: dict[str, str] = {}
    if settings.kafka_ssl_ca_location:
        options |= {"ssl.truststore.type": "PEM", "ssl.truststore.location": str(settings.kafka_ssl_ca_location)}
    if settings.kafka_ssl_endpoint_identification == "none":
        options["ssl.endpoint.identification.algorithm"] = ""
    if settings.kafka_ssl_certificate_location and settings.kafka_ssl_key_location:
        options |= {
            "ssl.keystore.type": "PEM",
            "ssl.keystore.certificate.chain": _contents(settings.kafka_ssl_certificate_location),
            "ssl.keystore.key": _contents(_readable_key(settings.kafka_ssl_key_location)),
        }
        if settings.kafka_ssl_key_password:
            options["ssl.key.password"] = "${env:KAFKA_SSL_KEY_PASSWORD}"
    return options


def _contents(file: Path) -> str:
    """A reference to what stands in a file of the JobManager's and of the TaskManagers'."""
    path = file.absolute()
    if re.search(r"[:{}]", str(path)):
        raise ConfigError(f"KAFKA_SSL_*: the path {path} has a colon or a brace in it, which Kafka's references cannot")
    return f"${{directory:{path.parent}:{path.name}}}"


def _readable_key(file: Path) -> Path:
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError as exc:
        raise ConfigError(f"KAFKA_SSL_KEY_LOCATION cannot be read: {exc}") from exc
    if any(form in text for form in _ONLY_JAVA_CANNOT):
        raise ConfigError(
            f"KAFKA_SSL_KEY_LOCATION: {file} is in a form that Java does not read: make it PKCS#8 by "
            f"`openssl pkcs8 -topk8 -in {file} -out KEY` (with -nocrypt for one without a password)"
        )
    return file


def _user(settings: Settings) -> tuple[str, str]:
    password = settings.kafka_sasl_password
    return settings.kafka_sasl_username or "", password.get_secret_value() if password else ""


def _jaas(settings: Settings, **options: str) -> str:
    rendered = "".join(f' {name}="{value}"' for name, value in options.items())
    return f"{_LOGIN_MODULES[settings.kafka_sasl_mechanism]} required{rendered};"


def _escaped(text: str) -> str:
    """As Java's StreamTokenizer wants it between quotes."""
    return _SPECIAL.sub(lambda found: _ESCAPES.get(found[0], f"\\{found[0]}"), text)
