"""A workflow document as a tree of hops: who, on hearing an event, said what; and who said nothing, or not yet.

Undo requests, and what answers them, are no hops of their own: they stand with
the event that they undo. Whatever came of such an answer hangs from that event.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any, TypeAlias, cast

from antiphon.bus.undo import UndoRequested
from antiphon.schemas.envelope import parse_time

Json: TypeAlias = Mapping[str, Any]

_UNDO_REQUESTED = UndoRequested.__event__.type
_SET_ASIDE = frozenset({"dead_lettered", "expired"})
_THROUGH = frozenset({"completed", "skipped"})


class Kind(Enum):
    """What a hop is."""

    OUTSIDE = "an event published from outside, or by nobody knows whom"
    SAID = "an event that an agent emitted"
    QUIET = "an agent was through with an event and said nothing"
    SET_ASIDE = "an agent gave an event up"
    OWED = "an agent is not through with an event"
    UNSEEN = "an event that others name as their cause"


@dataclasses.dataclass(slots=True, kw_only=True)
class Undo:
    """How far the undoing of one event has come."""

    of: str
    """The id of the event to undo."""
    answers: list[Json] = dataclasses.field(default_factory=list[Json])
    attempts: list[Json] = dataclasses.field(default_factory=list[Json])

    @property
    def done(self) -> bool:
        return any(attempt["outcome"] in _THROUGH for attempt in self.attempts)

    @property
    def set_aside(self) -> bool:
        return not self.done and any(attempt["outcome"] in _SET_ASIDE for attempt in self.attempts)

    @property
    def done_us(self) -> int:
        return max(end_us(attempt) for attempt in self.attempts)


@dataclasses.dataclass(slots=True, kw_only=True, eq=False)
class Hop:
    """One line of the tree."""

    kind: Kind
    agent: str
    id: str | None = None
    """Of the event said, or of the unseen one."""
    event: Json | None = None
    heard: Json | None = None
    ordinal: int = 0
    """Its place among what one delivery emitted."""
    attempts: list[Json] = dataclasses.field(default_factory=list[Json])
    """The deliveries that led here, first attempt first."""
    undo: Undo | None = None
    children: list[Hop] = dataclasses.field(default_factory=list["Hop"])

    @property
    def took_us(self) -> int | None:
        """From the first attempt's start to the last one's end."""
        if not self.attempts:
            return None
        return end_us(self.attempts[-1]) - start_us(self.attempts[0])

    @property
    def handled_us(self) -> int:
        """For how long its attempts took, without the time between them."""
        return sum(end_us(attempt) - start_us(attempt) for attempt in self.attempts)

    @property
    def queued_us(self) -> int:
        """For how long the event waited for the first of them; clocks may differ."""
        return max(0, _us(self.attempts[0]["queue_ms"])) if self.attempts else 0

    @property
    def model_us(self) -> int:
        """For how long its attempts waited for models, as far as they told."""
        return sum(_us(attempt.get("model_ms") or 0) for attempt in self.attempts)

    @property
    def matters(self) -> bool:
        """It has to be seen, whatever else is left out."""
        failed = self.event is not None and self.event["fails"]
        return failed or self.kind in (Kind.SET_ASIDE, Kind.OWED) or (self.undo is not None and not self.undo.done)

    def rank(self) -> tuple[bool, int, str, int]:
        """Return where it stands among its siblings: by time; what is still to come at the end."""
        at_us = parse_time(self.event["time"]) if self.event else max(map(end_us, self.attempts), default=0)
        return (self.kind is Kind.OWED, at_us, self.agent, self.ordinal)


def fields(data: object) -> Json:
    """Return an event's data as a mapping; an empty one where it is none."""
    return cast("Json", data) if isinstance(data, dict) else {}


def start_us(delivery: Json) -> int:
    """Return when a delivery began."""
    return parse_time(delivery["started"])


def end_us(delivery: Json) -> int:
    """Return when a delivery was over."""
    return start_us(delivery) + _us(delivery["duration_ms"])


def _us(ms: float) -> int:
    return round(ms * 1_000)


def tops(document: Json) -> list[Hop]:
    """Return the hops that nothing led to: the root first, then later arrivals from outside, then gaps."""
    return _Building(document).tops()


def walk(tops: list[Hop]) -> Iterator[Hop]:
    """Yield every hop, causes before effects, siblings in order."""
    stack = [*reversed(tops)]
    while stack:
        hop = stack.pop()
        yield hop
        stack.extend(reversed(hop.children))


