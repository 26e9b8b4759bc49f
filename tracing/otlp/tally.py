"""Counting what a tracer reads, for metrics: plain numbers, each record once."""

from __future__ import annotations

import dataclasses
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, TypeAlias

from antiphon.bus.names import Names
from antiphon.tracing.delivered import DONE
from antiphon.tracing.index.database import Row
from antiphon.tracing.index.legend import Legend
from antiphon.tracing.index.rows import Rows
from antiphon.tracing.spans import names as n
from antiphon.tracing.spans.providers import provider_of

Key: TypeAlias = tuple[tuple[str, str], ...]
"""Attributes, in a fixed order."""

# The conventions' own bounds, of a messaging operation, a model call and a call's tokens; a handler may wait minutes for a model.
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0, 60.0, 300.0)
CALL_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
TOKENS = (
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1024.0,
    4096.0,
    16384.0,
    65536.0,
    262144.0,
    1048576.0,
    4194304.0,
    16777216.0,
    67108864.0,
)


@dataclasses.dataclass
class Spread:
    """How many values fell between which bounds, and what they come to."""

    bounds: tuple[float, ...]
    counts: list[int] = dataclasses.field(default_factory=list[int])
    total: float = 0.0
    least: float = float("inf")
    most: float = float("-inf")

    def __post_init__(self) -> None:
        self.counts = self.counts or [0] * (len(self.bounds) + 1)

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value
        self.least, self.most = min(self.least, value), max(self.most, value)


class Tally:
    """What was read since it began. Attributes of few values only: no id is among them."""

    def __init__(self, legend: Legend, names: Names) -> None:
        self.sums: defaultdict[str, defaultdict[Key, float]] = defaultdict(lambda: defaultdict(float))
        """By metric and attributes: what only grows."""
        self.spreads: defaultdict[str, dict[Key, Spread]] = defaultdict(dict)
        self._name = legend.name
        self._source = legend.topic
        self._replays = legend.replays
        self._names = names
        self._topics: dict[int, int] = {}
        """Event types to the source where one was seen last: activity in rows does not say where its event stood."""

    def take(self, rows: Rows) -> None:
        """Count *rows*."""
        for (type, source), some in _grouped(rows.events, 5, 1).items():
            self._topics[type] = source
            self.sums[n.SENT_MESSAGES][_key(self._messaging(n.SEND, type))] += len(some)
        for (type, agent, outcome), some in _grouped(rows.deliveries, 6, 2, 8).items():
            self._deliveries(type, self._name(agent), self._name(outcome), some)
        # What a replay spends is no part of what production costs; its messages are messages.
        replays = rows.replays | self._replays({row[0] for row in rows.calls})
        calls = [row for row in rows.calls if row[0] not in replays]
        for (model, agent, currency), some in _grouped(calls, 8, 2, 12).items():
            self._calls(self._name(model), self._name(agent), currency, some)

    def _deliveries(self, type: int, agent: str, outcome: str, some: Sequence[Row]) -> None:
        told = {**self._messaging(n.PROCESS, type), n.MESSAGING_GROUP: self._names.group(agent)}
        first = [row for row in some if row[5] == 1]
        self.sums[n.CONSUMED_MESSAGES][_key(told)] += len(first)
        self.sums[n.DELIVERY_ATTEMPTS][_key({n.GEN_AI_AGENT: agent, n.OUTCOME: outcome})] += len(some)
        failed = {} if outcome in DONE else {n.ERROR_TYPE: outcome}
        self._spread(n.PROCESS_DURATION, SECONDS, {**told, **failed}, (row[9] / 1_000_000 for row in some))
        # Clocks differ, and are set.
        waits = (max(0, row[10]) / 1_000_000 for row in first)
        self._spread(n.DELIVERY_QUEUE_WAIT, SECONDS, {n.GEN_AI_AGENT: agent}, waits)

    def _calls(self, model: str, agent: str, currency: str, some: Sequence[Row]) -> None:
        provider, model = provider_of(model)
        told = {n.GEN_AI_OPERATION: n.CHAT, n.GEN_AI_MODEL: model, n.GEN_AI_AGENT: agent}
        if provider is not None:
            told[n.GEN_AI_PROVIDER] = provider
        for kind, column in (("input", 9), ("output", 10)):
            self._spread(n.TOKEN_USAGE, TOKENS, {**told, n.GEN_AI_TOKEN_TYPE: kind}, (row[column] for row in some))
        took = (row[14] / 1_000_000 for row in some if row[14] is not None)
        self._spread(n.CALL_DURATION, CALL_SECONDS, told, took)
        self.sums[n.COST][_key({**told, n.CURRENCY: currency})] += sum(row[11] for row in some)

    def _messaging(self, operation: str, type: int) -> dict[str, str]:
        source = self._topics.get(type)
        topic = self._names.topic(self._name(type) if source is None else self._source(source))
        return {n.MESSAGING_SYSTEM: n.KAFKA, n.MESSAGING_OPERATION: operation, n.MESSAGING_DESTINATION: topic}

    def _spread(self, metric: str, bounds: tuple[float, ...], told: Mapping[str, str], values: Iterable[float]) -> None:
        found = [*values]
        if found:
            spread = self.spreads[metric].setdefault(_key(told), Spread(bounds))
            for value in found:
                spread.add(value)


def _grouped(rows: Iterable[Row], *columns: int) -> dict[tuple[Any, ...], list[Row]]:
    """Group rows by some of their columns: attributes are looked up once a group, not once a row."""
    of: Callable[[Row], tuple[Any, ...]] = itemgetter(*columns)  # pyright: ignore[reportUnknownVariableType] - of any number
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(of(row), []).append(row)
    return found


def _key(told: Mapping[str, str]) -> Key:
    return tuple(sorted(told.items()))
