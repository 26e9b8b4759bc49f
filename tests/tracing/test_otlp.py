"""What goes over the wire, read with OTLP's own protobuf definitions by a collector that is not ours: HTTP and gRPC."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1 import metrics_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

from antiphon.bus.names import Names
from antiphon.testing.story import START_US, Story
from antiphon.tracing.index.legend import Legend
from antiphon.tracing.otlp.measuring import Measuring
from antiphon.tracing.otlp.sending import OtlpMeter, OtlpSender, Protocol
from antiphon.tracing.otlp.tally import Tally
from antiphon.tracing.spans.ids import Context
from antiphon.tracing.spans.making import spans_of
from antiphon.tracing.spans.span import Kind, Moment, Service, Span
from tests.tracing.collector import TRACES, by_grpc, by_http, plain
from tests.tracing.exporting import METRICS, World
from tests.tracing.workflows import order, ticket

COLLECTORS = {Protocol.HTTP: by_http, Protocol.GRPC: by_grpc}
KINDS = {
    Kind.INTERNAL: trace_pb2.Span.SPAN_KIND_INTERNAL,
    Kind.CLIENT: trace_pb2.Span.SPAN_KIND_CLIENT,
    Kind.PRODUCER: trace_pb2.Span.SPAN_KIND_PRODUCER,
    Kind.CONSUMER: trace_pb2.Span.SPAN_KIND_CONSUMER,
}


@pytest.mark.parametrize("protocol", Protocol)
def test_what_arrives_is_what_was_made(protocol: Protocol) -> None:
    """Every span of two workflows, whole, by the definitions: ids, parents, links, attributes of each type, status."""
    spans = [*spans_of(order().stitched()), *spans_of(ticket().stitched(), content=True)]
    with COLLECTORS[protocol]() as collector:
        sender = OtlpSender(collector.url, protocol, namespace="staging")
        assert sender.send(spans) == (True, "")
        sender.close()
        arrived = [read(resource, span) for resource, span in collector.spans()]
    assert sorted(arrived, key=repr) == sorted(spans, key=repr)


def read(resource: dict[str, Any], span: trace_pb2.Span) -> Span:
    """Read a span back as the plain value that it was."""
    assert resource["service.namespace"] == "staging"
    assert span.start_time_unix_nano % 1_000 == 0
    failed = span.status.code == trace_pb2.Status.STATUS_CODE_ERROR
    assert failed or span.status.code == trace_pb2.Status.STATUS_CODE_UNSET
    return Span(
        context=Context(span.trace_id.hex(), span.span_id.hex()),
        parent=span.parent_span_id.hex() or None,
        name=span.name,
        kind=next(kind for kind, number in KINDS.items() if number == span.kind),
        service=Service(resource["service.name"], resource.get("service.version"), resource.get("service.instance.id")),
        start_us=span.start_time_unix_nano // 1_000,
        end_us=span.end_time_unix_nano // 1_000,
        attributes=plain(span.attributes),
        links=tuple(Context(link.trace_id.hex(), link.span_id.hex()) for link in span.links),
        moments=tuple(Moment(one.name, one.time_unix_nano // 1_000, plain(one.attributes)) for one in span.events),
        error=span.status.message if failed else None,
    )


ONE = Span(
    context=Context("1" * 32, "2" * 16),
    parent=None,
    name="one",
    kind=Kind.INTERNAL,
    service=Service("shop"),
    start_us=START_US,
    end_us=START_US,
    attributes={},
)


@pytest.mark.parametrize("protocol", Protocol)
def test_the_environment_counts(protocol: Protocol, monkeypatch: pytest.MonkeyPatch) -> None:
    """The endpoint where none is given, headers, and attributes of the resource."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=seven")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
    with COLLECTORS[protocol]() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        sender = OtlpSender(None, protocol)
        assert sender.send([ONE]).ok
        sender.close()
        [(path, _, headers)] = collector.got
        [(resource, _)] = collector.spans()
    assert path == {Protocol.HTTP: "/v1/traces", Protocol.GRPC: TRACES}[protocol]
    assert headers["x-tenant"] == "seven"
    assert (resource["service.name"], resource["deployment.environment.name"]) == ("shop", "test")


def test_one_that_refuses_is_told_of_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, where trying again cannot help; the exporters' own log lines go nowhere else."""
    with by_http() as collector:
        collector.status = 401
        sender = OtlpSender(collector.url, Protocol.HTTP)
        taken = sender.send([ONE])
        sender.close()
    assert (taken.ok, "401" in taken.reason) == (False, True)
    assert collector.refused == 1


