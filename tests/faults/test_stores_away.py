"""F20 and F21: a registry that is down, a disk that is full. Events wait; none is set aside, none is lost."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from antiphon import Agent, Event
from antiphon.bus.claims import Claims, FileClaims
from antiphon.bus.pressure import Bounds
from antiphon.bus.record import Outgoing
from antiphon.schemas.codec import Codec
from antiphon.schemas.envelope import Envelope, to_headers
from antiphon.schemas.registry import RegistryStore
from antiphon.testing.mesh import MemoryMesh
from antiphon.testing.registry import RegistryServer
from antiphon.testing.waiting import eventually


class Asked(Event, type="away.asked"):
    n: int


class Done(Event, type="away.done"):
    n: int
    text: str = ""


async def by_another_writer(registry: RegistryServer) -> bytes:
    """Return an event's value, written by a class of the same type with one field more."""

    class Asked(Event, type="away.asked"):
        n: int
        more: str = ""

    store = RegistryStore(registry.url)
    codec = Codec(store)
    await codec.announce([Asked])
    value = codec.encode(Asked(n=2))
    store.close()
    return value


async def test_f20_a_registry_that_is_down(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Known schemas work; an event with an unknown one waits, and so does its key alone; it is handled afterwards."""
    monkeypatch.setattr("antiphon.bus.runner._STORE_RETRY_S", 0.01)
    agent = Agent("reader")

    @agent.on(Asked)
    async def answer(asked: Asked) -> Done:
        return Done(n=asked.n)

    with RegistryServer() as registry:
        store = RegistryStore(registry.url)
        mesh = MemoryMesh(1, store=store)
        await mesh.codec.announce([Done])
        async with mesh.running(agent):
            await mesh.publish(Asked(n=1), key="a")
            await mesh.eventually(Done, count=1)
            newer = await by_another_writer(registry)
            registry.close()
            headers = to_headers(Envelope.root("away.asked", source="/elsewhere"))
            await mesh.bus.publish([Outgoing("away.asked", b"b", newer, headers)])
            await mesh.publish(Asked(n=3), key="b")
            await mesh.publish(Asked(n=4), key="a")
            await mesh.eventually(Done, count=2)
            waiting = "a schema cannot be fetched; trying again"
            await eventually(lambda: caplog.messages.count(waiting) > 1, what="a second try")
            assert [event.n for _, event in await mesh.events(Done)] == [1, 4]
            assert await mesh.records("reader.dead") == []
            registry.open()
            assert [event.n for event in await mesh.eventually(Done, count=4)] == [1, 4, 2, 3]
        assert await mesh.records("reader.dead") == []
        store.close()


def on_disk(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@contextmanager
def full_disk() -> Generator[None]:
    """Let no file of this process grow beyond a megabyte: the system itself refuses, as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_f21_a_disk_that_is_full(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """What needs it is neither committed nor set aside, the partition is paused, and then all goes on."""
    monkeypatch.setattr("antiphon.bus.claims._RETRY_S", 0.01)
    agent = Agent("writer", concurrency=2)

    @agent.on(Asked)
    async def write(asked: Asked) -> Done:
        return Done(n=asked.n, text="x" * 2_000_000)

    mesh = MemoryMesh(1, claims=Claims(FileClaims(tmp_path)))
    await mesh.prepare(agent)
    await mesh.publish(*(Asked(n=n) for n in range(8)))
    with full_disk():
        async with mesh.running(agent, bounds=Bounds(most_pending=8)) as worker:
            away = "the store of large values does not answer; trying again"
            await eventually(lambda: caplog.messages.count(away) > 3, what="tries to write")
            status = worker.statuses()[0]
            assert (status.in_flight, status.paused) == (2, 1)
            assert (await mesh.handled(), await mesh.records("writer.dead")) == ([], [])
            assert {"File too large" in str(vars(line).get("reason")) for line in caplog.records} == {True}
            assert on_disk(tmp_path) == []
            _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
            await mesh.eventually(Done, count=8, timeout=60)
    assert {(handled.outcome, handled.attempt) for handled in await mesh.handled()} == {("completed", 1)}


async def test_f21_a_folder_that_is_gone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A share that is not mounted: whoever reads waits for it."""
    monkeypatch.setattr("antiphon.bus.claims._RETRY_S", 0.01)
    agent, folder = Agent("reader"), tmp_path / "share"

    @agent.on(Done)
    async def read(done: Done) -> Asked:
        return Asked(n=len(done.text))

    mesh = MemoryMesh(1, claims=Claims(FileClaims(folder)))
    await mesh.prepare(agent)
    await mesh.publish(Done(n=0, text="x" * 2_000_000))
    folder.rename(tmp_path / "elsewhere")
    async with mesh.running(agent) as worker:
        await eventually(lambda: worker.statuses()[0].in_flight == 1, what="the event to be in hand")
        await mesh.publish(Done(n=1))
        await mesh.eventually(Asked, count=1)
        assert await mesh.records("reader.dead") == []
        await asyncio.to_thread((tmp_path / "elsewhere").rename, folder)
        assert [event.n for event in await mesh.eventually(Asked, count=2)] == [0, 2_000_000]
