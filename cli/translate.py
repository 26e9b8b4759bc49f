"""What the errors of the other rooms mean to somebody at a terminal."""

from __future__ import annotations

from antiphon.agents.errors import DefinitionError
from antiphon.bus.errors import BrokerUnreachableError, BusError, CanaryError, NotLetInError, SettingsError
from antiphon.cli.errors import AnswerIsNoError, CommandError, UnreachableError, UsageError
from antiphon.cli.options import given
from antiphon.replay.errors import ReplayError
from antiphon.schemas.errors import (
    ConditionError,
    EventDefinitionError,
    RegistryError,
    SchemaError,
    UnsupportedTypeError,
)


def translated(error: Exception) -> CommandError | None:
    """Return *error* as what a command says; None where nobody foresaw it."""
    match error:
        case (
            CanaryError()
            | SettingsError()
            | DefinitionError()
            | UnsupportedTypeError()
            | EventDefinitionError()
            | ConditionError()
        ):
            return UsageError(*_lines(error))
        case NotLetInError(remedy=remedy):
            return UnreachableError(
                str(error).removesuffix(f" {remedy}."),
                remedy,
                "antiphon config shows what is set, and where",
            )
        case BrokerUnreachableError():
            return UnreachableError(
                str(error),
                _brokers(),
                "try: antiphon dev        starts one on this machine",
                "     antiphon doctor     looks closer",
            )
        case RegistryError():
            return UnreachableError(*_lines(error), _store())
        case BusError() | SchemaError() | ReplayError():
            return AnswerIsNoError(*_lines(error))
        case _:
            return None


def _lines(error: Exception) -> tuple[str, ...]:
    return tuple(str(error).splitlines())


def _brokers() -> str:
    return f"address from: {_origin('bootstrap_servers', '--bootstrap-servers or ANTIPHON_BOOTSTRAP_SERVERS')}"


def _store() -> str:
    """Say where the schemas were looked for: without a registry it is the brokers that have them."""
    origin = _origin("registry", "--registry or ANTIPHON_REGISTRY")
    return _brokers() if origin.startswith("the default") else f"registry from: {origin}"


def _origin(setting: str, names: str) -> str:
    from antiphon.bus.settings import explain  # noqa: PLC0415 - 0.5 s, and only this error needs it

    origin = next(entry.origin for entry in explain(given().settings()) if entry.name == setting)
    return f"the default; set {names}" if origin == "default" else origin
