"""What is configured, and where each value comes from.

A flag wins over `ANTIPHON_*` in the environment, that over `.env`, that over
`[tool.antiphon]` in pyproject.toml, and that over the default. Who a client is
and whom it trusts is a table of its own, `ANTIPHON_SECURITY_*` or
`[tool.antiphon.security]`, and so is whatever else the Kafka client may be told:
`ANTIPHON_CLIENT_FETCH_MIN_BYTES=1`, or under `[tool.antiphon.client]`, `"fetch.min.bytes" = "1"`.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, cast

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    PyprojectTomlConfigSettingsSource,
    SettingsConfigDict,
)
from pydantic_settings import SettingsError as UnreadableError

from antiphon.bus.claim import LIMIT
from antiphon.bus.errors import SettingsError
from antiphon.bus.guard import MAX_HOPS, Unreadable
from antiphon.bus.names import Names, is_legal
from antiphon.bus.port import MissingOffsets
from antiphon.bus.secrets import without_login
from antiphon.bus.security import Security, client_options, likely
from antiphon.bus.share import Share

_PREFIX = "ANTIPHON_"
_MIB = 1024 * 1024
_SECRET = re.compile(r"password|secret|token|credential|\.key$|key\.pem|jaas|oauthbearer\.config", re.IGNORECASE)
_BUCKET = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^?#]*)?")
_LOGIN = re.compile(r"(?<=://)[^/@\s]+(?=@)")


def _dotted(options: object) -> object:
    # The shell cannot say `security.protocol`; the client has no option with an underscore.
    if not isinstance(options, Mapping):
        return options
    named = cast("Mapping[object, object]", options)
    return {str(name).lower().replace("_", "."): str(value) for name, value in named.items()}


def _legal(namespace: str) -> str:
    if namespace and not is_legal(namespace):
        message = "letters, digits, dots, dashes and underscores, starting with a letter or digit"
        raise ValueError(message)
    return namespace


def _place(claims: str | None) -> str | None:
    if claims is not None and "://" in claims and not _BUCKET.fullmatch(claims):
        message = "the path of a folder, or s3://bucket/prefix"
        raise ValueError(message)
    return claims


def _folder(path: str | None) -> str | None:
    if path is not None and "://" in path:
        message = "a path"
        raise ValueError(message)
    return path


def _canaries(said: object) -> object:
    # A shell has no lists.
    return [one.strip() for one in said.split(",")] if isinstance(said, str) else said


def _share(share: str | None) -> str | None:
    return None if share is None else str(Share.parse(share))


def _index(place: str | None) -> str | None:
    if place is not None and "://" in place and not place.startswith(("postgresql://", "postgres://")):
        message = "a path, or postgresql://user@host/database"
        raise ValueError(message)
    return place


class Settings(BaseSettings):
    """The settings of one process. `Settings()` reads them all; `load` says better what is wrong."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX,
        env_file=".env",
        env_ignore_empty=True,
        env_nested_delimiter="_",
        env_nested_max_split=1,
        pyproject_toml_table_header=("tool", "antiphon"),
        pyproject_toml_depth=8,
        extra="ignore",
        frozen=True,
    )

    bootstrap_servers: str = Field(default="127.0.0.1:9092", min_length=1, description="where the brokers are")
    registry: str | None = Field(
        default=None, repr=False, description="schema registry; without one, schemas stand on a topic"
    )
    namespace: Annotated[str, AfterValidator(_legal)] = Field(
        default="", description="prefix of every topic, group and transactional id"
    )
    partitions: int = Field(default=12, ge=1, le=10_000, description="partitions of every topic of the mesh")
    create_topics: bool = Field(default=True, description="an agent creates the topics it lacks")
    concurrency: int | None = Field(default=None, ge=1, description="events in hand at once, for each agent")
    grace: float = Field(default=30.0, ge=0, description="seconds that a stop may take to finish what runs")
    instance: str | None = Field(default=None, description="this worker's name among its agent's workers")
    group_protocol: Literal["consumer", "classic"] | None = Field(
        default=None, description="how workers agree on who reads what; unset: consumer where brokers have it"
    )
    session_timeout: float = Field(
        default=10.0, ge=2, le=1_800, description="seconds until a silent worker's transaction, and place, are given up"
    )
    max_hops: int = Field(
        default=MAX_HOPS,
        ge=0,
        description="agents that may lead to an event, one after the other, before it is set aside; 0: any number",
    )
    unreadable: Unreadable = Field(
        default=Unreadable.REFUSE,
        description="what becomes of events that agents of the mesh could not read: refuse, warn, publish",
    )
    give_up: float = Field(
        default=120.0, ge=0, description="seconds without any broker after which a worker ends, to be started again"
    )
    pending: int = Field(default=2_000, ge=1, description="events of one partition in hand before it is paused")
    pending_bytes: int = Field(default=32 * _MIB, ge=1, description="bytes of one partition in hand, likewise")
    in_hand: int = Field(default=20_000, ge=1, description="events of all partitions in hand, for each agent")
    in_hand_bytes: int = Field(default=128 * _MIB, ge=1, description="bytes of all partitions in hand, likewise")
    on_missing_offsets: MissingOffsets = Field(
        default=MissingOffsets.EARLIEST, description="where to go on when the events to read next are gone"
    )
    processes: int = Field(default=1, ge=1, le=1_000, description="worker processes that `antiphon run` starts")
    canary: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_canaries)] = Field(
        default=(), description="other versions of agents that `antiphon run` runs, for a share of the workflows"
    )
    share: Annotated[str | None, AfterValidator(_share)] = Field(
        default=None, description="how many of the workflows those versions handle, such as 10%"
    )
    linger: float = Field(
        default=86_400.0,
        ge=0,
        description="seconds that a workflow can still be undone after it ended, for the coordinator",
    )
    metrics_port: int = Field(default=0, ge=0, le=65_535, description="port of /livez, /readyz, /metrics; 0: none")
    metrics_host: str = Field(default="127.0.0.1", min_length=1, description="address that this port is opened on")
    claims: Annotated[str | None, AfterValidator(_place)] = Field(
        default=None,
        description="folder or s3://bucket/prefix that all agents share, for values too large for a record",
    )
    claim_threshold: int = Field(
        default=LIMIT, ge=10_000, description="bytes of key and value above which a value is kept there"
    )
    state_dir: Annotated[str | None, AfterValidator(_folder)] = Field(
        default=None, description="folder for copies of state, so that a restart of this instance restores what is new"
    )
    state_memory: int = Field(
        default=64 * 1024 * 1024, ge=1_000_000, description="bytes of memory for state; what is more lies on disk alone"
    )
    activity_logs: int = Field(
        default=0,
        ge=0,
        le=65_536,
        description="bytes of log lines that each delivery takes along in its activity record",
    )
    index: Annotated[str | None, AfterValidator(_index)] = Field(
        default=None,
        repr=False,
        description="a tracer's index: a file, or postgresql://; unset: a file for each mesh, with this user's other state",
    )
    security: Security = Field(
        default_factory=Security, repr=False, description="who every client is, and whom it trusts"
    )
    client: Annotated[dict[str, str], BeforeValidator(_dotted)] = Field(
        default_factory=dict, repr=False, description="options of the Kafka client"
    )

    @property
    def names(self) -> Names:
        return Names(self.namespace)

    def client_options(self) -> dict[str, str]:
        """Return what every Kafka client is told: who it is, and what was said besides. Raises `SettingsError`."""
        options = client_options(self.security)
        for name in sorted(options.keys() & self.client.keys()):
            expected = "said once: ANTIPHON_SECURITY_* says it already"
            raise SettingsError(f"client.{name}", expected, masked(name, self.client[name]), "ANTIPHON_CLIENT_*")
        return options | self.client

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic-settings names the parameters
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Say which source wins: the first one listed that has the value."""
        return init_settings, env_settings, dotenv_settings, PyprojectTomlConfigSettingsSource(settings_cls)


@dataclasses.dataclass(frozen=True)
class Entry:
    """One setting, as `antiphon config` shows it."""

    name: str
    value: Any
    """Secrets are masked."""
    origin: str
    """A flag, a variable, a file, or "default"."""
    description: str


def load(flags: Mapping[str, Any] | None = None) -> Settings:
    """Read the settings. Raises `SettingsError`: which one, what was expected, what came, from where."""
    flags = flags or {}
    try:
        return Settings(**flags)
    except ValidationError as error:
        problem = error.errors()[0]
        name = str(problem["loc"][0])
        if name == "security":
            raise _misspelt(problem) from None
        got = masked(".".join(map(str, problem["loc"])), problem["input"])
        raise SettingsError(name, _expectation(problem), got, _origin(name, flags, _sources())) from None
    except UnreadableError as error:
        field = re.search(r'field "(\w+)"', str(error))
        name = field[1] if field else "settings"
        got = masked(name, os.environ.get(_PREFIX + name.upper()))
        raise SettingsError(name, "JSON", got, _PREFIX + name.upper()) from None
    except OSError as error:
        raise SettingsError("settings", "a readable file", str(error.strerror), str(error.filename)) from None
    except ValueError as error:  # a TOML file that is none
        raise SettingsError("settings", "TOML", str(error), "pyproject.toml") from None


def explain(flags: Mapping[str, Any] | None = None) -> list[Entry]:
    """Return every setting with its value, secrets masked, and where the value comes from."""
    flags = flags or {}
    settings = load(flags)
    sources = _sources()
    found: list[Entry] = []
    for name, field in Settings.model_fields.items():
        value = getattr(settings, name)
        if name == "security":
            found += _of_security(settings.security, sources)
        elif name == "client":
            found += [
                Entry(f"client.{option}", masked(option, text), _option_origin(option, sources), "a client's option")
                for option, text in value.items()
            ]
        else:
            origin = _origin(name, flags, sources)
            found.append(Entry(name, masked(name, value), origin, field.description or ""))
    return found


def strangers() -> dict[str, str]:
    """Return what is written as a setting of ours but names none, each with what may have been meant."""
    ours = [*Settings.model_fields]
    found = {
        name: _PREFIX + meant.upper() if (meant := _nearest(name.removeprefix(_PREFIX).lower(), ours)) else ""
        for name in sorted(os.environ)
        if name.startswith(_PREFIX) and not name.startswith((_PREFIX + "CLIENT_", _PREFIX + "SECURITY_"))
        if name.removeprefix(_PREFIX).lower() not in ours
    }
    toml = PyprojectTomlConfigSettingsSource(Settings)
    unknown = sorted(set(toml.toml_data) - set(ours))
    return found | {f"{name} in [tool.antiphon]": _nearest(name, ours) for name in unknown}


def _misspelt(problem: Any) -> SettingsError:
    """Say what is wrong with a setting of who a client is; what was given is not shown, whatever it is."""
    option = str(problem["loc"][1]) if len(problem["loc"]) > 1 else ""
    place = f"{_PREFIX}SECURITY_{option.upper()} or [tool.antiphon.security]"
    if problem["type"] == "extra_forbidden":
        near = likely(option)
        expected = f"a setting of ours; did you mean {near}?" if near else "a setting of ours"
        return SettingsError(f"security.{option}", expected, "***", place)
    shown = "***" if _SECRET.search(option) else problem["input"]
    return SettingsError(f"security.{option}".rstrip("."), _expectation(problem), shown, place)


def _of_security(security: Security, sources: list[_Source]) -> list[Entry]:
    """Return what was said of who a client is, and where. Secrets are masked; the paths of their files are not."""
    return [
        Entry(
            f"security.{option}",
            "***" if isinstance(value := getattr(security, option), SecretStr) else _shown(value),
            next(
                (
                    place or f"{_PREFIX}SECURITY_{option.upper()}"
                    for said, place in sources
                    if option in cast("Mapping[str, Any]", said.get("security") or {})
                ),
                "default",
            ),
            field.description or "",
        )
        for option, field in Security.model_fields.items()
        if getattr(security, option) is not None
    ]


def _shown(value: str) -> str:
    # Content where a path belongs is a secret, perhaps.
    return "***" if "\n" in value or "-----BEGIN" in value else _LOGIN.sub("***", str(value))


def _nearest(name: str, ours: list[str]) -> str:
    return (difflib.get_close_matches(name, ours, n=1) or [""])[0]


def masked(name: str, value: object) -> object:
    """Return *value* without what must not be seen: passwords, tokens, the login in an address.

    >>> masked("registry", "https://me:pw@registry:8081"), masked("sasl.password", "pw")
    ('https://***@registry:8081', '***')
    """
    if value is None or value == "":
        return value
    if _SECRET.search(name):
        return "***"
    if name == "index":
        return without_login(str(value))
    return _LOGIN.sub("***", value) if isinstance(value, str) else value


_EXPECTED = {
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_parsing": "a number",
    "bool_parsing": "true or false",
    "dict_type": "a table of client options",
    "string_type": "text",
    "string_too_short": "an address such as 127.0.0.1:9092",
}


def _expectation(problem: Any) -> str:
    kind, context = str(problem["type"]), problem.get("ctx", {})
    if kind == "greater_than_equal":
        return f"at least {context['ge']:g}"
    if kind == "less_than_equal":
        return f"at most {context['le']:g}"
    if kind in {"literal_error", "enum"}:
        return str(context["expected"]).replace("'", "")
    if kind == "value_error":
        return str(context["error"])
    return _EXPECTED.get(kind, str(problem["msg"]))


_Source: TypeAlias = tuple[Mapping[str, Any], str]
"""What one source says, and what to call it."""


def _sources() -> list[_Source]:
    toml = PyprojectTomlConfigSettingsSource(Settings)
    return [
        (_read(EnvSettingsSource(Settings)), ""),
        (_read(DotEnvSettingsSource(Settings)), ".env"),
        (_read(toml), f"[tool.antiphon] in {_shortest(Path(str(toml.toml_file_path)))}"),
    ]


def _read(source: InitSettingsSource | EnvSettingsSource) -> Mapping[str, Any]:
    try:
        return source()
    except UnreadableError:
        return {}


def _origin(name: str, flags: Mapping[str, Any], sources: list[_Source]) -> str:
    if flags.get(name) is not None:
        return "--" + name.replace("_", "-")
    variable = _PREFIX + name.upper()
    return next((place or variable for said, place in sources if name in said), "default")


def _option_origin(option: str, sources: list[_Source]) -> str:
    variable = _PREFIX + "CLIENT_" + option.upper().replace(".", "_")
    return next(
        (
            place or (variable if variable in os.environ else _PREFIX + "CLIENT")
            for said, place in sources
            if option in cast("Mapping[str, Any]", _dotted(said.get("client", {})))
        ),
        "default",
    )


def _shortest(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
