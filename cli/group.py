"""Which commands there are. A command's module is imported when the command is typed, and not before.

Start-up time is why: `antiphon --help` must not wait for a Kafka client, nor
`antiphon try` for settings it does not read.
"""

from __future__ import annotations

import importlib
import inspect
import textwrap
from typing import Any, cast

import typer
from typer.core import TyperCommand, TyperGroup

from antiphon.cli.options import add_common

COMMANDS = {
    "dev": "An embedded broker on this machine.",
    "demo": "A whole mesh on real input, end to end, live in the terminal.",
    "try": "Run a file's agents in process, without a broker.",
    "new": "Make a project: one agent, its test, a Dockerfile.",
    "run": "Run agents.",
    "publish": "Publish events.",
    "tail": "Show events as they happen.",
    "trace": "Show one workflow as a tree.",
    "workflows": "List workflows, and search for some.",
    "agents": "Show who is up and on what; take one out of the mesh for good.",
    "cost": "Show what model calls cost.",
    "confidence": "Show which agents are unsure, and whether it gets worse.",
    "tracer": "Keep an index of all workflows up to date.",
    "dead": "Show what agents set aside, hand it to them again, or discard it.",
    "replay": "Handle past events again, here, and see what comes out differently.",
    "saga": "Show which workflows are undone, and decide where a person has to.",
    "topology": "Show who says what to whom.",
    "topics": "Plan and make the topics that agents need.",
    "schema": "Say whom a deployment would break; schemas from classes, and back.",
    "doctor": "Say whether cluster, registry and settings are fit for the mesh.",
    "config": "Show each setting and where it comes from.",
}
"""Name to one line of help, in the order of the list that `--help` prints."""


class Command(TyperCommand):
    """A command whose help is printed as it was written, so that examples can be copied from it."""

    def format_help_text(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - typer calls it so
        formatter.write(_as_written(self.help))


class Group(TyperGroup):
    """A group of commands with such a help."""

    def format_help_text(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - typer calls it so
        formatter.write(_as_written(self.help))


def _as_written(help: str | None) -> str:
    return "\n" + textwrap.indent(inspect.cleandoc(help or ""), "  ") + "\n"


class Lazy(Group):
    """The group of all commands. Until one is typed, a stub with its line of help stands for it."""

    def __init__(self, **attrs: Any) -> None:
        super().__init__(**attrs)
        for name, line in COMMANDS.items():
            self.commands[name] = TyperCommand(name, help=line, rich_markup_mode=None)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] in COMMANDS:
            self.commands[args[0]] = cast("Any", load(args[0]))
        return super().resolve_command(ctx, args)


def load(name: str) -> TyperCommand | TyperGroup:
    """Import the module of a command and return the command.

    The module has a function named as the command is (`try_` where Python has
    the word already), or a typer application named `app` where the command has
    commands of its own.
    """
    keyword = {"try": "try_"}.get(name, name)
    module = importlib.import_module(f"antiphon.cli.commands.{keyword}")
    if (app := getattr(module, "app", None)) is None:
        app = typer.Typer(add_completion=False, rich_markup_mode=None)
        app.command(name=name, cls=Command, short_help=COMMANDS[name])(getattr(module, keyword))
    command = cast("TyperCommand | TyperGroup", typer.main.get_command(app))
    command.name = name
    for leaf in command.commands.values() if isinstance(command, TyperGroup) else [command]:
        add_common(leaf.params)
    if getattr(command, "invoke_without_command", False):
        add_common(command.params)
    return command
