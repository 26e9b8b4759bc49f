"""Exporting as it is deployed: a tracer's process that is killed again and again, and a collector that is away meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import Annotated

import pytest

from antiphon import Agent, Context, Event
from antiphon.bus.kafka.bus import KafkaBus
from antiphon.bus.kafka.config import KafkaConfig
from antiphon.bus.names import Names
from antiphon.bus.schema_topic import TopicStore
from antiphon.schemas.redaction import MASK, REDACT
from antiphon.testing.mesh import MemoryMesh
from antiphon.testing.waiting import eventually
from antiphon.tracing import Index, Search
from antiphon.tracing.index.address import Place
from antiphon.tracing.spans.making import spans_of
from tests.tracing.collector import Collector, by_http, plain

pytestmark = pytest.mark.embedded

TICKETS = 40


class TicketOpened(Event):
    n: int
    email: Annotated[str, REDACT] = "me@example.org"


class TicketTriaged(Event):
    n: int


triage, answer = Agent("triage"), Agent("answer")


@triage.on(TicketOpened)
async def sort(ticket: TicketOpened, context: Context) -> TicketTriaged:
    context.spend(model="openai/m-1", input_tokens=10, output_tokens=2, cost=0.25)
    context.confidence(0.9)
    return TicketTriaged(n=ticket.n)


@answer.on(TicketTriaged)
async def say(ticket: TicketTriaged) -> None:
    """Answered elsewhere."""


@contextlib.contextmanager
def tracer(index: Place, collector: Collector, broker: str, namespace: str) -> Generator[subprocess.Popen[bytes]]:
    """`antiphon tracer run`, killed when the block ends if it has not ended by itself."""
    command = [sys.executable, "-m", "antiphon.cli", "tracer", "run", "--index", str(index)]
    command += ["--otlp", collector.url, "--otlp-content"]
    process = subprocess.Popen(
        command,
        env={
            **os.environ,
            "ANTIPHON_BOOTSTRAP_SERVERS": broker,
            "ANTIPHON_NAMESPACE": namespace,
            "OTEL_METRIC_EXPORT_INTERVAL": "1000",
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def whole(collector: Collector) -> set[str]:
    """The ids of the workflows of which the collector has the whole."""
    return {
        value
        for _, span in collector.spans()
        if not span.parent_span_id
        for name, value in plain(span.attributes).items()
        if name == "gen_ai.conversation.id"
    }


async def test_killed_again_and_again_it_sends_every_span(embedded: str, namespace: str, tmp_path: Path) -> None:
    """What the collector refused is sent when it takes again; nothing is left out, a clean stop or a rebuild repeats nothing, and what is marked shows nowhere."""
    index, names, bus = tmp_path / "index", Names(namespace), KafkaBus(KafkaConfig(bootstrap_servers=embedded))
    mesh = MemoryMesh(4, bus=bus, names=names, store=TopicStore(bus, names, partitions=4))
    with by_http() as collector:
        try:
            async with mesh.running(triage, answer):
                for first in range(0, TICKETS, TICKETS // 4):
                    with tracer(index, collector, embedded, namespace) as process:
                        collector.status = 503 if first == TICKETS // 4 else 200
                        before = collector.refused + len(collector.got)

                        def asked(before: int = before) -> bool:
                            return collector.refused + len(collector.got) > before

                        await mesh.publisher.publish([TicketOpened(n=first + n) for n in range(TICKETS // 4)])
                        await eventually(asked, 90, what="a request")
                        process.send_signal(signal.SIGKILL)
                collector.status = 200

                def all_sent() -> bool:
                    with Index.opened(index) as opened:
                        ids = {one.correlation_id for one in opened.workflows(Search())}
                    return len(ids) == TICKETS and ids == whole(collector)

                with tracer(index, collector, embedded, namespace) as process:
                    await eventually(all_sent, 120, what="every workflow to be there")
                    process.send_signal(signal.SIGTERM)
                    assert process.wait(60) == 0
                # What comes while no tracer runs, and is read by one that makes the index again, is sent too; nothing else is.
                [late] = await mesh.publisher.publish([TicketOpened(n=TICKETS)])
                sent = len(collector.got)
                rebuild = [sys.executable, "-m", "antiphon.cli", "tracer", "rebuild", "--index", str(index)]
                environment = {"ANTIPHON_BOOTSTRAP_SERVERS": embedded, "ANTIPHON_NAMESPACE": namespace}
                await mesh.eventually(TicketTriaged, count=TICKETS + 1)
                await asyncio.to_thread(
                    subprocess.run, rebuild, env={**os.environ, **environment}, check=True, stdout=subprocess.DEVNULL
                )
                with tracer(index, collector, embedded, namespace):
                    await eventually(lambda: late.correlation_id in whole(collector), 120, what="the late one")
                traces = {span.trace_id.hex() for _, span in collector.spans(sent)}
                assert traces == {late.correlation_id.replace("-", "")}
        finally:
            await bus.close()
        with Index.opened(index) as opened:
            workflows = [opened.workflow(one.correlation_id) for one in opened.workflows(Search())]
        wanted = {span.id for one in workflows if one is not None for span in spans_of(one, names=names)}
        assert {span.span_id.hex() for _, span in collector.spans()} == wanted
        kinds = Counter(span.name.partition(" ")[0] for _, span in collector.spans())
        assert kinds["chat"] >= TICKETS
        bodies = b"".join(body for _, body, _ in collector.got)
        assert (b"me@example.org" in bodies, MASK.encode() in bodies) == (False, True)


@pytest.mark.parametrize(
    "kind", [pytest.param("kafka", marks=pytest.mark.kafka), pytest.param("embedded", marks=pytest.mark.embedded)]
)
async def test_of_two_that_share_an_index_one_sends(
    kind: str, request: pytest.FixtureRequest, namespace: str, shared: str
) -> None:
    """Each span once, whoever read what it stands for; when one of the two is killed the other sends the rest."""
    broker: str = request.getfixturevalue(kind)
    names, bus = Names(namespace), KafkaBus(KafkaConfig(bootstrap_servers=broker))
    mesh = MemoryMesh(4, bus=bus, names=names, store=TopicStore(bus, names, partitions=4))
    ids: set[str] = set()
    with by_http() as collector, tracer(shared, collector, broker, namespace):

        async def opened(count: int) -> None:
            published = await mesh.publisher.publish([TicketOpened(n=n) for n in range(count)])
            ids.update(one.correlation_id for one in published)
            await eventually(lambda: whole(collector) == ids, 120, what="every workflow to be there")

        try:
            async with mesh.running(triage, answer):
                with tracer(shared, collector, broker, namespace):
                    await opened(TICKETS)
                    times = Counter(span.span_id for _, span in collector.spans())
                    assert {*times.values()} == {1}
                await opened(TICKETS // 4)
        finally:
            await bus.close()
