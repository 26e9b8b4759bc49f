"""A workflow document drawn as a tree, for a terminal or a plain file.

Everything that somebody else wrote (types, names, data, errors) is drawn as
text: no control character reaches the terminal, and no markup is obeyed.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import PureWindowsPath
from typing import NamedTuple

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.text import Text

from antiphon.bus.consumer import UNSAID
from antiphon.bus.guard import GUARD_ERRORS
from antiphon.bus.names import COORDINATOR
from antiphon.bus.undo import UndoRequested
from antiphon.cli.hops import Hop, Json, Kind, end_us, fields, tops, walk
from antiphon.cli.outline import Row, outline
from antiphon.cli.output import counted, inert
from antiphon.cli.table import STATES, Lines
from antiphon.schemas.envelope import parse_time
from antiphon.tracing.chain import chain_to, in_words
from antiphon.tracing.document import at_right_times

LIMIT = 200
_BAR = "▓" * 8
_WARNINGS_SHOWN, _LINES_SHOWN = 5, 10
_LEVELS = {"warning": "yellow", "error": "red", "critical": "bold red"}
_TEXT_WIDTH = 110
_PAGE = 100
_SHORT_US, _SECOND_US, _MINUTE_US = 10_000, 1_000_000, 60_000_000
_LABEL_WIDTH = 32
_UNDO_REQUESTED = UndoRequested.__event__.type
_FRAME = re.compile(r'File "([^"\n]+)", line (\d+)')
_NOT_THE_USERS = re.compile(
    r"[/\\](site-packages|dist-packages|lib[/\\]python3[^/\\]*)[/\\]"
    r"|[/\\]antiphon[/\\](agents|bus|compensation|schemas|testing|cli|replay|tracing)[/\\]|^<"
)


class _Line(NamedTuple):
    """A row in columns: who, what it said, how long that took, and what else there is to say."""

    row: Row
    who: Text
    what: Text
    took: str
    notes: Text


def render(
    document: Json,
    *,
    width: int | None = None,
    payloads: bool = False,
    limit: int | None = LIMIT,
    next_steps: Sequence[tuple[str, str]] | None = None,
) -> RenderableType:
    """Draw *document* (as `Workflow.document` makes it) for *width* columns; None: as wide as the console.

    At most *limit* hops are drawn, those that failed or are outstanding and the
    critical path first; None draws all. *next_steps* are commands with what
    they do, printed last; None: those that fit the state, on a broker.
    """
    if width is None:
        return _Fitted(
            lambda width: render(document, width=width, payloads=payloads, limit=limit, next_steps=next_steps)
        )
    return Lines([*_Drawing(document, width=width, payloads=payloads, limit=limit).texts(next_steps)])


def text(document: Json) -> str:
    """Draw *document* as plain text, for a test's message. The kit finds this by its entry point."""
    console = Console(file=io.StringIO(), width=_TEXT_WIDTH, color_system=None, force_terminal=False)
    with console.capture() as captured:
        console.print(render(document, width=_TEXT_WIDTH, next_steps=()))
    return captured.get()


class _Fitted:
    """A drawing that asks the console for its width."""

    def __init__(self, draw: Callable[[int], RenderableType]) -> None:
        self._draw = draw

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self._draw(options.max_width)


