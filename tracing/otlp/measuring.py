"""What was counted, as metrics that the exporters take, and the loop that sends them. Needs the extra `antiphon[otlp]`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)

from antiphon.bus.subscriptions import is_live
from antiphon.schemas.envelope import now_us
from antiphon.tracing.index.address import Place
from antiphon.tracing.index.errors import IndexFileError
from antiphon.tracing.index.index import Index
from antiphon.tracing.otlp.sending import SCOPE, OtlpMeter, resource
from antiphon.tracing.otlp.tally import Key, Spread, Tally
from antiphon.tracing.spans import names as n
from antiphon.tracing.spans.span import Service
from antiphon.tracing.state import State

log = logging.getLogger(__name__)

_TRACER = "antiphon-tracer"
_CUMULATIVE = AggregationTemporality.CUMULATIVE
_UNITS = {
    n.SENT_MESSAGES: "{message}",
    n.CONSUMED_MESSAGES: "{message}",
    n.PROCESS_DURATION: "s",
    n.TOKEN_USAGE: "{token}",
    n.CALL_DURATION: "s",
    n.DELIVERY_ATTEMPTS: "{attempt}",
    n.DELIVERY_QUEUE_WAIT: "s",
    n.COST: "",
    n.SAGA_WORKFLOWS: "{workflow}",
    n.LAG: "{event}",
}


class Measuring:
    """Sends what *tally* has counted, and how the index stands, every now and then."""

    def __init__(
        self,
        tally: Tally,
        place: Place,
        meter: OtlpMeter,
        *,
        namespace: str,
        every_s: float = 60.0,
        clock: Callable[[], int] = now_us,
    ) -> None:
        self._tally = tally
        self._place = place
        self._meter = meter
        self._namespace = namespace
        self._every_s = every_s
        self._clock = clock
        self._begun_us = clock()
        self._up = True

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            await asyncio.sleep(self._every_s)
            await self.send()

    async def send(self) -> bool:
        """Send once, and say whether it was taken. What was not is in what is sent next: sums only grow."""
        try:
            taken = await asyncio.to_thread(self._meter.send, self.metrics())
        except IndexFileError:
            return False  # the tracer itself says what is wrong with it
        was_up, self._up = self._up, taken.ok
        if was_up and not taken.ok:
            log.warning("metrics cannot be exported; the next ones have them too", extra={"reason": taken.reason})
        return taken.ok

    def metrics(self) -> MetricsData:
        """Return all metrics, as they are now."""
        now = self._clock()
        found = [*self._sums(now), *self._histograms(now), *self._gauges(now)]
        scope = ScopeMetrics(scope=SCOPE, metrics=found, schema_url="")
        of_tracer = resource(Service(_TRACER), self._namespace)
        return MetricsData([ResourceMetrics(resource=of_tracer, scope_metrics=[scope], schema_url="")])

    def _sums(self, now: int) -> Iterator[Metric]:
        for name, by_key in self._tally.sums.items():
            points = [self._number(key, value if name == n.COST else int(value), now) for key, value in by_key.items()]
            yield Metric(name, "", _UNITS[name], Sum(points, _CUMULATIVE, is_monotonic=True))

    def _histograms(self, now: int) -> Iterator[Metric]:
        for name, by_key in self._tally.spreads.items():
            points = [self._spread(key, spread, now) for key, spread in by_key.items()]
            yield Metric(name, "", _UNITS[name], Histogram(points, _CUMULATIVE))

    def _gauges(self, now: int) -> Iterator[Metric]:
        with Index.opened(self._place) as index:
            states, agents = index.states(at_us=now), index.agents()
        lag: dict[str, int] = {}
        for seen in agents:
            if is_live(seen, now_us=now):
                lag[seen.agent] = lag.get(seen.agent, 0) + (seen.lag or 0)
        yield self._gauge(n.SAGA_WORKFLOWS, n.STATE, {state.value: states.get(state.value, 0) for state in State}, now)
        if lag:
            yield self._gauge(n.LAG, n.GEN_AI_AGENT, lag, now)

    def _gauge(self, name: str, by: str, values: Mapping[str, int], now: int) -> Metric:
        points = [self._number(((by, of),), value, now) for of, value in values.items()]
        return Metric(name, "", _UNITS[name], Gauge(points))

    def _number(self, key: Key, value: float, now: int) -> NumberDataPoint:
        return NumberDataPoint(dict(key), self._begun_us * 1_000, now * 1_000, value)

    def _spread(self, key: Key, spread: Spread, now: int) -> HistogramDataPoint:
        return HistogramDataPoint(
            attributes=dict(key),
            start_time_unix_nano=self._begun_us * 1_000,
            time_unix_nano=now * 1_000,
            count=sum(spread.counts),
            sum=spread.total,
            bucket_counts=[*spread.counts],
            explicit_bounds=spread.bounds,
            min=spread.least,
            max=spread.most,
        )
