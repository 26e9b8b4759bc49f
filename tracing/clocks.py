"""Clocks that disagree: how far each producer's is ahead, as far as the log tells.

An effect cannot precede its cause. Where something that producer *e* told the
time of was led to by something that producer *c* told the time of, *e*'s clock
is ahead of *c*'s by no more than the gap between the two times. Of many gaps
between two producers the least says most, so no more than that is kept of them.

What a broker stamped on a record when it appended it is an effect of whoever
wrote the record, told by one clock for the whole mesh.

Such bounds say how clocks differ, and not which of them is right. Those are taken
for right that agree with most of the others, and a clock is off only where it
has to be. A clock that is ahead of all others by what a queue may hold
events cannot be told from a slow queue; then nothing is claimed.
"""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

from antiphon.tracing.delivered import Delivered
from antiphon.tracing.seen import SeenEvent

BROKER = "(broker)"
"""The clock of the brokers, where they stamp records themselves."""
TOLERANCE_US = 10_000
"""Clocks that agree as well as this count as right: well-kept ones of several machines do not agree better."""

Gaps: TypeAlias = Mapping[tuple[str, str], int]
"""By cause's and effect's producer: by how much the effect was later, as told, microseconds; the least there was."""


NO_GAPS: Gaps = MappingProxyType({})


class Clock(NamedTuple):
    """A clock that is off."""

    producer: str
    ahead_us: int
    """Negative: it is behind."""


def least(all: Iterable[Gaps]) -> dict[tuple[str, str], int]:
    """Put together what several tell.

    >>> least([{("a", "b"): 5}, {("a", "b"): -2, ("b", "a"): 9}])
    {('a', 'b'): -2, ('b', 'a'): 9}
    """
    found: dict[tuple[str, str], int] = {}
    for gaps in all:
        for pair, gap in gaps.items():
            found[pair] = min(gap, found.get(pair, gap))
    return found


def ahead(gaps: Gaps) -> dict[str, int]:
    """Return by how much each producer's clock is ahead, where it has to be off; nothing where all may be right.

    Taken off the times that were told, no effect precedes its cause any more, unless a
    clock was set meanwhile: then no one number fits.

    >>> ahead({("shop", "a"): 180_000_000, ("a", "b"): -179_000_000, ("shop", "b"): 2_000_000, ("b", "shop"): 500})
    {'a': 179000000}
    """
    gaps = {pair: gap for pair, gap in gaps.items() if pair[0] != pair[1]}
    if all(gap >= -TOLERANCE_US for gap in gaps.values()):
        return {}
    return {producer: us for producer, us in sorted(_Settling(gaps).settled().items()) if us and producer != BROKER}


