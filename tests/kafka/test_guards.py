"""Circles of agents and workflows that cost, on Apache Kafka, each agent in a worker of its own."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest

from antiphon import Event
from antiphon.bus.connect import connect
from antiphon.bus.errors import BreaksReadersError
from antiphon.bus.settings import Settings
from antiphon.replay.letters import read_letters, settling
from antiphon.testing.mesh import MemoryMesh
from antiphon.testing.waiting import eventually
from tests.tennis import BallServed, ada, bob

pytestmark = pytest.mark.kafka


class BallServedOddly(Event, type="ball.served"):
    by: int


async def test_limits_travel_between_workers_and_redrives_on_kafka(kafka: str, namespace: str) -> None:
    """By hops, then by money: a circle ends as one letter; redriven with more, it goes on as the same event, and ends again."""
    settings = Settings(bootstrap_servers=kafka, namespace=namespace, partitions=2)
    bus, names = connect(settings), settings.names
    mesh = MemoryMesh(2, bus=bus, names=names)
    try:
        async with AsyncExitStack() as workers:
            for agent in (ada, bob):
                await workers.enter_async_context(mesh.running(agent, max_hops=12))
            await mesh.publish(BallServed(by="umpire"))
            await eventually(lambda: read_letters(bus, names, ["bob"]), 60, what="the letter of the hops")
            await mesh.publisher.publish([BallServed(by="umpire")], budget="1 USD")

            async def two() -> bool:
                return sum([len(await read_letters(bus, names, [who])) for who in ("ada", "bob")]) == 2

            await eventually(two, 60, what="the letter of the budget")
            first = {letter.reason: letter for letter in await read_letters(bus, names, ["ada", "bob"])}
            with pytest.raises(BreaksReadersError, match="which breaks bob"):
                await mesh.publish(BallServedOddly(by=7))
            async with settling(bus, names, "bob") as settle:
                hops = [letter for letter in settle.letters.values() if letter.reason == "hops"]
                await settle.redrive(hops, actor="ada@desk")
            await eventually(two, 60, what="the redriven event to be set aside again")
            again = {letter.reason: letter for letter in await read_letters(bus, names, ["ada", "bob"])}
        served = [envelope for envelope, _ in await mesh.events(BallServed)]
    finally:
        await bus.close()

    assert sorted(first) == sorted(again) == ["budget", "hops"]
    assert (again["hops"].event_id, again["hops"].redriven) == (first["hops"].event_id, 1)
    budgets = [envelope.budget for envelope in served if envelope.budget is not None]
    assert budgets == ["1 USD", "0.75 USD", "0.5 USD", "0.25 USD", "0 USD"]
