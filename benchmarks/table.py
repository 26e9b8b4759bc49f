"""The table: what was measured beside what, as ratios with their medians and ranges. Pure: numbers in, lines out."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence
from enum import Enum

HEAD = ("`--only`", "figure", "ours", "beside it", "ratio", "over the rounds", "should be")
BEGIN, END = "<!-- the table: make bench ARGS=--save -->", "<!-- the end of the table -->"

Pair = tuple[float, float]
"""What one round found: ours, and what it is compared with."""


class Unit(Enum):
    """How a number is written."""

    RATE = "{:,.0f}/s"
    MILLISECONDS = "{:,.1f} ms"
    MICROSECONDS = "{:,.1f} us"
    MEGABYTES = "{:,.1f} MB"
    SECONDS = "{:,.2f} s"
    BYTES = "{:,.0f} B"

    def written(self, number: float) -> str:
        return self.value.format(number)


@dataclasses.dataclass(frozen=True)
class Figure:
    """One line of the table, before anything is measured."""

    experiment: str
    """What `--only` calls it, and the other figures that come from the same runs."""
    says: str
    """What is measured, and beside what. The reference lists it under this very text."""
    unit: Unit
    aim: str
    beyond: bool = False
    """The difference counts, not the ratio: how much ours takes beyond what cannot be avoided."""

    def compared(self, pair: Pair) -> float:
        """Return what a round's two numbers come to."""
        ours, theirs = pair
        return ours - theirs if self.beyond else ours / theirs

    def written(self, compared: float) -> str:
        return f"{compared:+.2f} s" if self.beyond else f"{compared:.2f}"


@dataclasses.dataclass(frozen=True)
class Row:
    """A figure, and what its rounds found; none where it could not be measured, and then *why* says so."""

    figure: Figure
    pairs: Sequence[Pair] = ()
    why: str = ""

    def cells(self) -> tuple[str, ...]:
        """Return the row's texts, one for each of `HEAD`.

        Each column has its own median: the ratio's is that of the rounds'
        ratios, since what a round measures side by side met the same machine.
        """
        figure = self.figure
        if not self.pairs:
            return (figure.experiment, figure.says, "-", "-", "-", f"not measured: {self.why}", figure.aim)
        compared = [figure.compared(pair) for pair in self.pairs]
        return (
            figure.experiment,
            figure.says,
            figure.unit.written(statistics.median(ours for ours, _ in self.pairs)),
            figure.unit.written(statistics.median(theirs for _, theirs in self.pairs)),
            figure.written(statistics.median(compared)),
            f"{figure.written(min(compared))} to {figure.written(max(compared))}",
            figure.aim,
        )


def lines(rows: Sequence[Row]) -> list[str]:
    """Return the table, aligned for a terminal, and as Markdown has it.

    >>> hop = Figure("hop", "one hop, against a loop by hand", Unit.RATE, "0.8")
    >>> print(*lines([Row(hop, [(90, 100), (130, 100), (99, 110)])]), sep="\\n")
    | `--only` | figure                          | ours | beside it | ratio | over the rounds | should be |
    |----------|---------------------------------|------|-----------|-------|-----------------|-----------|
    | hop      | one hop, against a loop by hand | 99/s | 100/s     | 0.90  | 0.90 to 1.30    | 0.8       |
    """
    cells = [HEAD, *(row.cells() for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    drawn = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in cells]
    return [drawn[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *drawn[1:]]


def put_into(page: str, text: str) -> str:
    """Return *page* with *text* between its two markers, in the place of what stood there."""
    before, found, rest = page.partition(BEGIN)
    _, closed, after = rest.partition(END)
    if not found or not closed:
        message = f"expected a page with {BEGIN} and, below it, {END}, got one without"
        raise ValueError(message)
    return f"{before}{BEGIN}\n{text}\n{END}{after}"
