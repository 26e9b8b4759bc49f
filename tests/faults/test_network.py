"""Networks that lose answers, are slow, and reset connections, between real workers and a real broker."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest
from accounts import Audited, auditor, ledger
from relay import Api, CutError, Relay, Request
from world import AUDITOR, LEDGER, World, deposits

from antiphon.bus.connect import connect
from antiphon.bus.kafka.bus import KafkaBus
from antiphon.bus.kafka.config import KafkaConfig
from antiphon.bus.settings import Settings

pytestmark = pytest.mark.kafka


async def test_f12_nobody_knows_whether_a_write_arrived(relay: Relay, namespace: str, tmp_path: Path) -> None:
    """It did, and its answer is lost, time and again; an application's writes and workers' are there once."""
    lost: dict[int, int] = dict.fromkeys((Api.PRODUCE, Api.ADD_OFFSETS_TO_TXN, Api.TXN_OFFSET_COMMIT, Api.END_TXN), 4)

    async def lose(request: Request, answer: bytes) -> bytes:
        if lost.get(request.api):
            lost[request.api] -= 1
            raise CutError
        return answer

    async with World(relay.address, namespace, tmp_path, session_timeout=3) as world:
        worker = await world.start(LEDGER, AUDITOR).ready()
        relay.after = lose
        while any(lost.values()):
            await world.publish(deposits(len(world.asked), 20))
            await world.came(Audited, len(world.asked))
        relay.calm()
        assert worker.exit_code is None
        assert relay.cuts == 16
        assert await world.wrong(ledger, auditor) == []


async def test_f13_slow_and_resetting(relayed: World, relay: Relay) -> None:
    """Every request is late, and one in fifty ends its connection: events come through meanwhile, each once."""
    dice = random.Random(13)
    worker = await relayed.start(LEDGER, AUDITOR).ready()

    async def trouble(request: Request) -> None:
        await asyncio.sleep(dice.uniform(0.0, 0.02))
        if dice.random() < 0.02:
            raise CutError

    relay.before = trouble
    while relay.cuts < 20 or len(relayed.asked) < 200:
        await relayed.publish(deposits(len(relayed.asked), 20))
        await relayed.came(Audited, len(relayed.asked))
    relay.calm()
    assert worker.exit_code is None
    assert await relayed.crew.stop() == [0]
    assert await relayed.wrong(ledger, auditor) == []


async def test_a_broker_that_is_there_and_does_not_say_yet_is_waited_for(relayed: World, relay: Relay) -> None:
    """While brokers choose who leads, they may answer a worker that starts later than a wrong address would be noticed."""
    await relayed.publish(deposits(0, 1))
    asked, knocked = asyncio.Event(), asyncio.Event()

    async def hold(request: Request) -> None:
        if request.api == Api.API_VERSIONS and asked.is_set():
            knocked.set()
        if request.api == Api.METADATA:
            asked.set()
            await knocked.wait()

    relay.before = hold
    bus = KafkaBus(KafkaConfig(bootstrap_servers=relay.address, reach_s=0.2))
    try:
        topics = await bus.topics()
    finally:
        await bus.close()
    assert knocked.is_set()
    assert relayed.names.topic("money.deposited") in topics


async def test_a_question_that_was_cut_off_is_asked_again(relayed: World, relay: Relay) -> None:
    """The client answers it with no error and with an offset that is none: state would be restored up to there, from nothing."""
    await relayed.publish(deposits(0, 50))
    topic = relayed.names.topic("money.deposited")
    left = 2

    async def cut(request: Request) -> None:
        nonlocal left
        if left and request.api == Api.LIST_OFFSETS:
            left -= 1
            raise CutError

    bus = connect(Settings(bootstrap_servers=relay.address))
    try:
        await bus.topics()
        relay.before = cut
        bounds = await bus.bounds([topic])
    finally:
        await bus.close()
    assert (left, bounds) == (0, await relayed.bus.bounds([topic]))
    assert sum(end for _, end in bounds.values()) == 50
