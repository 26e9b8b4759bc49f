"""The demo's screen: a live table on a terminal, plain lines elsewhere, and the summary."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from antiphon.cli.demo.board import ENDS, Board, Package, Stage, Summary
from antiphon.cli.output import counted, inert

_STYLES = {
    Stage.APPROVED: "green",
    Stage.REFUSED: "red",
    Stage.REVIEW: "yellow",
    Stage.UNREADABLE: "magenta",
    Stage.FAILED: "bold red",
}
_WORDS = {Stage.REVIEW: "needs a person"}
_FRAME_S = 0.1
_LINES_AROUND = 8
_GAP = 2
_TITLES = ("package", "version", "licence", "confidence", "outcome", "time")
_ROOMY = 120
_WIDE = {"package": 24, "version": 12, "licence": 24, "confidence": 10, "time": 7}
_NARROW = {"package": 18, "version": 9, "licence": 12, "confidence": 10, "time": 7}


class Screen(Protocol):
    """What is shown while packages go through."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def say(self, text: str) -> None:
        """Say what is being waited for."""
        ...

    def show(self, board: Board, changed: Package) -> None:
        """Show that *changed* is further than it was."""
        ...


class Lines:
    """One line a package, when it has its outcome: for a pipe, a file, a CI log. Without *results*, none at all."""

    def __init__(self, results: Console | None, remarks: Console) -> None:
        self._results = results
        self._remarks = remarks
        self._outcomes: set[str] = set()
        self._undone: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is open."""

    def say(self, text: str) -> None:
        self._remarks.print(text)

    def show(self, board: Board, changed: Package) -> None:  # noqa: ARG002 - as the protocol says
        if self._results is None:
            return
        id, package = changed.correlation_id, f"{inert(changed.name)} {inert(changed.version)}"
        # By what is new of it, not by where it stands: of two topics, that it is undone may be read before why.
        if changed.stage in ENDS and id not in self._outcomes:
            self._outcomes.add(id)
            outcome = _WORDS.get(changed.stage, str(changed.stage))
            detail = f"{inert(changed.licence or '-')} {_number(changed.confidence)}  {inert(changed.reason)}"
            self._results.print(f"{outcome:14}  {package}  {detail}  ({_number(changed.seconds)} s)")
        if changed.released and id not in self._undone:
            self._undone.add(id)
            self._results.print(f"{'undone':14}  {package}")


class LiveTable:
    """The packages that moved last, in a table that stays in its place; all of them when it is done."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._recent: dict[str, Package] = {}
        self._board: Board | None = None
        self._drawn_s = 0.0

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()
        if self._board is not None and kind is None:
            packages = sorted(self._board.packages.values(), key=lambda package: package.name.lower())
            self._console.print(table(packages, self._console.width, whole=True))

    def say(self, text: str) -> None:
        self._live.update(Text(text, style="dim"), refresh=True)

    def show(self, board: Board, changed: Package) -> None:
        self._board = board
        # Last moved, last shown: what the eye follows is at the bottom.
        self._recent.pop(changed.correlation_id, None)
        self._recent[changed.correlation_id] = changed
        now = time.monotonic()
        if now - self._drawn_s >= _FRAME_S or board.settled:
            self._drawn_s = now
            self._live.update(self._frame(board), refresh=True)

    def _frame(self, board: Board) -> RenderableType:
        room = max(3, self._console.height - _LINES_AROUND)
        return Group(table([*self._recent.values()][-room:], self._console.width), stages(board))


def table(packages: Sequence[Package], width: int, *, whole: bool = False) -> Table:
    """Draw *packages*, a row each. Where the terminal is narrow, texts are cut; with *whole*, the reason is not."""
    rows = [_cells(package) for package in packages]
    drawn = Table(box=None, pad_edge=False, header_style="bold", padding=(0, _GAP, 0, 0))
    for title, fitting in zip(_TITLES, _widths(rows, width), strict=True):
        right = title in {"confidence", "time"}
        wraps = whole and title == "outcome"
        drawn.add_column(title, width=fitting, justify="right" if right else "left", no_wrap=not wraps)
    for row in rows:
        drawn.add_row(*row)
    return drawn


