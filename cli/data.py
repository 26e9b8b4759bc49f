"""JSON that a person wrote: from the command line, a file or stdin. What is wrong is shown where it stands."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from antiphon.cli.errors import UsageError
from antiphon.cli.output import inert
from antiphon.schemas.errors import InvalidDataError
from antiphon.schemas.event import Event
from antiphon.schemas.input import event_from_json


class Item(NamedTuple):
    """One JSON value, and where it stands."""

    place: str
    value: Any


def items(data: str | None, file: str | None) -> Iterator[Item]:
    """Yield what `--data` or `--file` holds; a file has one value a line, or is one array. `-` is stdin.

    Raises `UsageError` when nothing was given, or at the first value that does not parse.
    """
    if (data is None) == (file is None):
        got = "neither" if data is None else "both"
        raise UsageError(f"expected --data or --file, got {got}", "--file - reads one JSON object a line from stdin")
    if data is not None:
        yield Item("--data", parse(data, "--data"))
    elif file == "-":
        yield from _lines(sys.stdin, "stdin")
    else:
        path = Path(str(file))
        try:
            with path.open(encoding="utf-8") as stream:
                yield from _lines(stream, str(path))
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise UsageError(f"expected a file of JSON lines at {str(path)!r}: {reason}") from None


def _lines(stream: Iterator[str], name: str) -> Iterator[Item]:
    for number, text in enumerate(stream, start=1):
        if not text.strip():
            continue
        if number == 1 and text.lstrip().startswith("["):
            yield from _array(text + "".join(stream), name)
            return
        place = f"{name}, line {number}"
        yield Item(place, parse(text.rstrip("\n"), place))


def _array(text: str, name: str) -> Iterator[Item]:
    for number, value in enumerate(parse(text, name), start=1):
        yield Item(f"{name}, item {number}", value)


def parse(text: str, place: str) -> Any:
    """Parse *text* as JSON; raises `UsageError` with the place where it stops being JSON."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        lines = text.splitlines() or [""]
        row = min(error.lineno, len(lines)) - 1
        column = error.colno if row == error.lineno - 1 else len(lines[row]) + 1
        start = max(0, column - 60)
        shown = inert(lines[row][start : start + 100])
        caret = " " * len(inert(lines[row][start : column - 1])) + "^"
        hint = (
            [] if text.lstrip()[:1] in ("{", "[", '"') else ['put JSON between single quotes: \'{"field": "value"}\'']
        )
        where = f"line {error.lineno}, column {error.colno}"
        reason = error.msg.partition(": line")[0]
        raise UsageError(f"expected JSON in {place}, got {reason} at {where}", shown, caret, *hint) from None


def fit(event_class: type[Event], item: Item) -> Event:
    """Make the event; raises `UsageError` with the field, what it must be, and what came."""
    try:
        return event_from_json(event_class, orjson.dumps(item.value))
    except InvalidDataError as error:
        problems = [inert(problem) for problem in error.problems]
        raise UsageError(f"{item.place} does not fit {error.type}", *problems, error.remedy) from None
