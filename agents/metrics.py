"""A worker's figures, as Prometheus reads them; the table in docs/reference/telemetry.md says what each means.

They are kept as plain numbers on the event loop, and put into families when
somebody asks. The client's own counters take a lock for each figure, which is
more than the rest of an event's telemetry costs, and add a series for when each
began.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

from prometheus_client import CONTENT_TYPE_LATEST, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from antiphon.bus.delivery import Delivery, Outcome
from antiphon.bus.job import Job
from antiphon.bus.telemetry import Figure, Status, Telemetry

CONTENT_TYPE = CONTENT_TYPE_LATEST

# A handler may add two numbers, or wait minutes for a model.
_BOUNDS_S = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0)
_BOUNDS_US = tuple(int(bound_s * 1e6) for bound_s in _BOUNDS_S)
_Labels: TypeAlias = tuple[str, ...]


class Metrics(Telemetry):
    """Counts what the engines of one process tell. `text` may be called from any thread."""

    def __init__(self, agents: Iterable[str], *, canaries: Mapping[str, str] | None = None) -> None:
        """Count for *agents*: what an alarm asks for is there from the start, at zero.

        *canaries* are versions, by agent, whose share of that is counted by itself too.
        """
        self._agents = {agent: _Tally() for agent in agents}
        self._canaries = {canary: _Tally() for canary in (canaries or {}).items()}
        self._transactions: defaultdict[_Labels, _Durations] = defaultdict(_Durations)
        self._process = ProcessCollector(registry=None)

    def attempted(self, agent: str, job: Job, delivery: Delivery | None, outcome: Outcome, duration_us: int) -> None:
        self._agents[agent].add(job, delivery, outcome, duration_us)
        if self._canaries and (tally := self._canaries.get((agent, job.by.version))) is not None:
            tally.add(job, delivery, outcome, duration_us)

    def unreadable(self, agent: str) -> None:
        self._agents[agent].others[Outcome.DEAD_LETTERED] += 1

    def jumped(self, agent: str) -> None:
        self._agents[agent].jumps += 1

    def committed(self, agent: str, duration_s: float) -> None:
        self._transactions[agent, "committed"].add(int(duration_s * 1e6))

    def not_committed(self, agent: str, duration_s: float) -> None:
        self._transactions[agent, "failed"].add(int(duration_s * 1e6))

    def text(self, statuses: Sequence[Status]) -> bytes:
        """Return all figures, and how the agents stand by *statuses*, in Prometheus' text format."""
        own = [figure for status in statuses for figure in status.figures]
        return exposition([*self._counted(statuses), *_standing(statuses), *_own(own), *self._process.collect()])

    def _counted(self, statuses: Sequence[Status]) -> Iterator[Metric]:
        tallies: list[tuple[_Labels, _Tally]] = [((agent,), tally) for agent, tally in self._agents.items()]
        outcomes = {(*of, outcome.value): count for of, tally in tallies for outcome, count in tally.outcomes().items()}
        retries = {of: tally.others[Outcome.RETRIED] + tally.others[Outcome.TIMED_OUT] for of, tally in tallies}
        letters = {of: tally.others[Outcome.DEAD_LETTERED] for of, tally in tallies}
        jumps = {of: tally.jumps for of, tally in tallies}
        handling = {of: tally.handling for of, tally in tallies}
        waiting = {of: tally.waiting for of, tally in tallies}
        restored: dict[_Labels, int] = {(status.agent,): status.restored for status in statuses}
        transactions = dict(list(self._transactions.items()))
        yield _counter("deliveries", "attempts at events that ended, by how", ("agent", "outcome"), outcomes)
        yield _counter("retries", "attempts that failed and will be made again", ("agent",), retries)
        yield _counter("dead_letters", "records set aside", ("agent",), letters)
        yield _counter("offset_jumps", "partitions whose next events were gone", ("agent",), jumps)
        yield _counter("restored_records", "records of state read from the changelog", ("agent",), restored)
        yield _histogram("handler_duration", "from an attempt's start to its end", ("agent",), handling)
        yield _histogram("queue_wait", "from an event's own time to its first attempt", ("agent",), waiting)
        if self._canaries:
            yield from self._of_canaries()
        yield _histogram("transaction_duration", "of a commit", ("agent", "outcome"), transactions)

    def _of_canaries(self) -> Iterator[Metric]:
        outcomes: dict[_Labels, int] = {
            (*canary, outcome.value): count
            for canary, tally in self._canaries.items()
            for outcome, count in tally.outcomes().items()
        }
        handling: dict[_Labels, _Durations] = {canary: tally.handling for canary, tally in self._canaries.items()}
        of_version = ("agent", "version")
        yield _counter("canary_deliveries", "of deliveries, a canary's", (*of_version, "outcome"), outcomes)
        yield _histogram("canary_handler_duration", "of handler_duration, a canary's", of_version, handling)