@pytest.mark.parametrize("protocol", Protocol)
def test_one_that_is_not_there(protocol: Protocol, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within the time-out that the environment sets, and with a reason."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    with by_http() as collector:
        gone = collector.url
    sender = OtlpSender(gone, protocol)
    taken = sender.send([ONE])
    sender.close()
    assert (taken.ok, bool(taken.reason)) == (False, True)


async def test_metrics_are_what_was_read(tmp_path: Path) -> None:
    """By the definitions: each metric with its unit, its attributes and what it came to, and each record once."""
    world = World(tmp_path)
    with world.tracing(), by_http() as collector:
        tally = Tally(Legend(world.writer.numbers, world.database), Names("staging"))
        tally.take(await world.rows(order(), spent()))
        await world.read(order())
        meter = OtlpMeter(collector.url, Protocol.HTTP)
        measuring = Measuring(tally, world.folder / "index", meter, namespace="staging", clock=lambda: START_US)
        assert await measuring.send()
        meter.close()
    [(path, body, _)] = collector.got
    [of_resource] = ExportMetricsServiceRequest.FromString(body).resource_metrics
    assert (path, plain(of_resource.resource.attributes)["service.name"]) == ("/v1/metrics", "antiphon-tracer")
    found = {metric.name: metric for metric in of_resource.scope_metrics[0].metrics}
    assert {name: (metric.WhichOneof("data"), metric.unit) for name, metric in found.items()} == METRICS
    card = {
        "messaging.system": "kafka",
        "messaging.operation.name": "process",
        "messaging.destination.name": "staging.order.placed",
        "messaging.consumer.group.name": "staging.card",
    }
    assert points(found["messaging.client.consumed.messages"])[key_of(card)] == 1
    assert points(found["messaging.process.duration"])[key_of(card)] == (1, 0.004)
    sent = {"messaging.system": "kafka", "messaging.operation.name": "send"}
    assert (
        points(found["messaging.client.sent.messages"])[
            key_of({**sent, "messaging.destination.name": "staging.card.charged"})
        ]
        == 1
    )
    chat = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m-1", "gen_ai.agent.name": "triage"}
    chat["gen_ai.provider.name"] = "openai"
    assert points(found["antiphon.cost"]) == {key_of({**chat, "antiphon.currency": "EUR"}): 0.25}
    assert points(found["gen_ai.client.token.usage"]) == {
        key_of({**chat, "gen_ai.token.type": "input"}): (1, 10.0),
        key_of({**chat, "gen_ai.token.type": "output"}): (1, 2.0),
    }
    assert points(found["gen_ai.client.operation.duration"]) == {key_of(chat): (1, 0.03)}
    assert points(found["antiphon.lag"]) == {key_of({"gen_ai.agent.name": "mail"}): 0}
    assert points(found["antiphon.saga.workflows"])[key_of({"antiphon.workflow.state": "stalled"})] == 1
    audit = {"gen_ai.agent.name": "audit"}
    attempts = points(found["antiphon.delivery.attempts"])
    assert [attempts[key_of({**audit, "antiphon.delivery.outcome": one})] for one in ("retried", "dead_lettered")] == [
        1,
        1,
    ]
    assert points(found["antiphon.delivery.queue_wait"])[key_of(audit)][0] == 1


def spent() -> Story:
    """The ticket, as a workflow of its own."""
    story = ticket()
    for event in story.events:
        event.envelope.correlation_id = "0199f2c1-0000-7000-8000-000000000001"
    return story


def key_of(attributes: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(attributes.items()))


def points(metric: metrics_pb2.Metric) -> dict[tuple[tuple[str, str], ...], Any]:
    """What a metric came to, by its attributes; of a histogram how many, and their sum."""
    kind = metric.WhichOneof("data")
    found = getattr(metric, str(kind)).data_points
    if kind == "histogram":
        assert all(sum(point.bucket_counts) == point.count for point in found)
        return {key_of(plain(point.attributes)): (point.count, round(point.sum, 9)) for point in found}
    return {key_of(plain(point.attributes)): getattr(point, point.WhichOneof("value")) for point in found}


@pytest.mark.parametrize("protocol", Protocol)
def test_what_cannot_be_written_is_refused(protocol: Protocol) -> None:
    """A text that is none, say: it counts as if the endpoint had not taken it, and what can be sent goes on."""
    with COLLECTORS[protocol]() as collector:
        sender = OtlpSender(collector.url, protocol)
        odd = dataclasses.replace(ONE, name="\ud800", attributes={"odd": "\ud800"})
        assert not sender.send([odd]).ok
        assert sender.send([ONE]).ok
        sender.close()


def test_one_that_takes_its_time_holds_nobody_up_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request is over when the time-out that the environment sets is, whatever the collector does."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    with by_http() as collector:
        collector.answers.clear()
        sender = OtlpSender(collector.url, Protocol.HTTP)
        taken = sender.send([ONE])
        assert (taken.ok, collector.got) == (False, [])
        collector.answers.set()
        sender.close()