def _widths(rows: Sequence[Sequence[Text]], width: int) -> list[int]:
    widest = _NARROW if width < _ROOMY else _WIDE
    widths = [
        min(widest.get(title, width), max(len(text) for text in (title, *cells)))
        for title, *cells in zip(_TITLES, *rows, strict=True)
    ]
    # What is not among the limits takes what the others leave.
    outcome = _TITLES.index("outcome")
    left = width - sum(widths) + widths[outcome] - _GAP * len(widths)
    widths[outcome] = max(len("outcome"), min(widths[outcome], left))
    return widths


def stages(board: Board) -> Text:
    """Say on one line how many packages are at which stage."""
    counts = board.counts()
    parts = [
        Text(f"{counts[stage]} {_WORDS.get(stage, str(stage))}", style=_STYLES.get(stage, "dim"))
        for stage in Stage
        if counts[stage]
    ]
    undone = sum(package.released for package in board.packages.values())
    parts += [Text(f"{undone} undone", style="red")] if undone else []
    return Text("   ").join([Text(counted(len(board.packages), "package"), style="bold"), *parts])


def _cells(package: Package) -> list[Text]:
    outcome = _WORDS.get(package.stage, str(package.stage))
    if package.stage is Stage.REFUSED and package.released:
        outcome = "refused, undone"
    # Why a licence is allowed goes without saying; why a package without one is, does not.
    if package.reason and (package.stage is not Stage.APPROVED or package.licence is None):
        outcome += f": {inert(package.reason)}"
    seconds = package.seconds
    return [
        Text(inert(package.name)),
        Text(inert(package.version), style="dim"),
        Text(inert(package.licence or "-")),
        Text(_number(package.confidence)),
        Text(outcome, style=_STYLES.get(package.stage, "dim"), overflow="ellipsis"),
        Text("" if seconds is None else f"{seconds:.2f} s", style="dim"),
    ]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def summary_lines(summary: Summary) -> list[str]:
    """Write the summary for a person."""
    outcomes = summary.outcomes
    held = sum(summary.catalogue.values())
    lines = [
        f"{counted(summary.packages, 'package')} in {summary.seconds:.1f} s, {summary.rate:.1f} a second: "
        + ", ".join(f"{outcomes.get(stage, 0)} {_WORDS.get(stage, str(stage))}" for stage in _worth_saying(summary)),
        f"licences: {summary.agreed} of {summary.declared} that declare an SPDX expression agree with their text",
    ]
    lines += [f"  {_disagreement(one)}" for one in summary.disagreements]
    lines.append(
        f"undone: {summary.undone} of {outcomes.get(Stage.REFUSED, 0)} refused; the catalogue holds {counted(held, 'package')} "
        f"({', '.join(f'{count} {state}' for state, count in sorted(summary.catalogue.items())) or 'none'})"
    )
    if summary.left_behind:
        lines.append(f"  still in the catalogue though refused: {', '.join(map(inert, summary.left_behind))}")
    return lines


def _worth_saying(summary: Summary) -> list[Stage]:
    always = (Stage.APPROVED, Stage.REFUSED, Stage.REVIEW)
    return [stage for stage in Stage if stage in always or (summary.outcomes.get(stage) and stage in ENDS)]


def _disagreement(package: Package) -> str:
    declared = f"{inert(package.name)} declares {inert(package.declared or '')}"
    if package.file is None:
        return f"{declared}, but ships no licence text"
    file = inert(package.file)
    if package.judged is None:
        return f"{declared}, but {file} is no licence text we know"
    return f"{declared}, but {file} looks like {package.judged} ({_number(package.confidence)})"
