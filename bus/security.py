"""How every client that is started proves who it is, and knows whom it talks to: one set of names for all of them.

`ANTIPHON_SECURITY_*`, or `[tool.antiphon.security]`. What is secret comes from
the environment or from a file, never from a command line, and is shown nowhere.
"""

from __future__ import annotations

import dataclasses
import difflib
import ssl
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator

from antiphon.bus.errors import SettingsError

E = TypeVar("E", bound=StrEnum)
T = TypeVar("T")

VARIABLE = "ANTIPHON_SECURITY_"
_PEM = "-----BEGIN "


class Protocol(StrEnum):
    """How a connection is made, in Kafka's words."""

    PLAINTEXT = "PLAINTEXT"
    SSL = "SSL"
    SASL_PLAINTEXT = "SASL_PLAINTEXT"
    SASL_SSL = "SASL_SSL"

    @property
    def is_encrypted(self) -> bool:
        return self in {Protocol.SSL, Protocol.SASL_SSL}

    @property
    def has_login(self) -> bool:
        return self in {Protocol.SASL_PLAINTEXT, Protocol.SASL_SSL}


class Mechanism(StrEnum):
    """How somebody logs in, in Kafka's words."""

    PLAIN = "PLAIN"
    SCRAM_SHA_256 = "SCRAM-SHA-256"
    SCRAM_SHA_512 = "SCRAM-SHA-512"
    OAUTHBEARER = "OAUTHBEARER"


def _upper(said: object) -> object:
    return said.upper() if isinstance(said, str) else said


class Security(BaseModel):
    """Settings of every client, the schema registry's too. What fits together is said by `client_options`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    protocol: Annotated[Protocol, BeforeValidator(_upper)] | None = Field(
        default=None, description="PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL; unset: as secure as the rest asks for"
    )
    ca: str | None = Field(default=None, description="PEM file of the authorities that sign brokers' certificates")
    certificate: str | None = Field(default=None, description="PEM file of this client's certificate, for mutual TLS")
    key: str | None = Field(default=None, description="PEM file of its private key")
    key_password: SecretStr | None = Field(default=None, description="what opens the private key")
    key_password_file: str | None = Field(default=None, description="file that has it")
    mechanism: Annotated[Mechanism, BeforeValidator(_upper)] | None = Field(
        default=None, description="PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER"
    )
    user: str | None = Field(default=None, description="who logs in; for OAUTHBEARER the client's id")
    password: SecretStr | None = Field(default=None, description="its password; for OAUTHBEARER the client's secret")
    password_file: str | None = Field(default=None, description="file that has it")
    token_url: str | None = Field(default=None, description="where OAUTHBEARER gets its tokens")
    token_scope: str | None = Field(default=None, description="what it asks them for")
    registry_user: str | None = Field(default=None, description="who logs in to the schema registry")
    registry_password: SecretStr | None = Field(default=None, description="its password")
    registry_password_file: str | None = Field(default=None, description="file that has it")

    @model_validator(mode="before")
    @classmethod
    def _without_empty(cls, said: Any) -> Any:
        # A variable that is set to nothing says nothing, as everywhere.
        if not isinstance(said, Mapping):
            return said
        return {name: value for name, value in cast("Mapping[str, Any]", said).items() if value != ""}

    @property
    def transport(self) -> Protocol:
        """How connections are made. A login never goes unencrypted, unless that is asked for by name."""
        if self.protocol is not None:
            return self.protocol
        if self.mechanism or self.user or self.token_url:
            return Protocol.SASL_SSL
        return Protocol.SSL if self.ca or self.certificate else Protocol.PLAINTEXT

    @property
    def login(self) -> Mechanism | None:
        """How it logs in; None: not at all, or nobody said."""
        if not self.transport.has_login:
            return None
        return self.mechanism or (Mechanism.OAUTHBEARER if self.token_url else None)


@dataclasses.dataclass(frozen=True)
class Identity:
    """Who a client says it is: for errors."""

    transport: Protocol = Protocol.PLAINTEXT
    login: Mechanism | None = None
    user: str | None = None
    certificate: str | None = None

    @property
    def principal(self) -> str | None:
        """Who it is on the cluster, where that can be known from here; of a certificate the broker's rules say."""
        if self.login is not None and self.user is not None:
            return f"User:{self.user}"
        return None if self.certificate or self.login else "User:ANONYMOUS"

    def __str__(self) -> str:
        if self.login is not None:
            return f"user {self.user!r} ({self.transport}, {self.login})"
        return (
            f"{self.certificate} ({self.transport})" if self.certificate else f"nobody in particular ({self.transport})"
        )