class _Tally:
    """What became of the attempts of one agent, or of one version of it."""

    __slots__ = ("completed", "handling", "jumps", "others", "waiting")

    def __init__(self) -> None:
        self.completed = 0
        self.jumps = 0
        self.others = Counter[Outcome]()
        self.handling = _Durations()
        self.waiting = _Durations()

    def add(self, job: Job, delivery: Delivery | None, outcome: Outcome, duration_us: int) -> None:
        # Apart from the others: the hash of an enumeration's member costs as much as all else here.
        if outcome is Outcome.COMPLETED:
            self.completed += 1
        else:
            self.others[outcome] += 1
        if delivery is not None:
            self.handling.add(duration_us)
            if job.attempt == 1:
                self.waiting.add(job.started_us - job.envelope.time_us)

    def outcomes(self) -> dict[Outcome, int]:
        return {Outcome.COMPLETED: self.completed, **dict(list(self.others.items()))}


class _Durations:
    """How many durations fell between which bounds, and their sum."""

    __slots__ = ("counts", "total_us")

    def __init__(self) -> None:
        self.counts = [0] * (len(_BOUNDS_US) + 1)
        self.total_us = 0

    def add(self, duration_us: int) -> None:
        if duration_us < 0:  # clocks differ, and are set  # noqa: PLR1730 - max() costs three times that
            duration_us = 0
        self.counts[bisect_left(_BOUNDS_US, duration_us)] += 1
        self.total_us += duration_us

    def cumulative(self) -> list[tuple[str, float]]:
        """Return for each bound how many were at most that, as Prometheus wants them."""
        reached, found = 0, list[tuple[str, float]]()
        for bound, count in zip([*map(str, _BOUNDS_S), "+Inf"], list(self.counts), strict=True):
            reached += count
            found.append((bound, reached))
        return found


def exposition(families: Sequence[Metric]) -> bytes:
    """Write *families* in Prometheus' text format."""
    return generate_latest(_Families(families))


class _Families(Collector):
    """Families that are there already, as what `generate_latest` asks for."""

    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _standing(statuses: Sequence[Status]) -> Iterator[Metric]:
    now = (
        ("in_flight", "events whose handlers are running", {status.agent: status.in_flight for status in statuses}),
        ("lanes", "keys with work", {status.agent: status.lanes for status in statuses}),
        ("in_hand_bytes", "taken and not finished", {status.agent: status.in_hand_bytes for status in statuses}),
        ("partitions", "partitions owned", {status.agent: status.partitions for status in statuses}),
        ("paused_partitions", "of those, not read for now", {status.agent: status.paused for status in statuses}),
        ("stopped_partitions", "of those, standing still", {status.agent: status.stopped for status in statuses}),
        ("to_restore", "offsets of state still to be read", {status.agent: status.to_restore for status in statuses}),
        ("state_bytes", "memory that state takes", {status.agent: status.state_bytes for status in statuses}),
    )
    for name, meaning, figures in now:
        family = GaugeMetricFamily(f"antiphon_{name}", meaning, labels=["agent"])
        for agent, figure in figures.items():
            family.add_metric([agent], figure)
        yield family
    lag = GaugeMetricFamily("antiphon_lag", "events not handled", labels=["agent", "topic", "partition"])
    for status in statuses:
        for (topic, partition), events in (status.lag or {}).items():
            lag.add_metric([status.agent, topic, str(partition)], events)
    yield lag


def _own(figures: Iterable[Figure]) -> Iterator[Metric]:
    """Return what consumers tell of their own, each name's figures together."""
    families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
    for figure in figures:
        made = CounterMetricFamily if figure.counts else GaugeMetricFamily
        if figure.name not in families:
            families[figure.name] = made(f"antiphon_{figure.name}", figure.meaning, labels=[*figure.labels])
        families[figure.name].add_metric([*figure.labels.values()], figure.value)
    yield from families.values()


def _counter(name: str, meaning: str, labels: Sequence[str], counts: Mapping[_Labels, int]) -> Metric:
    family = CounterMetricFamily(f"antiphon_{name}", meaning, labels=labels)
    for values, count in counts.items():
        family.add_metric(values, count)
    return family


def _histogram(name: str, meaning: str, labels: Sequence[str], found: Mapping[_Labels, _Durations]) -> Metric:
    family = HistogramMetricFamily(f"antiphon_{name}_seconds", meaning, labels=labels)
    for values, durations in found.items():
        family.add_metric(values, durations.cumulative(), durations.total_us / 1e6)
    return family
