"""Agents as they run on Kafka, on the bus in memory: what the fake worker of the other tests could hide."""

from __future__ import annotations

from collections.abc import AsyncIterator

from antiphon import Agent, Context, Event, RetryPolicy
from antiphon.testing.mesh import MemoryMesh


class Asked(Event):
    n: int


class Halved(Event):
    n: int


class Doubled(Event):
    n: int
    raw: bytes


class Answered(Event):
    halved: int
    doubled: int
    raw: bytes


async def test_fan_out_and_join() -> None:
    """Two agents answer, a third waits for both, whichever comes first; bytes that are no text survive the wait."""
    halve, double, policy = Agent("halve"), Agent("double"), Agent("policy")

    @halve.on(Asked)
    def half(asked: Asked) -> Halved:
        return Halved(n=asked.n // 2)

    @double.on(Asked)
    async def twice(asked: Asked) -> AsyncIterator[Doubled]:
        yield Doubled(n=asked.n * 2, raw=b"\xff\x00")

    @policy.on(Halved, Doubled, join=True)
    async def answer(doubled: Doubled, halved: Halved) -> Answered:
        return Answered(halved=halved.n, doubled=doubled.n, raw=doubled.raw)

    mesh = MemoryMesh()
    async with mesh.running(halve.consumer(), double.consumer(), policy.consumer()):
        await mesh.publish(*(Asked(n=n) for n in range(10)))
        answers = await mesh.eventually(Answered, count=10)

    assert sorted((event.halved, event.doubled, event.raw) for event in answers) == [
        (n // 2, n * 2, b"\xff\x00") for n in range(10)
    ]
    assert all(len(envelope.causes) == 1 for envelope, _ in await mesh.events(Answered))
    assert sorted(len(entry.causes) for entry in await mesh.handled() if entry.emitted and entry.causes) == [1] * 10


async def test_state_once_and_reports() -> None:
    """A failed attempt leaves no state but its side effects' results; what the last one reported is in the activity."""
    teller = Agent("teller", retry=RetryPolicy(attempts=3, base_s=0.001))
    calls: list[int] = []

    async def ring() -> int:
        calls.append(4)
        return len(calls)

    @teller.on(Asked)
    async def tell(asked: Asked, context: Context) -> Halved:
        context.state["attempts"] = context.state.get("attempts", 0) + 1
        receipt = await context.once("call", ring)
        context.spend(model="small", input_tokens=10, cost=0.5)
        context.confidence(0.25 * context.attempt)
        if context.attempt < 3:
            raise ConnectionError
        return Halved(n=receipt + context.state["attempts"])

    mesh = MemoryMesh()
    async with mesh.running(teller.consumer()):
        await mesh.publish(Asked(n=4))
        assert await mesh.eventually(Halved, count=1) == [Halved(n=2)]

    assert calls == [4]
    assert [
        (entry.outcome, entry.confidence, [spent.cost for spent in entry.usage]) for entry in await mesh.handled()
    ] == [
        ("retried", 0.25, [0.5]),
        ("retried", 0.5, [0.5]),
        ("completed", 0.75, [0.5]),
    ]
