"""What goes to stdout and stderr: results and remarks, for people and for programs."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TextIO

import orjson

from antiphon.cli.options import Color, given

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_PAGE = 100

# C0 and C1 controls, and the marks that turn the direction of text: what an event says must not steer a terminal.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def inert(text: str) -> str:
    r"""Make *text* that somebody else wrote harmless on a terminal, visibly.

    >>> inert("a\x1b[31mb")
    'a\\x1b[31mb'
    """
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def counted(number: int, noun: str) -> str:
    """Return *number* of what *noun* names.

    >>> counted(1, "event"), counted(1_200, "event")
    ('1 event', '1,200 events')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def result(text: str = "") -> None:
    """Write one line of the answer to stdout."""
    sys.stdout.write(text + "\n")


def flush() -> None:
    """Hand what was written over now: somebody is watching, or reads the other end of a pipe."""
    sys.stdout.flush()


def remark(text: str) -> None:
    """Write one line that is not the answer to stderr."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def document(value: Any) -> None:
    """Write the answer as one JSON document."""
    sys.stdout.write(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode() + "\n")


def line(value: Any) -> None:
    """Write one item of a stream as a line of JSON, at once."""
    sys.stdout.write(orjson.dumps(value).decode() + "\n")
    sys.stdout.flush()


def compact(value: Any, *, at_most: int | None = None) -> str:
    """Write *value* as JSON on one line for a person; what is too long is cut, visibly."""
    text = inert(orjson.dumps(value).decode())
    return text if at_most is None or len(text) <= at_most else text[: at_most - 1] + "…"


def show(renderable: RenderableType) -> None:
    """Write a tree or another drawing to stdout; coloured where that is wanted."""
    console().print(renderable)


def is_terminal() -> bool:
    """Say whether somebody looks at stdout as it is written."""
    return sys.stdout.isatty()


def width() -> int:
    """Return how many columns stdout has; where it is no terminal, as many as a page."""
    return shutil.get_terminal_size((_PAGE, 24)).columns if sys.stdout.isatty() else _PAGE


def console(stream: TextIO | None = None) -> Console:
    """Return a console on stdout (or *stream*) that obeys `--color`, NO_COLOR and what the stream is."""
    from rich.console import Console  # noqa: PLC0415 - 0.1 s that most commands need not pay

    target: TextIO = stream or sys.stdout
    colored = wants_color(target)
    terminal = target.isatty()
    return Console(
        file=target,
        force_terminal=colored,
        no_color=not colored,
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=not terminal,  # a file or a pipe has no width
        width=None if terminal else _PAGE,
    )


def wants_color(stream: TextIO) -> bool:
    """Say whether to colour what goes to *stream* (https://no-color.org)."""
    match given().color:
        case Color.ALWAYS:
            return True
        case Color.NEVER:
            return False
        case Color.AUTO:
            return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def columns(rows: Iterable[Sequence[str]], *, gap: int = 2) -> list[str]:
    """Set *rows* out in columns as wide as their widest cell; the last one is left as it is.

    >>> columns([("a", "bb", "c"), ("ddd", "e", "f")])
    ['a    bb  c', 'ddd  e   f']
    """
    table = [[*row] for row in rows]
    if not table:
        return []
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    return [
        "".join(cell.ljust(width + gap) for cell, width in zip(row[:-1], widths[:-1], strict=True)) + row[-1]
        for row in table
    ]