def identity(options: Mapping[str, object]) -> Identity:
    """Return who a client with these options of librdkafka's says that it is."""
    transport = _said(Protocol, options.get("security.protocol")) or Protocol.PLAINTEXT
    login = _said(Mechanism, options.get("sasl.mechanism") or options.get("sasl.mechanisms"))
    user = options.get("sasl.username") or options.get("sasl.oauthbearer.client.id")
    certificate = options.get("ssl.certificate.location")
    return Identity(
        transport,
        login if transport.has_login else None,
        str(user) if user and transport.has_login else None,
        str(certificate) if certificate and transport.is_encrypted else None,
    )


def _said(kind: type[E], value: object) -> E | None:
    text = str(value).upper()
    return kind(text) if text in {one.value for one in kind} else None


def client_options(security: Security) -> dict[str, str]:
    """Return *security* as librdkafka says it.

    Reads files that hold secrets, and looks whether the others are there: the
    client would say no more than that it cannot be made. Raises `SettingsError`.
    """
    transport = security.transport
    if transport is Protocol.PLAINTEXT:
        _refuse_pointless(security, transport, _TLS | _SASL)
        return {}
    options = {"security.protocol": transport.value}
    if transport.is_encrypted:
        options |= _tls(security)
    else:
        _refuse_pointless(security, transport, _TLS)
    if transport.has_login:
        options |= _sasl(security)
    else:
        _refuse_pointless(security, transport, _SASL)
    return options


def registry_options(security: Security) -> dict[str, str]:
    """Return *security* as the registry's client says it. Raises `SettingsError`."""
    options: dict[str, str] = {}
    if security.ca is not None:
        options["ssl.ca.location"] = _pem("ca", security.ca)
    if security.certificate is not None and security.key is not None:
        options["ssl.certificate.location"] = _pem("certificate", security.certificate)
        options["ssl.key.location"] = _pem("key", security.key)
        if (opening := _secret(security, "key_password")) is not None:
            options["ssl.key.password"] = opening
    password = _secret(security, "registry_password")
    if security.registry_user is not None or password is not None:
        user = _required("registry_user", security.registry_user, "the registry's password is given")
        secret = _required("registry_password", password, f"{VARIABLE}REGISTRY_USER is {user}")
        options["basic.auth.user.info"] = f"{user}:{secret}"
    return options


_TLS = frozenset({"ca", "certificate", "key", "key_password", "key_password_file"})
_SASL = frozenset({"mechanism", "user", "password", "password_file", "token_url", "token_scope"})


def _tls(security: Security) -> dict[str, str]:
    options: dict[str, str] = {}
    if security.ca is not None:
        # Where tokens are fetched is behind the same authorities, as a rule.
        options["ssl.ca.location"] = options["https.ca.location"] = _pem("ca", security.ca)
        _try_out("ca", security.ca, lambda context: context.load_verify_locations(security.ca))
    if security.certificate is None and security.key is None:
        return options
    certificate = _required("certificate", security.certificate, "a private key is given")
    key = _required("key", security.key, f"there is a certificate, {certificate}")
    options["ssl.certificate.location"] = _pem("certificate", certificate)
    options["ssl.key.location"] = _pem("key", key)
    opening = _secret(security, "key_password")
    if opening is not None:
        options["ssl.key.password"] = opening
    # Without a password OpenSSL would ask for one at the terminal.
    fits = f"a key that fits {certificate}" + ("" if opening is None else " and its password")
    _try_out("key", key, lambda context: context.load_cert_chain(certificate, key, opening or ""), fits)
    return options


