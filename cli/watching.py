"""A tracer seen from outside: what it has read, and the five questions as figures; docs/reference/telemetry.md says what each means.

Counting takes a while in a large index, so what was counted is kept for some
seconds. It is asked in the threads that answer, by connections of their own.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import TypeAlias

from prometheus_client import ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from antiphon.agents.health import JSON, TEXT, UNKNOWN, Answer, Listening
from antiphon.agents.metrics import CONTENT_TYPE, exposition
from antiphon.bus.heartbeat import AgentSeen
from antiphon.bus.subscriptions import is_live
from antiphon.schemas.envelope import now_us
from antiphon.tracing.index.address import Place, masked
from antiphon.tracing.index.errors import IndexFileError
from antiphon.tracing.index.index import Index
from antiphon.tracing.index.spending import By
from antiphon.tracing.otlp.exporting import Exported
from antiphon.tracing.spans.sampling import Reason
from antiphon.tracing.state import State
from antiphon.tracing.tracer import Counts

_Labels: TypeAlias = tuple[str, ...]

_KEPT_S = 15.0
_SILENT_US = 60_000_000
_BACK_US = 3_600_000_000
_UNSURE = 0.5


class Watching(Listening):
    """Answers for a tracer while the context lasts.

    `/livez`: 200; a tracer that cannot go on ends. `/readyz`: 200 where it has caught up once and
    written within a minute, JSON either way. `/metrics`: Prometheus' text format.
    """

    def __init__(self, counts: Counts, place: Place, *, host: str, port: int, exported: Exported | None = None) -> None:
        """*exported*: what an exporter beside the tracer has done; None where there is none."""
        super().__init__(host=host, port=port)
        self._exported = exported
        self._counts = counts
        self._place = place
        self._process = ProcessCollector(registry=None)
        self._counting = threading.Lock()
        self._counted: Sequence[Metric] = ()
        self._counted_at = -_KEPT_S

    def answer(self, path: str) -> Answer:
        counts = self._counts
        match path.partition("?")[0]:
            case "/livez":
                return Answer(HTTPStatus.OK, TEXT, b"ok\n")
            case "/readyz":
                ready = now_us() - counts.as_of_us < _SILENT_US
                body = json.dumps({"ready": ready, "behind": counts.behind, "index": masked(self._place)})
                return Answer(HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE, JSON, body.encode() + b"\n")
            case "/metrics":
                families = [*_own(counts), *_of_exporter(self._exported), *self._answers(), *self._process.collect()]
                return Answer(HTTPStatus.OK, CONTENT_TYPE, exposition(families))
            case _:
                return UNKNOWN

    def _answers(self) -> Sequence[Metric]:
        with self._counting:
            if time.monotonic() - self._counted_at >= _KEPT_S:
                try:
                    with Index.opened(self._place) as index:
                        self._counted = [*_of_index(index)]
                except IndexFileError:
                    self._counted = ()  # the tracer itself says what is wrong with it
                self._counted_at = time.monotonic()
            return self._counted


def _own(counts: Counts) -> Iterator[Metric]:
    for name, meaning, count in (
        ("records", "records read", counts.records),
        ("events", "events among them", counts.events),
        ("deliveries", "deliveries among them", counts.deliveries),
        ("unreadable", "records of the mesh's own that could not be read", counts.unreadable),
        ("transactions", "transactions written", counts.transactions),
        ("settled", "times that it was said how a workflow stands", counts.settled),
        ("forgotten", "workflows forgotten", counts.forgotten),
        ("waits", "times that it could not go on and waited", counts.waits),
    ):
        yield _counter(f"tracer_{name}", meaning, (), {(): count})
    yield _gauge("tracer_behind", "offsets not read yet", (), {(): counts.behind})
    yield _gauge("tracer_as_of_seconds", "when it last wrote", (), {(): counts.as_of_us / 1_000_000})


def _of_exporter(exported: Exported | None) -> Iterator[Metric]:
    if exported is None:
        return
    for name, meaning, count in (
        ("spans", "spans that the endpoint has taken", exported.spans),
        ("requests", "requests to it", exported.requests),
        ("failures", "requests that it did not take", exported.failures),
        ("left_out", "workflows that were not kept", exported.left_out),
        ("dropped", "workflows that were given up", exported.dropped),
    ):
        yield _counter(f"export_{name}", meaning, (), {(): count})
    kept: dict[_Labels, float] = {(reason.value,): exported.workflows[reason] for reason in Reason}
    yield _counter("export_workflows", "workflows sent to their end, by why they were kept", ("reason",), kept)
    yield _gauge("export_waiting", "workflows of which something may have to be sent", (), {(): exported.waiting})
    yield _gauge("export_up", "1 where the endpoint took the last request", (), {(): float(exported.up)})


def _of_index(index: Index) -> Iterator[Metric]:
    now = now_us()
    extent, states = index.extent(), index.states(at_us=now)
    yield _gauge("index_bytes", "size of the index", (), {(): extent.bytes})
    counted: dict[_Labels, float] = {(state.value,): states.get(state.value, 0) for state in State}
    yield _gauge("workflows", "workflows in the index, by state", ("state",), counted)
    yield _gauge(
        "workflow_duration_seconds",
        "how long workflows took that began in the last hour and ended",
        ("type", "quantile"),
        {
            (one.type, share): us / 1_000_000
            for one in index.durations(since_us=now - _BACK_US)
            for share, us in (("0.5", one.p50_us), ("0.95", one.p95_us), ("0.99", one.p99_us))
        },
    )
    yield from of_workers(index.agents(), now)
    day = now - 24 * _BACK_US
    spent_lately: dict[_Labels, float] = {
        (one.of, one.currency): one.amount for one in index.cost(By.AGENT, since_us=day)
    }
    yield _gauge("cost_of_last_day", "what model calls of the last day cost", ("agent", "currency"), spent_lately)
    paid: dict[_Labels, float] = {
        (one.of, one.currency): one.amount for one in index.cost(By.AGENT, since_us=day, replays=True)
    }
    yield _gauge("cost_of_last_day_with_replays", "the same, with what live replays cost", ("agent", "currency"), paid)
    off: dict[_Labels, float] = {(one.producer,): one.ahead_us / 1_000_000 for one in index.clocks()}
    yield _gauge("clock_ahead_seconds", "of clocks that are off", ("producer",), off)
    for by in (By.AGENT, By.MODEL):
        spent = index.cost(by)
        amounts: dict[_Labels, float] = {(one.of, one.currency): one.amount for one in spent}
        yield _gauge(f"cost_by_{by.value}", "what model calls in the index cost", (by.value, "currency"), amounts)
    sure = index.confidence(threshold=_UNSURE, since_us=day)
    labels = ("agent", "version")
    means: dict[_Labels, float] = {(one.agent, one.version): one.mean for one in sure}
    under: dict[_Labels, float] = {(one.agent, one.version): one.share_under for one in sure}
    falling: dict[_Labels, float] = {(one.agent, one.version): float(one.falling) for one in sure}
    yield _gauge("confidence_mean", "of the answers of the last day", labels, means)
    yield _gauge("confidence_share_under_half", "of the answers of the last day", labels, under)
    yield _gauge("confidence_falling", "1 where it is lower than before, and not by chance", labels, falling)


def of_workers(workers: Iterable[AgentSeen], now: int) -> Iterator[Metric]:
    """Return how agents stand, as their workers that are up last told."""
    up: dict[_Labels, float] = {}
    lag: dict[_Labels, float] = {}
    in_flight: dict[_Labels, float] = {}
    oldest: dict[_Labels, float] = {}
    for seen in workers:
        agent, is_up = (seen.agent,), is_live(seen, now_us=now)
        since_us = min((one.since_us for one in seen.in_flight), default=now)
        up[agent] = up.get(agent, 0) + is_up
        lag[agent] = lag.get(agent, 0) + is_up * (seen.lag or 0)
        in_flight[agent] = in_flight.get(agent, 0) + is_up * len(seen.in_flight)
        oldest[agent] = max(oldest.get(agent, 0), is_up * max(0, now - since_us) / 1_000_000)
    yield _gauge("workers", "workers that are up", ("agent",), up)
    yield _gauge("agent_lag", "events not handled, by heartbeats", ("agent",), lag)
    yield _gauge("agent_in_flight", "events whose handlers run, by heartbeats", ("agent",), in_flight)
    yield _gauge("agent_oldest_in_flight_seconds", "since when the oldest of them runs", ("agent",), oldest)


def _counter(name: str, meaning: str, labels: Sequence[str], figures: Mapping[_Labels, float]) -> Metric:
    family = CounterMetricFamily(f"antiphon_{name}", meaning, labels=labels)
    for values, figure in figures.items():
        family.add_metric(values, figure)
    return family


def _gauge(name: str, meaning: str, labels: Sequence[str], figures: Mapping[_Labels, float]) -> Metric:
    family = GaugeMetricFamily(f"antiphon_{name}", meaning, labels=labels)
    for values, figure in figures.items():
        family.add_metric(values, figure)
    return family
