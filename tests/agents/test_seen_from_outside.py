"""A worker's endpoint, asked as a probe and a Prometheus would."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import struct
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import AsyncGenerator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from antiphon import Agent, Event, PermanentError, RetryPolicy
from antiphon.agents.health import Endpoint
from antiphon.agents.metrics import Metrics
from antiphon.agents.worker import Worker
from antiphon.bus.canary import beside
from antiphon.bus.consumer import Consumer
from antiphon.bus.delivery import Outcome
from antiphon.bus.errors import CommitError, SettingsError
from antiphon.bus.heartbeat import AgentSeen
from antiphon.bus.memory.bus import MemoryBus
from antiphon.bus.memory.member import MemoryMember
from antiphon.bus.port import Membership, Transaction
from antiphon.bus.record import Outgoing
from antiphon.bus.share import WHOLE, Share
from antiphon.bus.telemetry import SILENT
from antiphon.compensation.coordinator import coordinator
from antiphon.testing.mesh import MemoryMesh
from antiphon.testing.waiting import eventually

TABLE = Path(__file__).parent.parent.parent / "docs/reference/telemetry.md"


class Asked(Event):
    n: int


class Answered(Event):
    n: int


async def get(endpoint: Endpoint, path: str) -> tuple[int, str]:
    """Return status and body."""

    def ask() -> tuple[int, str]:
        try:
            with urllib.request.urlopen(endpoint.url + path, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    return await asyncio.to_thread(ask)


async def figures(endpoint: Endpoint) -> dict[str, dict[str, float]]:
    """Return each family's samples of ours that have no bucket, by their labels' values."""
    _, text = await get(endpoint, "/metrics")
    found: dict[str, dict[str, float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name.startswith("antiphon_") and "le" not in sample.labels:
                found.setdefault(sample.name, {})[" ".join(sample.labels.values())] = sample.value
    return found


@contextlib.asynccontextmanager
async def answering(worker: Worker, metrics: Metrics, **more: Any) -> AsyncGenerator[Endpoint]:
    async with Endpoint(worker, metrics, host="127.0.0.1", port=0, **more) as endpoint:
        yield endpoint


class AwayBus(MemoryBus):
    """While it is not there, commits fail and restarts wait."""

    def __init__(self) -> None:
        super().__init__(partitions=2)
        self.there = asyncio.Event()
        self.there.set()

    async def join(self, membership: Membership) -> MemoryMember:
        member = await super().join(membership)
        commit, restart = member.commit, member.restart

        async def committing(transaction: Transaction) -> None:
            if not self.there.is_set():
                raise CommitError("REQUEST_TIMED_OUT")
            await commit(transaction)

        async def restarting() -> None:
            await self.there.wait()
            await restart()

        member.commit, member.restart = committing, restarting  # type: ignore[method-assign]  # a fault, not a feature
        return member


async def test_ready_means_partitions_and_not_draining() -> None:
    """A rollout goes on once a new worker has its share, and a balancer is told before the worker leaves."""
    slow, hold = Agent("slow"), asyncio.Event()

    @slow.on(Asked)
    async def wait(asked: Asked) -> Answered:
        await hold.wait()
        return Answered(n=asked.n)

    mesh, metrics = MemoryMesh(partitions=2), Metrics(["slow"])
    worker = mesh.worker(slow.consumer(), telemetry=metrics, instance="w1")
    async with answering(worker, metrics) as endpoint:
        assert await get(endpoint, "/readyz") == (503, '{"ready": false, "instance": "w1", "agents": {}}\n')
        running = asyncio.create_task(worker.run())
        await worker.ready.wait()
        await mesh.publish(Asked(n=1))
        await eventually(lambda: worker.statuses()[0].in_flight, what="the event to be in hand")
        status, body = await get(endpoint, "/readyz")
        assert (status, json.loads(body)["agents"]) == (
            200,
            {"slow": {"state": "ready", "partitions": 4, "paused": 0, "in_flight": 1}},
        )

        worker.stop()
        status, body = await get(endpoint, "/readyz")
        assert (status, json.loads(body)["agents"]["slow"]["state"]) == (503, "draining")
        hold.set()
        assert await running == 0
    assert "antiphon-endpoint" not in {thread.name for thread in threading.enumerate()}


async def test_not_ready_while_the_broker_is_away() -> None:
    """What failed to commit is lost until the member has its partitions again; then the worker is ready as before."""
    echo, bus = Agent("echo"), AwayBus()

    @echo.on(Asked)
    async def answer(asked: Asked) -> Answered:
        return Answered(n=asked.n)

    mesh, metrics = MemoryMesh(partitions=2, bus=bus), Metrics(["echo"])
    async with mesh.running(echo.consumer(), telemetry=metrics) as worker, answering(worker, metrics) as endpoint:
        bus.there.clear()
        await mesh.publish(Asked(n=1))
        await eventually(lambda: not worker.statuses()[0].ready, what="the worker to have lost its partitions")
        status, body = await get(endpoint, "/readyz")
        assert (status, json.loads(body)["agents"]["echo"]["state"]) == (503, "waiting for partitions")

        bus.there.set()
        await mesh.eventually(Answered, count=1)
        assert (await get(endpoint, "/readyz"))[0] == 200
        counts = (await figures(endpoint))["antiphon_transaction_duration_seconds_count"]
        assert counts["echo failed"] == 1


def leave(endpoint_url: str, path: str) -> None:
    """Ask, and be gone before the answer comes."""
    host, port = endpoint_url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as asking:
        asking.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        asking.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def test_live_means_the_loop_answers(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    """A blocked loop is told by a 503; the figures are there all the same, as then somebody wants them.

    Who does not wait for the answer causes no line in the log.
    """
    stuck, blocking, let_go = Agent("stuck"), threading.Event(), threading.Event()

    @stuck.on(Asked)
    async def block(asked: Asked) -> None:
        blocking.set()
        let_go.wait(20)

    told: list[tuple[int, str]] = []

    def probe(url: str) -> None:
        """Ask from a thread, as the loop of this test is the one that is blocked."""
        try:
            blocking.wait(20)
            leave(url, "/livez")
            for path in ("/livez", "/metrics"):
                try:
                    with urllib.request.urlopen(url + path, timeout=10) as answer:
                        told.append((answer.status, answer.read().decode()))
                except urllib.error.HTTPError as error:
                    with error:
                        told.append((error.code, error.read().decode()))
        finally:
            let_go.set()

    mesh, metrics = MemoryMesh(), Metrics(["stuck"])
    async with (
        mesh.running(stuck.consumer(), telemetry=metrics) as worker,
        answering(worker, metrics, live_s=0.2) as endpoint,
    ):
        assert await get(endpoint, "/livez") == (200, "ok\n")
        probing = threading.Thread(target=probe, args=(endpoint.url,))
        probing.start()
        await mesh.publish(Asked(n=1))
        await eventually(lambda: not probing.is_alive(), what="the probe to be through")
        assert (await get(endpoint, "/livez"))[0] == 200

    assert (capfd.readouterr().err, caplog.records) == ("", [])
    assert told[0] == (503, "the event loop has not answered for 0.2 s\n")
    assert (told[1][0], 'antiphon_in_flight{agent="stuck"} 1.0' in told[1][1]) == (200, True)


async def played(mesh: MemoryMesh, endpoint: Endpoint) -> None:
    """Have one of each end: done, retried, given up, and a record that is no event."""
    await mesh.bus.publish([Outgoing(Asked.__event__.topic, b"k", b"no event", [])])
    await mesh.publish(Asked(n=1), Asked(n=2), Asked(n=3))

    async def over() -> bool:
        counts = await figures(endpoint)
        return (
            counts["antiphon_deliveries_total"].get("picky completed") == 2
            and counts["antiphon_dead_letters_total"] == {"picky": 2}
            and counts.get("antiphon_lag", {})
            == dict.fromkeys([f"picky {n} {topic}" for topic in ("asked", "picky.redrive") for n in (0, 1)], 0)
        )

    await eventually(over, what="all to be through")


@contextlib.asynccontextmanager
async def picky(*, canary: Share | None = None) -> AsyncGenerator[tuple[MemoryMesh, Endpoint]]:
    """Run an agent that does 1, does 2 at the second attempt, and never does 3; with *canary*, two versions of it."""
    tried = set[int]()

    def version(name: str) -> Consumer:
        agent = Agent("picky", version=name, retry=RetryPolicy(base_s=0.001))

        @agent.on(Asked)
        async def answer(asked: Asked) -> Answered:
            if asked.n == 3:
                raise PermanentError
            if asked.n == 2 and not tried:
                tried.add(2)
                raise ConnectionError
            return Answered(n=asked.n)

        return agent.consumer()

    mesh, metrics = MemoryMesh(partitions=2), Metrics(["picky"], canaries={} if canary is None else {"picky": "2"})
    consumer = version("1") if canary is None else beside(version("1"), version("2"), canary)
    async with (
        mesh.running(consumer, telemetry=metrics, heartbeat_s=0.05) as worker,
        answering(worker, metrics) as endpoint,
    ):
        yield mesh, endpoint


async def test_figures_say_what_became_of_events() -> None:
    """Each attempt once under its outcome; a record that is no event is a dead letter that no handler saw."""
    async with picky() as (mesh, endpoint):
        before = await figures(endpoint)
        await played(mesh, endpoint)
        after = await figures(endpoint)

    assert [before[f"antiphon_{name}_total"] for name in ("deliveries", "retries", "dead_letters")] == [
        {"picky completed": 0},
        {"picky": 0},
        {"picky": 0},
    ]
    assert after["antiphon_deliveries_total"] == {"picky completed": 2, "picky dead_lettered": 2, "picky retried": 1}
    assert after["antiphon_retries_total"] == {"picky": 1}
    assert after["antiphon_handler_duration_seconds_count"] == {"picky": 4}
    assert after["antiphon_queue_wait_seconds_count"] == {"picky": 3}
    assert set(after["antiphon_transaction_duration_seconds_count"]) == {"picky committed"}
    assert [after[f"antiphon_{name}"] for name in ("in_flight", "lanes", "partitions", "paused_partitions")] == [
        {"picky": 0},
        {"picky": 0},
        {"picky": 4},
        {"picky": 0},
    ]


@pytest.mark.parametrize(
    ("share", "counted", "handled"),
    [
        (Share(0), {"picky completed 2": 0}, 0),
        (Share(WHOLE), {"picky completed 2": 2, "picky retried 2": 1, "picky dead_lettered 2": 1}, 4),
    ],
)
async def test_a_canary_is_counted_by_itself_too(share: Share, counted: dict[str, float], handled: int) -> None:
    """What it did, or that it did nothing; the agent's figures have that in them. A record that is no event is nobody's."""
    async with picky(canary=share) as (mesh, endpoint):
        await played(mesh, endpoint)
        found = await figures(endpoint)
    assert found["antiphon_deliveries_total"] == {"picky completed": 2, "picky dead_lettered": 2, "picky retried": 1}
    assert found["antiphon_canary_deliveries_total"] == counted
    assert found["antiphon_canary_handler_duration_seconds_count"] == {"picky 2": handled}


async def test_a_stop_says_what_it_waits_for(caplog: pytest.LogCaptureFixture) -> None:
    """How many are left, and which have run for longest."""
    slow, hold = Agent("slow"), asyncio.Event()

    @slow.on(Asked)
    async def wait(asked: Asked) -> Answered:
        await hold.wait()
        return Answered(n=asked.n)

    caplog.set_level("INFO")
    mesh = MemoryMesh(partitions=2)
    worker = mesh.worker(slow.consumer(), progress_s=0.02)
    running = asyncio.create_task(worker.run())
    await worker.ready.wait()
    await mesh.publish(*(Asked(n=n) for n in range(5)))
    await eventually(lambda: worker.statuses()[0].in_flight == 5, what="five to be in hand")
    worker.stop()

    def told() -> list[Any]:
        return [record for record in caplog.records if record.message == "stopping: waiting for handlers"]

    [first, *_] = await eventually(told, what="a line to say so")
    hold.set()
    assert await running == 0
    ids = [envelope.id for envelope, _ in await mesh.events(Asked)]
    assert (first.agent, first.left, len(first.oldest)) == ("slow", 5, 3)
    assert {one["event_id"] for one in first.oldest} <= {*ids}
    assert {one["type"] for one in first.oldest} == {"asked"}


async def test_lag_is_what_is_not_handled() -> None:
    """In hand or still on the topic; a heartbeat has the sum. It is gone when all is handled."""
    slow, hold = Agent("slow", concurrency=2), asyncio.Event()

    @slow.on(Asked)
    async def wait(asked: Asked) -> Answered:
        await hold.wait()
        return Answered(n=asked.n)

    mesh, metrics = MemoryMesh(partitions=1), Metrics(["slow"])
    async with (
        mesh.running(slow.consumer(), telemetry=metrics, heartbeat_s=0.05) as worker,
        answering(worker, metrics) as endpoint,
    ):

        async def lag() -> tuple[float | None, int | None]:
            beats = await mesh.events(AgentSeen)
            return (await figures(endpoint)).get("antiphon_lag", {}).get("slow 0 asked"), beats[-1][1].lag

        async def is_lag(events: int) -> bool:
            return await lag() == (events, events)

        await mesh.publish(*(Asked(n=n) for n in range(5)))
        await eventually(lambda: is_lag(5), what="five to be behind")
        hold.set()
        await eventually(lambda: is_lag(0), what="none to be behind")


async def test_the_table_lists_what_is_exported() -> None:
    """Name, kind and labels of every family, and nothing else."""
    async with picky(canary=Share(5_000)) as (mesh, endpoint):
        await played(mesh, endpoint)
        _, text = await get(endpoint, "/metrics")
    conducting, metrics = MemoryMesh(), Metrics(["compensation"])
    async with (
        conducting.running(coordinator(), telemetry=metrics) as worker,
        answering(worker, metrics) as endpoint,
    ):
        _, of_sagas = await get(endpoint, "/metrics")

    families = [*text_string_to_metric_families(text)]
    families += [one for one in text_string_to_metric_families(of_sagas) if one.name.startswith("antiphon_saga")]
    exported = {
        (
            family.name + ("_total" if family.type == "counter" else ""),
            family.type,
            tuple(sorted({label for sample in family.samples for label in sample.labels} - {"le"})),
        )
        for family in families
        if not family.name.startswith("process_")
    }
    rows = re.findall(r"^\| `(antiphon_\w+)` \| (\w+) \| ([^|]+) \|", TABLE.read_text(), flags=re.MULTILINE)
    assert {(name, kind, tuple(sorted(re.findall(r"`(\w+)`", labels)))) for name, kind, labels in rows} == exported


def test_a_silence_costs_next_to_nothing() -> None:
    """Where nobody counts, telling of an attempt is one call, behind which nothing else is called."""
    job: Any = None
    called: list[str] = []

    def note(frame: FrameType, event: str, argument: Any) -> None:
        if event in {"call", "c_call"}:
            called.append(frame.f_code.co_name if event == "call" else argument.__name__)

    sys.setprofile(note)
    SILENT.attempted("a", job, None, Outcome.COMPLETED, 0)
    sys.setprofile(None)
    assert called == ["attempted", "setprofile"]


async def test_what_it_does_not_know_and_where_it_cannot_listen() -> None:
    """The answer, and the error, say what would do."""
    mesh, metrics = MemoryMesh(), Metrics([])
    worker = mesh.worker()
    async with answering(worker, metrics) as endpoint:
        assert await get(endpoint, "/") == (404, "expected /livez, /readyz or /metrics\n")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(
            SettingsError, match=rf"expected metrics_port to be a free port .* got '{port} on 127.0.0.1'"
        ):
            async with Endpoint(worker, metrics, host="127.0.0.1", port=port):
                pass
