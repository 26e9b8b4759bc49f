"""The options every command has. They are accepted before the command's name and after it; what stands last counts."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from contextvars import ContextVar
from enum import StrEnum
from typing import Annotated, Any, Protocol, cast

import typer

from antiphon.cli.errors import UsageError


class Color(StrEnum):
    """When to write colours."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


@dataclasses.dataclass
class Given:
    """What was said on the command line, for any command. None: nothing, so the settings decide."""

    bootstrap_servers: str | None = None
    registry: str | None = None
    namespace: str | None = None
    json: bool = False
    color: Color = Color.AUTO
    verbose: bool = False

    def settings(self) -> dict[str, str]:
        """Return what overrides the environment and the files; raises `UsageError` where a secret is among it."""
        if "@" in (self.registry or ""):
            raise UsageError(
                "expected --registry without a login, as everybody on this machine can read a command line",
                "set ANTIPHON_SECURITY_REGISTRY_USER, and ANTIPHON_SECURITY_REGISTRY_PASSWORD or its _FILE",
            )
        said = {
            "bootstrap_servers": self.bootstrap_servers,
            "registry": self.registry,
            "namespace": self.namespace,
        }
        return {name: value for name, value in said.items() if value is not None}


_given: ContextVar[Given] = ContextVar("antiphon_given")


def given() -> Given:
    """Return what was said on the command line, for any command."""
    return _given.get()


def reset() -> Given:
    """Forget what an earlier command line said."""
    fresh = Given()
    _given.set(fresh)
    return fresh


def _remember(param: typer.CallbackParam, value: Any) -> Any:
    # A flag that was not given has its default here, which must not undo one given before the command's name.
    if value not in (None, False):
        setattr(_given.get(), param.name, Color(value) if param.name == "color" else value)
    return value


def _option(*names: str, help: str, metavar: str | None = None) -> Any:
    return typer.Option(
        *names, help=help, metavar=metavar, callback=_remember, expose_value=False, show_default=False, is_eager=True
    )


def _common(
    *,
    bootstrap_servers: Annotated[
        str | None, _option("-b", "--bootstrap-servers", help="Where the brokers are.", metavar="HOST:PORT")
    ] = None,
    registry: Annotated[str | None, _option("--registry", help="Schema registry to use.", metavar="URL")] = None,
    namespace: Annotated[
        str | None, _option("-n", "--namespace", help="Prefix of every topic and group.", metavar="NAME")
    ] = None,
    json: Annotated[bool, _option("--json", help="One JSON document on stdout; NDJSON for streams.")] = False,
    color: Annotated[
        Color | None, _option("--color", help="When to write colours: auto, always or never.", metavar="WHEN")
    ] = None,
    verbose: Annotated[bool, _option("-v", "--verbose", help="Say more on stderr; tracebacks too.")] = False,
) -> None:
    """Declare the options; never called."""


class Parameter(Protocol):
    """What is asked of one parameter of a command; typer has its own names for the class."""

    name: Any
    opts: list[str]


def add_common(params: list[Any]) -> None:
    """Add the common options to *params*, but for those a command declares itself."""
    taken = {text for param in cast("Iterable[Parameter]", params) for text in (*param.opts, param.name)}
    params += [param for param in _declared() if not taken.intersection((*param.opts, param.name))]


def _declared() -> list[Any]:
    app = typer.Typer(add_completion=False)
    app.command()(_common)
    return cast("list[Any]", typer.main.get_command(app).params)
