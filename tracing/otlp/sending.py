"""Sending spans and metrics by the official exporters. Needs the extra `antiphon[otlp]`."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from enum import StrEnum
from functools import lru_cache
from importlib.metadata import version

from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpanExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpSpanExporter
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, MetricsData
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import Event as SdkEvent
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from antiphon.bus.settings import masked
from antiphon.tracing.otlp.exporting import Taken
from antiphon.tracing.spans import names as n
from antiphon.tracing.spans.ids import Context
from antiphon.tracing.spans.span import Kind, Service, Span

_KINDS = {
    Kind.INTERNAL: SpanKind.INTERNAL,
    Kind.CLIENT: SpanKind.CLIENT,
    Kind.PRODUCER: SpanKind.PRODUCER,
    Kind.CONSUMER: SpanKind.CONSUMER,
}
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_PATHS = {"traces": "/v1/traces", "metrics": "/v1/metrics"}
SCOPE = InstrumentationScope(n.SCOPE, version("antiphon"))

_LAST_NS = (1 << 63) - 1


class Protocol(StrEnum):
    """How spans go over the wire."""

    HTTP = "http/protobuf"
    GRPC = "grpc"


class OtlpSender:
    """Sends spans to a collector. All that OTEL_EXPORTER_OTLP_* say beside the endpoint and the protocol counts: headers,
    certificates, compression, time-out."""

    def __init__(self, endpoint: str | None, protocol: Protocol, *, namespace: str = "") -> None:
        """*endpoint*: the collector's address, without a path of signals; None: as the environment says."""
        self._said = _Said()
        self._exporter = _span_exporter(endpoint, protocol)
        self._namespace = namespace

    def send(self, spans: Sequence[Span]) -> Taken:
        self._said.first = ""
        try:
            result = self._exporter.export([readable(span, self._namespace) for span in spans])
        except Exception as error:
            # What cannot be sent must not hold up what can.
            return Taken(ok=False, reason=f"{type(error).__name__}: {error}")
        return Taken(result is SpanExportResult.SUCCESS, self._said.first)

    def close(self) -> None:
        self._exporter.shutdown()


class OtlpMeter:
    """Sends metrics to a collector, likewise."""

    def __init__(self, endpoint: str | None, protocol: Protocol) -> None:
        self._said = _Said()
        self._exporter = _metric_exporter(endpoint, protocol)

    def send(self, metrics: MetricsData) -> Taken:
        self._said.first = ""
        result = self._exporter.export(metrics)  # pyright: ignore[reportUnknownMemberType] - the library's own types
        return Taken(result is MetricExportResult.SUCCESS, self._said.first)

    def close(self) -> None:
        self._exporter.shutdown()  # pyright: ignore[reportUnknownMemberType] - likewise


class _Said(logging.Handler):
    """What the exporters log: they say why they failed nowhere else. It is said once, by whoever asked for it.

    The first thing that they say of a request is the reason; the last one, that it was tried often enough.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first = ""
        logger = logging.getLogger("opentelemetry.exporter.otlp")
        logger.propagate = False
        logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.first = self.first or str(masked("reason", record.getMessage()))


def protocol_of(environ: Mapping[str, str] = os.environ) -> Protocol:
    """Return the protocol that the environment asks for. Raises `ValueError` for one that nobody speaks here."""
    said = environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    return Protocol(said or Protocol.HTTP)


def at(endpoint: str, signal: str) -> str:
    """Return where a signal goes by HTTP, below an address that may name one already.

    >>> at("http://collector:4318", "traces"), at("http://collector:4318/v1/traces", "metrics")
    ('http://collector:4318/v1/traces', 'http://collector:4318/v1/metrics')
    """
    base = endpoint.rstrip("/")
    for path in _PATHS.values():
        base = base.removesuffix(path)
    return base + _PATHS[signal]


def _span_exporter(endpoint: str | None, protocol: Protocol) -> SpanExporter:
    if protocol is Protocol.GRPC:
        return GrpcSpanExporter(endpoint=endpoint)
    return HttpSpanExporter(endpoint=None if endpoint is None else at(endpoint, "traces"))


def _metric_exporter(endpoint: str | None, protocol: Protocol) -> MetricExporter:
    if protocol is Protocol.GRPC:
        return GrpcMetricExporter(endpoint=endpoint)
    return HttpMetricExporter(endpoint=None if endpoint is None else at(endpoint, "metrics"))


def readable(span: Span, namespace: str) -> ReadableSpan:
    """Return *span* as the exporters take it."""
    parent = None if span.parent is None else Context(span.context.trace_id, span.parent)
    return ReadableSpan(
        name=span.name,
        context=_context(span.context),
        parent=None if parent is None else _context(parent, is_remote=span.kind is Kind.CONSUMER),
        resource=resource(span.service, namespace),
        attributes=span.attributes,
        events=[
            SdkEvent(moment.name, attributes=moment.attributes, timestamp=_ns(moment.time_us))
            for moment in span.moments
        ],
        links=[Link(_context(link)) for link in span.links],
        kind=_KINDS[span.kind],
        status=Status() if span.error is None else Status(StatusCode.ERROR, span.error),
        start_time=_ns(span.start_us),
        end_time=_ns(span.end_us),
        instrumentation_scope=SCOPE,
    )


def _ns(us: int) -> int:
    # One that the protocol cannot say would have all that goes with it refused.
    return min(max(us, 0) * 1_000, _LAST_NS)


def _context(context: Context, *, is_remote: bool = False) -> SpanContext:
    return SpanContext(int(context.trace_id, 16), int(context.span_id, 16), is_remote=is_remote, trace_flags=_SAMPLED)


@lru_cache(maxsize=1_024)
def resource(service: Service, namespace: str) -> Resource:
    """Return the resource of what *service* did; what OTEL_RESOURCE_ATTRIBUTES say is part of it."""
    told = {
        n.SERVICE_NAME: service.name,
        n.SERVICE_VERSION: service.version,
        n.SERVICE_INSTANCE: service.instance,
        n.SERVICE_NAMESPACE: namespace or None,
    }
    # Not `Resource.create`: it makes an instance of its own up for whoever has none.
    return OTELResourceDetector().detect().merge(Resource({name: it for name, it in told.items() if it is not None}))