class _Building:
    """The tree in the making. Events come in causal order, so a cause that has no hop yet is part of a cycle."""

    def __init__(self, document: Json) -> None:
        self.root_id: str = document["correlation_id"]
        self.events: dict[str, Json] = {event["id"]: event for event in document["events"]}
        self.outstanding: list[tuple[str, str]] = [
            (owed["event_id"], owed["agent"]) for owed in document["outstanding"]
        ]
        self.attempts: defaultdict[tuple[str, str], list[Json]] = defaultdict(list)
        self.handlings: defaultdict[str, list[Json]] = defaultdict(list)
        self.makers: dict[str, Json] = {}
        self.ordinals: dict[str, int] = {}
        for delivery in document["deliveries"]:
            self.attempts[delivery["event_id"], delivery["agent"]].append(delivery)
            self.handlings[delivery["event_id"]].append(delivery)
            self.makers.update((id, delivery) for id in delivery["emitted"])
            self.ordinals.update((id, ordinal) for ordinal, id in enumerate(delivery["emitted"]))
        self.undos = dict(self._undos())
        self.homes = {id: undo.of for id, undo in self.undos.items()}
        self._fold_answers()
        self.undone = {undo.of: undo for undo in self.undos.values()}
        self.joined = {(cause, self._sayer(event)) for event in self.events.values() for cause in event["causes"]}
        self.hops: dict[str, Hop] = {}
        self.found: list[Hop] = []

    def tops(self) -> list[Hop]:
        for id, event in self.events.items():
            if id not in self.homes:
                hop = self._said(event)
                self._hang(hop, event["parent_id"])
                self.hops[id] = hop
        for id in self.makers.keys() - self.events.keys():
            self._unseen(id)
        for (id, agent), attempts in self.attempts.items():
            self._hang_silent(id, agent, attempts)
        for id, agent in self.outstanding:
            if (id, agent) not in self.attempts and id not in self.undos:
                self._hang(Hop(kind=Kind.OWED, agent=agent, heard=self.events.get(id)), id)
        for hop in self.hops.values():
            hop.children.sort(key=Hop.rank)
        return sorted(self.found, key=lambda hop: (hop.id != self.root_id, hop.kind is Kind.UNSEEN))

    def _undos(self) -> Iterator[tuple[str, Undo]]:
        for id, event in self.events.items():
            of = fields(event["data"]).get("event_id")
            if event["type"] == _UNDO_REQUESTED and of in self.events:
                yield id, Undo(of=of, attempts=self.handlings[id])

    def _fold_answers(self) -> None:
        for id, event in self.events.items():
            undo = self.undos.get(event["parent_id"] or "")
            if undo is not None and id not in self.homes:
                undo.answers.append(event)
                self.homes[id] = undo.of

    def _sayer(self, event: Json) -> str:
        maker = self.makers.get(event["id"])
        source: str = event["source"]
        return str(maker["agent"]) if maker else source.removeprefix("/agents/")

    def _said(self, event: Json) -> Hop:
        id, maker = event["id"], self.makers.get(event["id"])
        return Hop(
            kind=Kind.OUTSIDE if event["parent_id"] is None else Kind.SAID,
            agent=self._sayer(event),
            id=id,
            event=event,
            heard=self.events.get(event["parent_id"] or ""),
            attempts=self.attempts[maker["event_id"], maker["agent"]] if maker else [],
            ordinal=self.ordinals.get(id, 0),
            undo=self.undone.get(id),
        )

    def _hang_silent(self, id: str, agent: str, attempts: list[Json]) -> None:
        if id in self.undos or any(attempt["emitted"] for attempt in attempts):
            return
        outcomes = {attempt["outcome"] for attempt in attempts}
        unfinished = Kind.SET_ASIDE if outcomes & _SET_ASIDE else Kind.OWED
        kind = Kind.QUIET if outcomes & _THROUGH else unfinished
        if kind is Kind.QUIET and (id, agent) in self.joined:
            return  # It waited for the rest of the join, and what it then said stands elsewhere.
        self._hang(Hop(kind=kind, agent=agent, heard=self.events.get(id), attempts=attempts), id)

    def _hang(self, hop: Hop, cause: str | None) -> None:
        home = None if cause is None else self.homes.get(cause, cause)
        if home is None or (home in self.events and home not in self.hops):
            self.found.append(hop)
        else:
            self._unseen(home).children.append(hop)

    def _unseen(self, id: str) -> Hop:
        """Return the hop of *id*, making one for an event that was not seen."""
        if id in self.hops:
            return self.hops[id]
        maker = self.makers.get(id)
        hop = self.hops[id] = Hop(kind=Kind.UNSEEN, agent=maker["agent"] if maker else "", id=id)
        above = self.hops.get(maker["event_id"]) if maker else None
        (self.found if above is None else above.children).append(hop)
        return hop
