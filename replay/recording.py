"""What is recorded of past handlings: the events, how they were handled, and the state that stood before each."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from antiphon.bus.activity import Activity, Handled
from antiphon.bus.delivery import Outcome
from antiphon.bus.names import redrive_topic
from antiphon.bus.record import Record
from antiphon.bus.undo import UndoRequested

ONGOING = frozenset({Outcome.RETRIED, Outcome.TIMED_OUT, Outcome.CANCELLED})
"""How an attempt ends that is followed by another one."""
_REDRIVE = redrive_topic("")
_UNDO = UndoRequested.__event__.type


@dataclasses.dataclass(frozen=True, kw_only=True)
class Handling:
    """One event handled by one agent, to its end."""

    agent: str
    version: str
    entry: Handled

    @property
    def pair(self) -> tuple[str, str]:
        """Which event, and by whom."""
        return (self.entry.event_id, self.agent)

    @property
    def state_key(self) -> str:
        """The key of the state that belonged to the event."""
        return self.entry.key or self.entry.correlation_id


class Change(NamedTuple):
    """One record of an agent's state."""

    key: str
    by: str | None
    """The event whose handling wrote it; None where it does not say."""
    value: bytes | None


class Before(NamedTuple):
    """The state that stood before a handling."""

    known: bool
    value: bytes | None = None


UNKNOWN = Before(known=False)
_NOTHING = Before(known=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recording:
    """All that is needed to handle past events again, without a broker."""

    handlings: Sequence[Handling]
    """In the order in which they were begun."""
    events: Mapping[str, Record]
    """By id: what was handled, and what came of it. Values are whole. What is gone is not there.

    An event that was edited when it was redriven stands under `edited_id`: others handled it as it was.
    """
    changes: Mapping[str, Sequence[Change]]
    """By agent, in the order in which they were written, as far as they are there."""

    def event_of(self, handling: Handling) -> Record | None:
        """Return the event as that agent handled it; None where it is gone."""
        entry = handling.entry
        if entry.topic.endswith(_REDRIVE) and entry.topic == redrive_topic(handling.agent):
            edited = self.events.get(edited_id(handling.agent, entry.event_id))
            if edited is not None:
                return edited
        return self.events.get(entry.event_id)

    def agents(self) -> list[str]:
        """Return the agents that handled anything, sorted."""
        return sorted({handling.agent for handling in self.handlings})

    def workflows(self) -> list[str]:
        """Return the workflows' ids, in order of their first handling."""
        return [*dict.fromkeys(handling.entry.correlation_id for handling in self.handlings)]

    def gone(self) -> list[Handling]:
        """Return the handlings whose event is not there any more."""
        return [handling for handling in self.handlings if self.event_of(handling) is None]


def edited_id(agent: str, id: str) -> str:
    """Return what an event stands under that was edited on its way back to *agent*."""
    return f"{agent}/{id}"


def handlings(activity: Iterable[Activity]) -> list[Handling]:
    """Return the end of each handling that activity tells of, in the order in which they began; undos are none.

    Attempts that were followed by another one are that handling's past. An
    event that was set aside and redriven ended as it did last.
    """
    last: dict[tuple[str, str], Handling] = {}
    for told in activity:
        for entry in told.deliveries:
            if entry.event_type == _UNDO or entry.outcome in ONGOING:
                continue
            handling = Handling(agent=told.agent, version=told.version, entry=entry)
            known = last.get(handling.pair)
            if known is None or known.entry.started_us <= entry.started_us:
                last[handling.pair] = handling
    return sorted(last.values(), key=lambda one: (one.entry.started_us, one.agent, one.entry.event_id))


class StatesBefore:
    """The state before each of some handlings, as far as the changes that are there tell.

    A compacted topic keeps the last record of a key; what stood before an
    earlier handling may be gone. It is never guessed: where a handling changed
    the state and its record is gone, what follows is unknown until a record tells again.
    """

    def __init__(self, handlings: Sequence[Handling], changes: Mapping[str, Sequence[Change]]) -> None:
        self._with_state = {handling.agent for handling in handlings if handling.entry.changed}
        self._with_state |= {agent for agent, written in changes.items() if written}
        self._found: dict[tuple[str, str], Before] = {}
        by_key: defaultdict[tuple[str, str], list[Handling]] = defaultdict(list)
        for handling in handlings:
            if handling.agent in self._with_state:
                by_key[handling.agent, handling.state_key].append(handling)
        kept: defaultdict[tuple[str, str], list[Change]] = defaultdict(list)
        for agent, written in changes.items():
            for change in written:
                kept[agent, change.key].append(change)
        for key, in_order in by_key.items():
            self._found |= _before_each(in_order, kept[key])

    def before(self, handling: Handling) -> Before:
        """Return the state before *handling*."""
        if handling.agent in self._with_state:
            return self._found.get(handling.pair, UNKNOWN)
        # Most agents have none. A workflow's begins with the workflow; that of a key field may be older than what is recorded.
        return _NOTHING if handling.entry.key is None else UNKNOWN


def unknown_states(handlings: Sequence[Handling], states: StatesBefore) -> tuple[int, int | None]:
    """Return before how many of *handlings* the state is not known, and when those began from which on it is known of all.

    The time is None where it is known of all, or of none at the end.
    """
    unknown = [number for number, one in enumerate(handlings) if not states.before(one).known]
    if not unknown or unknown[-1] + 1 == len(handlings):
        return len(unknown), None
    return len(unknown), handlings[unknown[-1] + 1].entry.started_us


def _before_each(in_order: Sequence[Handling], changes: Sequence[Change]) -> dict[tuple[str, str], Before]:
    found: dict[tuple[str, str], Before] = {}
    # State of a workflow's key begins with the workflow; that of a key field may be older than what is recorded.
    after = Before(known=True) if in_order[0].entry.key is None else UNKNOWN
    for handling in in_order:
        id = handling.entry.event_id
        last = next((place for place in reversed(range(len(changes))) if changes[place].by == id), None)
        first = last
        # Several: what side effects returned is written before the handling ends.
        while first is not None and first > 0 and changes[first - 1].by == id:
            first -= 1
        if first:
            after = Before(known=True, value=changes[first - 1].value)
        found[handling.pair] = after
        if last is not None:
            after = Before(known=True, value=changes[last].value)
        elif handling.entry.changed:
            after = UNKNOWN
    return found