def _try_out(
    name: str, place: str, load: Callable[[ssl.SSLContext], None], expected: str = "a PEM file with certificates"
) -> None:
    try:
        load(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    except (ssl.SSLError, ValueError) as error:
        reason = error.reason if isinstance(error, ssl.SSLError) and error.reason else "it cannot be opened"
        got = f"{place} ({reason.lower().replace('_', ' ')})"
        raise SettingsError(f"security.{name}", expected, got, f"{VARIABLE}{name.upper()}") from None


def _sasl(security: Security) -> dict[str, str]:
    mechanism = _required("mechanism", security.login, f"connections are {security.transport}")
    user = _required("user", security.user, f"it logs in by {mechanism}")
    password = _required("password", _secret(security, "password"), f"{user!r} logs in by {mechanism}")
    if mechanism is not Mechanism.OAUTHBEARER:
        return {"sasl.mechanism": mechanism.value, "sasl.username": user, "sasl.password": password}
    options = {
        "sasl.mechanism": mechanism.value,
        "sasl.oauthbearer.method": "oidc",
        "sasl.oauthbearer.client.id": user,
        "sasl.oauthbearer.client.secret": password,
        "sasl.oauthbearer.token.endpoint.url": _required("token_url", security.token_url, "it logs in by OAUTHBEARER"),
    }
    return options | ({"sasl.oauthbearer.scope": security.token_scope} if security.token_scope else {})


def _required(name: str, value: T | None, because: str) -> T:
    if value is None:
        also = f" or {VARIABLE}{name.upper()}_FILE" if "password" in name else ""
        raise SettingsError(f"security.{name}", f"set, as {because}", None, f"{VARIABLE}{name.upper()}{also}")
    return value


def _refuse_pointless(security: Security, transport: Protocol, names: frozenset[str]) -> None:
    # Somebody who gave a password and connects without one is not who they believe to be.
    for name in sorted(names & security.model_fields_set):
        if getattr(security, name) is not None:
            expected = f"another one, as {name} is given"
            raise SettingsError("security.protocol", expected, transport.value, f"{VARIABLE}PROTOCOL")


def _secret(security: Security, name: str) -> str | None:
    said: SecretStr | None = getattr(security, name)
    place: str | None = getattr(security, f"{name}_file")
    variable = f"{VARIABLE}{name.upper()}"
    if said is not None and place is not None:
        raise SettingsError(f"security.{name}", f"in one place, as {variable}_FILE is set too", "***", variable)
    if place is None:
        return None if said is None else said.get_secret_value()
    # Whoever writes a file ends its last line.
    text = _read(f"{name}_file", place).rstrip("\r\n")
    if not text:
        raise SettingsError(
            f"security.{name}_file", "a file with a secret in it", f"{place}, which is empty", f"{variable}_FILE"
        )
    return text


def _pem(name: str, place: str) -> str:
    if _PEM in place:
        raise SettingsError(f"security.{name}", "the path of a PEM file", "its content", f"{VARIABLE}{name.upper()}")
    if _PEM not in _read(name, place):
        got = f"{place}, which is none"
        raise SettingsError(f"security.{name}", "the path of a PEM file", got, f"{VARIABLE}{name.upper()}")
    return place


def _read(name: str, place: str) -> str:
    try:
        return Path(place).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        got = f"{place} ({(error.strerror or str(error)).lower()})"
        raise SettingsError(
            f"security.{name}", "the path of a readable file", got, f"{VARIABLE}{name.upper()}"
        ) from None


def likely(name: str) -> str:
    """Return the setting that somebody who wrote *name* may have meant, or nothing."""
    return (difflib.get_close_matches(name, [*Security.model_fields], n=1) or [""])[0]
