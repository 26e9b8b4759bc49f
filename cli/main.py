"""`antiphon`: read the command line, run the command, and turn whatever goes wrong into words and an exit code."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn, cast

import typer
from typer.exceptions import TyperException

from antiphon.cli import errors, options
from antiphon.cli.errors import CommandError
from antiphon.cli.group import Lazy

_SELDOM = 200_000
_HELP = """Run agents that answer one another's events, and see what became of each workflow.

Example:
  antiphon new support && cd support
  antiphon try support.py ticket.opened --data '{"ticket_id": "7", "body": "refund?"}'
"""


def main() -> NoReturn:
    """Run what the command line says, and end the process."""
    # Modules are loaded, a question is answered, and it ends: there is little that is worth looking for.
    gc.set_threshold(_SELDOM)
    code = run(sys.argv[1:])
    # The interpreter flushes once more while it ends; a reader that has gone must not make it complain.
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()
        sys.exit(code)
    _forget_stdout()
    sys.exit(code)


def run(argv: Sequence[str]) -> int:
    """Run the command line *argv* and return the exit code. Never raises, whatever a user typed."""
    options.reset()
    try:
        return _invoke(application(), [*argv])
    except typer.Exit as exit:
        return exit.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return errors.INTERRUPTED
    except BrokenPipeError:
        _forget_stdout()
        return errors.DONE
    except TyperException as error:
        return _usage(error)
    except Exception as error:
        return _explain(error)


def application() -> Any:
    """Return the command that has all the others."""
    app = typer.Typer(
        cls=Lazy,
        help=_HELP,
        no_args_is_help=False,
        invoke_without_command=True,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    group = cast("Any", typer.main.get_command(app))
    options.add_common(group.params)
    return group


def _root(
    ctx: typer.Context,
    *,
    version: Annotated[bool, typer.Option("--version", help="Print the version and end.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as installed  # noqa: PLC0415 - 20 ms that only --version needs

        typer.echo(f"antiphon {installed('antiphon')}")
        raise typer.Exit
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())
        raise typer.Exit(errors.DONE)


def _invoke(group: Any, argv: list[str]) -> int:
    if os.environ.get("_ANTIPHON_COMPLETE"):
        group.main(args=argv, prog_name="antiphon")  # the shell asks what could be typed next
    with group.make_context("antiphon", argv) as context:
        group.invoke(context)
    return errors.DONE


def _usage(error: TyperException) -> int:
    context = getattr(error, "ctx", None)
    remedies = [f"try: {context.command_path} --help"] if context is not None else []
    _say(errors.render(error.format_message(), remedies))
    return errors.USAGE


def _explain(error: Exception) -> int:
    """Say what went wrong; an error that nobody foresaw is a fault of ours, and its traceback is kept."""
    known = error if isinstance(error, CommandError) else _translated(error)
    if options.given().verbose and not isinstance(error, CommandError):
        _say("".join(traceback.format_exception(error)))
    if known is not None:
        _say(errors.render(known.problem, known.remedies))
        return known.exit_code
    remedies = ["this is a fault in antiphon, not in what you typed; please report it"]
    if not options.given().verbose:
        remedies.append(f"traceback: {_keep(error)}")
    _say(errors.render(f"{type(error).__name__}: {error}", remedies))
    return errors.OUR_FAULT


def _translated(error: Exception) -> CommandError | None:
    from antiphon.cli.translate import translated  # noqa: PLC0415 - only an error needs it

    return translated(error)


def _keep(error: Exception) -> Path:
    with tempfile.NamedTemporaryFile("w", prefix="antiphon-", suffix=".log", delete=False) as file:
        file.write("".join(traceback.format_exception(error)))
    return Path(file.name)


def _say(text: str) -> None:
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.write(text.rstrip("\n") + "\n")
        sys.stderr.flush()


def _forget_stdout() -> None:
    # Python's own advice (documentation of `signal`, "Note on SIGPIPE").
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