class _Drawing:
    def __init__(self, document: Json, *, width: int, payloads: bool, limit: int | None) -> None:
        self.document = document = at_right_times(document)
        self.width = width
        self.payloads = payloads
        self.types: dict[str, str] = {event["id"]: event["type"] for event in document["events"]}
        self.tops = tops(document)
        self.path = _critical_hops(document, self.tops)
        self.slowest = max(self.path, key=lambda hop: hop.took_us or 0, default=None)
        root = next((hop.event for hop in self.tops if hop.event), None)
        self.root_data: Json = fields(root["data"]) if root else {}
        on_path = frozenset(document["critical_path"])
        rows = outline(self.tops, limit=limit, indent=max(12, width // 3), first=on_path)
        self.lines = [self._line(row) for row in rows]
        self.who_width = min(max((cell_len(line.row.guides) + line.who.cell_len for line in self.lines), default=0), 40)
        widest = max((self._left(line) for line in self.lines), default=0)
        self.left_width = min(widest + 2, max(self.width - 36, 40))

    def texts(self, next_steps: Sequence[tuple[str, str]] | None) -> Iterator[Text]:
        for index, line in enumerate(self.lines):
            yield self._header(line) if index == 0 else self._drawn(line)
            yield from self._below(line)
        yield from self._footer()
        steps = _next_steps(self.document, payloads=self.payloads) if next_steps is None else next_steps
        yield from _hints(steps, self.width)

    # -- one hop ------------------------------------------------------------

    def _line(self, row: Row) -> _Line:
        hop = row.hop
        if hop is None:
            text = Text(f"… {row.left_out:,} more (all of them: --json)", style="dim")
            return _Line(row, Text(), text, "", Text())
        who = Text(inert(hop.agent), style="cyan").append(_version(hop), "dim")
        took = "" if hop.took_us is None else duration(hop.took_us)
        notes = Text()
        if hop is self.slowest and len(self.path) > 1:
            notes.append(_BAR, "yellow")
        if hop.model_us and hop.ordinal == 0:
            _append(notes, Text(f"({duration(hop.model_us)} in models)", style="dim"))
        if hop.undo is not None:
            _append(notes, self._undone(hop))
        if hop.kind is Kind.OUTSIDE:
            return _Line(row, Text(), self._said(hop), took, notes)
        if hop.event is not None and hop.event["causes"]:
            others = ", ".join(self.types.get(id, f"{id}, not seen") for id in hop.event["causes"])
            _append(notes, Text(f"(also needed {inert(others)})", style="dim"))
        if hop.kind is Kind.SAID and len(hop.attempts) > 1:
            _append(notes, Text(f"({len(hop.attempts)} attempts)", style="dim"))
        return _Line(row, who, self._said(hop), took, notes)

    def _said(self, hop: Hop) -> Text:
        match hop.kind:
            case Kind.QUIET:
                return Text("heard it", style="dim")
            case Kind.UNSEEN:
                return Text(f"? {inert(hop.id or '')} was not seen", style="yellow")
            case Kind.OWED:
                return Text(_owed(hop), style="yellow")
            case Kind.SET_ASIDE:
                return Text(_set_aside(hop.attempts), style="bold red")
            case Kind.OUTSIDE | Kind.SAID:
                return self._event(hop)

    def _event(self, hop: Hop) -> Text:
        event = hop.event or {}
        text = Text(inert(event["type"]), style="bold" if hop.kind is Kind.OUTSIDE else "")
        if event["fails"]:
            text.append(" ✗", "bold red")
        known: Json = {} if hop.kind is Kind.OUTSIDE else self.root_data
        heard: Json = fields(hop.heard["data"]) if hop.heard else {}
        at_most = 2 if hop.kind is Kind.OUTSIDE else 1
        labels = _labels(event["data"], but=[*known.values(), *heard.values()], at_most=at_most)
        if labels:
            text.append(f"  {' '.join(labels)}", "dim")
        confidence = hop.attempts[-1]["confidence"] if hop.attempts else None
        if confidence is not None:
            text.append(f"  {confidence:.2f}")
        return text

    def _undone(self, hop: Hop) -> Text:
        undo, event = hop.undo, hop.event
        if undo is None or event is None:
            return Text()
        if undo.set_aside:
            return Text(f"↩ undo {_set_aside(undo.attempts)}", style="bold red")
        if not undo.done:
            return Text("↩ undo asked for", style="yellow")
        answers = ", ".join(inert(answer["type"]) for answer in undo.answers) or "undone"
        after_us = undo.done_us - parse_time(event["time"])
        return Text(f"↩ {answers}  {duration(after_us)} later", style="cyan")

    # -- columns ------------------------------------------------------------

    def _left(self, line: _Line) -> int:
        if not line.who.plain:
            return cell_len(line.row.guides) + line.what.cell_len
        return max(self.who_width, cell_len(line.row.guides) + line.who.cell_len) + 1 + line.what.cell_len

    def _drawn(self, line: _Line) -> Text:
        # Cut at the terminal's edge rather than wrapped, or the tree falls apart; whole where there is no edge.
        text = Text(no_wrap=True).append(line.row.guides, "dim").append_text(line.who)
        if line.who.plain:
            text.append(" " * max(1, self.who_width + 1 - text.cell_len))
        text.append_text(line.what)
        if line.took or line.notes.plain:
            text.append(" " * max(1, self.left_width - text.cell_len))
            text.append(f"{line.took:>8}")
            _append(text, line.notes)
        text.rstrip()
        return text

    def _header(self, line: _Line) -> Text:
        document = self.document
        events = sum(event["type"] != _UNDO_REQUESTED for event in document["events"])
        agents = len({delivery["agent"] for delivery in document["deliveries"]})
        took = duration(round(document["duration_ms"] * 1_000))
        state = Text(document["state"], STATES.get(document["state"], "blue"))
        state.append(f"  ·  {took}  ·  {counted(events, 'event')}, {counted(agents, 'agent')}", "default not bold")
        gap = min(self.left_width + 2, self.width - state.cell_len) - line.what.cell_len
        return Text().append_text(line.what).append(" " * max(2, gap)).append_text(state)

    def _below(self, line: _Line) -> Iterator[Text]:
        hop = line.row.hop
        if hop is None:
            return
        before = f"{line.row.below}    "
        if hop.kind in (Kind.SET_ASIDE, Kind.OWED) and hop.attempts:
            yield from self._failure(hop.attempts[-1]["error"], hop.heard, before)
        if hop.ordinal == 0:
            yield from self._logs([*hop.attempts, *(hop.undo.attempts if hop.undo is not None else ())], before)
        if hop.undo is not None and hop.undo.set_aside:
            yield from self._failure(hop.undo.attempts[-1]["error"], hop.event, before)
        if self.payloads and hop.event is not None:
            yield Text.assemble((before, "dim"), (_data(hop.event), "dim"))

    def _logs(self, attempts: Sequence[Json], before: str) -> Iterator[Text]:
        lines = [line for attempt in attempts for line in attempt.get("logs", ())]
        shown = lines if self.payloads else lines[-_LINES_SHOWN:]
        if len(lines) > len(shown):
            left_out = f"… {len(lines) - len(shown):,} earlier lines (all of them: --payloads)"
            yield Text.assemble((before, "dim"), (left_out, "dim"))
        for line in shown:
            beside = " ".join(f"{inert(name)}={_json(value)}" for name, value in fields(line["fields"]).items())
            text = Text.assemble((before, "dim"), (f"{line['time'][11:23]} ", "dim"))
            text.append(f"{inert(line['level']):<8} ", _LEVELS.get(line["level"], "dim"))
            text.append(inert(line["message"])).append(f"  {beside}" if beside else "", "dim")
            yield text

    def _failure(self, error: Json | None, heard: Json | None, before: str) -> Iterator[Text]:
        if error is not None:
            first, *more = error["message"].splitlines() or [""]
            text = Text.assemble((before, "dim"), (f"{inert(error['type'])}: {inert(first)}", "red"))
            at = users_line(error["traceback"])
            if at is not None:
                text.append(" " * max(2, self.left_width - text.cell_len))
                text.append(inert(at), "bold")
            yield text
            yield from (Text.assemble((before, "dim"), (inert(rest), "red")) for rest in more)
            if error["type"] in GUARD_ERRORS and heard is not None:
                chain = in_words(chain_to(heard["id"], self.document))
                yield Text.assemble((before, "dim"), ("came by: ", "dim"), inert(chain))
        if heard is not None and not self.payloads:
            room = max(self.width - cell_len(before) - len("input: "), 20)
            yield Text.assemble((before, "dim"), ("input: ", "dim"), _data(heard, at_most=room))

    # -- the end ------------------------------------------------------------

    def _footer(self) -> Iterator[Text]:
        parts: list[str] = []
        if self.slowest is not None and self.slowest.took_us and len(self.path) > 1:
            whole = duration(_path_us(self.document))
            parts.append(f"slowest: {inert(self.slowest.agent)}, {duration(self.slowest.took_us)} of {whole} ")
            parts[-1] += "on the critical path."
        undos = [hop.undo for hop in walk(self.tops) if hop.undo is not None]
        if undos:
            parts.append(f"undone: {sum(undo.done for undo in undos)} of {len(undos)}.")
        cost = self.document["cost"]
        amounts = [spent for spent in cost.get("amounts", [cost]) if spent["amount"]]
        if amounts:
            parts.append(
                "cost: " + " + ".join(f"{spent['amount']:.6g} {inert(spent['currency'])}" for spent in amounts) + "."
            )
        if parts:
            yield Text("  ".join(parts))
        if models_us := sum(hop.model_us for hop in self.path):
            queued_us, handled_us = sum(hop.queued_us for hop in self.path), sum(hop.handled_us for hop in self.path)
            queued, handled, models = map(duration, (queued_us, handled_us, models_us))
            yield Text(f"on that path: {queued} in queues, {handled} in handlers, {models} of that in models.")
        if (again := self.document.get("replay_of")) is not None:
            yield Text(f"a live replay of {inert(again)}", "dim")
        off = self.document.get("clocks", ())
        if off:
            named = ", ".join(_clock(clock) for clock in off[:_WARNINGS_SHOWN])
            more = f" and {len(off) - _WARNINGS_SHOWN:,} more" if len(off) > _WARNINGS_SHOWN else ""
            yield Text(f"clocks: {named}{more}. Times here are put right; --json has them as told.", "yellow")
        warnings = self.document["warnings"]
        for warning in warnings[:_WARNINGS_SHOWN]:
            yield Text.assemble(("warning: ", "yellow"), f"{warning['kind']}: {inert(warning['message'])}")
        if len(warnings) > _WARNINGS_SHOWN:
            yield Text(f"warning: {len(warnings) - _WARNINGS_SHOWN:,} more (all of them: --json)", style="yellow")


def _version(hop: Hop) -> str:
    """Return the version that handled it, where its agent says one."""
    version = hop.attempts[-1]["version"] if hop.attempts else UNSAID
    return "" if version == UNSAID else f" {inert(version)}"


def _clock(clock: Json) -> str:
    ahead_us = round(clock["ahead_ms"] * 1_000)
    return f"{inert(clock['producer'])} is {duration(abs(ahead_us))} {'fast' if ahead_us > 0 else 'slow'}"


def duration(us: int) -> str:
    """Write microseconds for a person.

    >>> [duration(us) for us in (40, 4_200, 88_000, 3_100_000, 125_000_000)]
    ['0 ms', '4.2 ms', '88 ms', '3.1 s', '2 min 5 s']
    """
    if us < 0:
        return "-" + duration(-us)
    if us < _MINUTE_US:
        figure, unit = (us / 1_000, "ms") if us < _SECOND_US else (us / _SECOND_US, "s")
        text = f"{figure:.1f}".removesuffix(".0") if unit == "s" or us < _SHORT_US else f"{figure:.0f}"
        return f"{text} {unit}"
    minutes, seconds = divmod(round(us / _SECOND_US), 60)
    return f"{minutes:,} min {seconds} s"


def users_line(traceback: str) -> str | None:
    """Return the last place in *traceback* that is the user's own code, as `file.py:31`."""
    frames: list[tuple[str, str]] = _FRAME.findall(traceback)
    own = [frame for frame in frames if not _NOT_THE_USERS.search(frame[0])] or frames
    if not own:
        return None
    path, line = own[-1]
    return f"{PureWindowsPath(path).name}:{line}"


def _critical_hops(document: Json, hops: Iterable[Hop]) -> list[Hop]:
    """Return the hops that made up the critical path; at its end, the silent one that took longest."""
    place = {id: index for index, id in enumerate(document["critical_path"])}
    on_path = [hop for hop in walk([*hops]) if hop.id in place and hop.attempts]
    end = document["critical_path"][-1:] or [None]
    silent = [hop for hop in walk([*hops]) if hop.event is None and hop.heard and hop.heard["id"] == end[0]]
    return [*on_path, *(hop for hop in silent if hop.attempts)]


def _path_us(document: Json) -> int:
    path = document["critical_path"]
    times = {event["id"]: parse_time(event["time"]) for event in document["events"]}
    ends = [end_us(d) for d in document["deliveries"] if d["event_id"] == path[-1] and not d["emitted"]]
    return max([times[path[-1]], *ends]) - times[path[0]]


def _set_aside(attempts: Sequence[Json]) -> str:
    word = {"dead_lettered": "dead-lettered"}.get(attempts[-1]["outcome"], attempts[-1]["outcome"])
    return f"✗ {word}" + (f" after {len(attempts)} attempts" if len(attempts) > 1 else "")


def _owed(hop: Hop) -> str:
    if not hop.attempts:
        return "… to ask for undos" if hop.agent == COORDINATOR else "… not yet"
    word = hop.attempts[-1]["outcome"].replace("_", " ")
    return f"… {word}, attempt {hop.attempts[-1]['attempt'] + 1} to come"


def _labels(data: object, *, but: Sequence[object], at_most: int) -> list[str]:
    """Pick the first short values that say something new."""
    found: list[str] = []
    for value in fields(data).values():
        if isinstance(value, str | int | float) and not isinstance(value, bool) and value not in but:
            text = inert(str(value))
            if 0 < len(text) <= _LABEL_WIDTH:
                found.append(text)
    return found[:at_most]


def _next_steps(document: Json, *, payloads: bool) -> Sequence[tuple[str, str]]:
    id, state = document["correlation_id"], document["state"]
    shown = [] if payloads else [(f"antiphon trace {id} --payloads", "every event's data")]
    if state == "parked":
        return [(f"antiphon saga show {id}", "what waits for a person"), *shown]
    dead = [one["agent"] for one in document["deliveries"] if one["outcome"] == "dead_lettered"]
    if state == "failed" or (state == "compensated" and dead):
        if not dead:
            return [(f"antiphon replay run {id}", "here, on this input"), *shown]
        agent = dead[0]
        return [
            (f"antiphon replay run {id} --agent {agent}", "here, on this input"),
            (f"antiphon dead redrive --agent {agent} --dry-run", "once it is mended"),
            *shown,
        ]
    if state in ("running", "compensating"):
        return [(f"antiphon trace {id} --follow", "until it ends")]
    if state == "stalled":
        agents = sorted({owed["agent"] for owed in document["outstanding"]})
        who = agents[0] if len(agents) == 1 else f"one of {', '.join(agents)}"
        return [("antiphon run MODULE:AGENT", f"nobody is running {who}")]
    return []


def _hints(steps: Sequence[tuple[str, str]], width: int) -> Iterator[Text]:
    widest = max((len(command) for command, _ in steps), default=0)
    # On a narrow terminal what a command does is left out rather than torn off it.
    told = width >= _PAGE or all(len("next: ") + widest + 3 + len(does) <= width for _, does in steps)
    for index, (command, does) in enumerate(steps):
        lead = "next: " if index == 0 else "      "
        yield Text.assemble(
            (lead, "dim"), (inert(command).ljust(widest * told), "bold"), (f"   {inert(does)}" * told, "dim")
        )


def _append(text: Text, notes: Text) -> None:
    if notes.plain:
        text.append("  " if text.plain else "")
        text.append_text(notes)


def _data(event: Json, *, at_most: int | None = None) -> str:
    """Write an event's data; where it cannot be read, where it stands: its bytes are there for whoever has to look."""
    if event["data"] is None:
        return f"cannot be read; it is {inert(event['topic'])}[{event['partition']}]@{event['offset']}"
    return _json(event["data"], at_most=at_most)


def _json(data: object, *, at_most: int | None = None) -> str:
    text = inert(json.dumps(data, ensure_ascii=False))
    return text if at_most is None or cell_len(text) <= at_most else text[: at_most - 1] + "…"