class _Settling:
    """Bounds on clocks, narrowed each time that one of them is settled.

    Differences alone bound them, so whatever value between its bounds one is given, the others still have values that fit.
    """

    def __init__(self, gaps: Gaps) -> None:
        self._after: defaultdict[str, list[tuple[str, int]]] = defaultdict(list)
        self._before: defaultdict[str, list[tuple[str, int]]] = defaultdict(list)
        self._doubts: dict[str, int] = {}
        """How many of the gaps that a producer has a share in cannot be, less those that are short beside them."""
        short = -min(gaps.values()) / 2
        for (cause, effect), gap in gaps.items():
            self._after[cause].append((effect, gap))
            self._before[effect].append((cause, gap))
            for producer in (cause, effect):
                doubt = 1 if gap < -TOLERANCE_US else -1 if gap < short else 0
                self._doubts[producer] = self._doubts.get(producer, 0) + doubt
        self._low: dict[str, float] = dict.fromkeys(self._doubts, -math.inf)
        self._high: dict[str, float] = dict.fromkeys(self._doubts, math.inf)

    def settled(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for producer in sorted(self._doubts, key=self._rank):
            # What contradicts itself has a lower bound above the upper one.
            us = min(max(0, self._low[producer]), max(self._high[producer], self._low[producer]))
            found[producer] = round(us)
            self._low[producer] = self._high[producer] = us
            self._narrow(producer)
        return found

    def _rank(self, producer: str) -> tuple[bool, int, str]:
        """Who is right first: the broker, then whoever fits best to the others."""
        return (producer != BROKER, self._doubts[producer], producer)

    def _narrow(self, start: str) -> None:
        turns: defaultdict[str, int] = defaultdict(int)
        todo = deque([start])
        while todo:
            producer = todo.popleft()
            turns[producer] += 1
            if turns[producer] > len(self._doubts):
                return  # They contradict each other: a clock was set, and no one number fits.
            for other in self._narrowed(producer):
                if other not in todo:
                    todo.append(other)

    def _narrowed(self, producer: str) -> Iterator[str]:
        for effect, gap in self._after[producer]:
            if self._low[effect] <= self._high[producer] + gap < self._high[effect]:
                self._high[effect] = self._high[producer] + gap
                yield effect
        for cause, gap in self._before[producer]:
            if self._high[cause] >= self._low[producer] - gap > self._low[cause]:
                self._low[cause] = self._low[producer] - gap
                yield cause


def producer_of(agent: str, instance: str) -> str:
    """Return what a worker is called as the owner of a clock."""
    return f"{agent}/{instance}"


def producers(events: Mapping[str, SeenEvent], deliveries: Iterable[Delivered]) -> dict[str, str]:
    """Return whose clock told each event's time: the worker's that emitted it, or that of its source."""
    found = {id: event.envelope.source for id, event in events.items()}
    sure: set[str] = set()
    for delivery in deliveries:
        for emitted in delivery.emitted:
            event = events.get(emitted.id)
            if event is None or emitted.id in sure:
                continue
            # An event that was made twice has the time of one of the two.
            found[emitted.id] = producer_of(delivery.agent, delivery.instance)
            if delivery.started_us <= event.envelope.time_us <= delivery.ended_us:
                sure.add(emitted.id)
    return found


def gaps_of(
    events: Mapping[str, SeenEvent],
    parents: Mapping[str, Iterable[str]],
    deliveries: Iterable[Delivered],
    told_by: Mapping[str, str],
) -> dict[tuple[str, str], int]:
    """Return the least gaps between the producers of one workflow; *told_by* as `producers` says."""
    found: dict[tuple[str, str], int] = {}

    def note(cause: str, effect: str, gap: int) -> None:
        pair = (told_by[cause], effect)
        if gap < found.get(pair, math.inf):
            found[pair] = gap

    for id, event in events.items():
        for parent in parents[id]:
            note(parent, told_by[id], event.envelope.time_us - events[parent].envelope.time_us)
    for delivery in deliveries:
        if delivery.event_id in events:
            gap = delivery.started_us - events[delivery.event_id].envelope.time_us
            note(delivery.event_id, producer_of(delivery.agent, delivery.instance), gap)
    return found


def righted(
    events: Mapping[str, SeenEvent],
    parents: Mapping[str, Iterable[str]],
    deliveries: Sequence[Delivered],
    known: Gaps = NO_GAPS,
) -> tuple[tuple[Clock, ...], Mapping[str, SeenEvent], Sequence[Delivered]]:
    """Return the clocks that are off of those that told times in a workflow, and its events and deliveries at the times that right ones would have told.

    *parents*: of each event, those that were seen and are no mistake. *known*: gaps between producers beyond the workflow.
    """
    told_by = producers(events, deliveries)
    off = ahead(least([gaps_of(events, parents, deliveries, told_by), known]))
    here = {*told_by.values(), *(producer_of(delivery.agent, delivery.instance) for delivery in deliveries)}
    clocks = tuple(Clock(producer, us) for producer, us in off.items() if producer in here)
    if not clocks:
        return (), events, deliveries
    return (
        clocks,
        {id: _at(event, off.get(told_by[id], 0)) for id, event in events.items()},
        [
            dataclasses.replace(one, started_us=one.started_us - off.get(producer_of(one.agent, one.instance), 0))
            for one in deliveries
        ],
    )


def _at(event: SeenEvent, ahead_us: int) -> SeenEvent:
    envelope = dataclasses.replace(event.envelope, time_us=event.envelope.time_us - ahead_us)
    return dataclasses.replace(event, envelope=envelope)
