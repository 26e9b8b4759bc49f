"""Rows set out in columns, for people: what needs attention stands out, and what others wrote cannot steer the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.text import Text

from antiphon.cli.output import inert

Cell: TypeAlias = str | Text

STATES = {
    "completed": "green",
    "compensated": "cyan",
    "compensating": "cyan",
    "failed": "bold red",
    "parked": "bold red",
    "stalled": "bold yellow",
    "incomplete": "yellow",
}
"""How each state of a workflow is written; others in blue."""
_GAP = 2


def table(heads: Sequence[str], rows: Iterable[Sequence[Cell]], *, right: Sequence[str] = ()) -> RenderableType:
    """Set *rows* out below *heads*; columns named in *right* hold numbers."""
    cells = [[_text(cell) for cell in row] for row in rows]
    lines = [[Text(head, "dim") for head in heads], *cells]
    widths = [max(line[column].cell_len for line in lines) for column in range(len(heads))]
    return Lines([_line(line, widths, [head in right for head in heads]) for line in lines])


class Lines:
    """Lines of a drawing. A terminal's edge cuts off those that are not to be wrapped, visibly; a file has no edge."""

    def __init__(self, lines: Sequence[Text]) -> None:
        self._lines = lines

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line in self._lines:
            if line.no_wrap:
                line.overflow = None if console.soft_wrap else "ellipsis"
            yield line


def state(word: str) -> Text:
    """Write a workflow's state."""
    return Text(word, STATES.get(word, "blue"))


def _text(cell: Cell) -> Text:
    return cell if isinstance(cell, Text) else Text(inert(cell))


def _line(cells: Sequence[Text], widths: Sequence[int], right: Sequence[bool]) -> Text:
    line = Text(no_wrap=True)  # or the columns fall apart
    for cell, width, at_right in zip(cells, widths, right, strict=True):
        room = " " * (width - cell_len(cell.plain))
        line.append_text(Text(room).append_text(cell) if at_right else cell.copy().append(room))
        line.append(" " * _GAP)
    line.rstrip()
    return line
