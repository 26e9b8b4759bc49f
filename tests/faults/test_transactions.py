"""Transactions that fail at each step, by what a broker answers: the work is done again, and in Kafka everything happens once."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest
from cluster import Broker
from confluent_kafka import KafkaError
from probe import Answered, Asked, probe
from relay import Api, Relay, Request, refused
from world import PATIENCE_S, PROBE, World

from antiphon.testing.waiting import eventually

pytestmark = pytest.mark.kafka


class Refusal(NamedTuple):
    """What a broker says once, or as often, to which request; and how often the event's handler runs for that."""

    api: Api
    code: int
    times: int = 1
    attempts: int = 2


async def goes_on(world: World, relay: Relay, refusals: list[Refusal]) -> None:
    """Have a worker meet each of *refusals* with one event in hand, and show that each event is handled once in Kafka."""
    worker = await world.start(PROBE, instance="one").ready()
    met: list[Refusal] = []
    for n, refusal in enumerate(refusals):
        left = refusal.times

        async def refuse(request: Request, answer: bytes, refusal: Refusal = refusal, n: int = n) -> bytes:
            nonlocal left
            # A worker's heartbeats are written too, by another client.
            if (request.api, request.client) != (refusal.api, "one") or not left or not world.attempts[n]:
                return answer
            left -= 1
            met.append(refusal)
            return refused(request, answer, refusal.code)

        relay.after = refuse
        await world.ask(Asked(key="a", n=n))
        await world.came(Answered, n + 1)
    assert [refusal for refusal in refusals if refusal not in met] == []
    assert world.attempts == {n: refusal.attempts for n, refusal in enumerate(refusals)}
    # What the broker had committed before it said no can be read before the worker has said anything.
    await eventually(
        lambda: len(worker.said("a transaction failed")) >= len(refusals), PATIENCE_S, what="each refusal to be told"
    )
    assert len(worker.said("a transaction failed")) == len(refusals)
    assert [answer.n for answer in await world.events(Answered)] == [*range(len(refusals))]
    assert await world.crew.stop() == [0]
    assert await world.wrong(probe) == []


# It is asked again under the group's new generation up to three times, as nothing of it is lost where only that is old.
STALE = 3


@pytest.mark.parametrize("protocol", ["consumer", "classic"])
async def test_f14_a_commit_that_the_group_refuses(
    fragile: Broker, relay: Relay, namespace: str, tmp_path: Path, protocol: str
) -> None:
    """Whatever it calls the reason: as if the partitions were lost, the work in hand is dropped, and done again."""
    address = f"127.0.0.1:{fragile.port}"
    async with World(address, namespace, tmp_path, through=relay.address, group_protocol=protocol) as world:
        await goes_on(
            world,
            relay,
            [
                Refusal(Api.TXN_OFFSET_COMMIT, KafkaError.UNKNOWN_MEMBER_ID),
                Refusal(Api.TXN_OFFSET_COMMIT, KafkaError.ILLEGAL_GENERATION, times=STALE),
                Refusal(Api.TXN_OFFSET_COMMIT, KafkaError.STALE_MEMBER_EPOCH, times=STALE),
                Refusal(Api.TXN_OFFSET_COMMIT, KafkaError.FENCED_MEMBER_EPOCH, times=STALE),
                Refusal(Api.TXN_OFFSET_COMMIT, KafkaError.FENCED_INSTANCE_ID),
            ],
        )


async def test_f15_a_transaction_that_fails_at_any_step(relayed: World, relay: Relay) -> None:
    """The producer is discarded and the work done again, except where the broker had committed before it said no."""
    await goes_on(
        relayed,
        relay,
        [
            Refusal(Api.ADD_PARTITIONS_TO_TXN, KafkaError.INVALID_TXN_STATE),
            Refusal(Api.ADD_PARTITIONS_TO_TXN, KafkaError.INVALID_PRODUCER_ID_MAPPING),
            Refusal(Api.ADD_PARTITIONS_TO_TXN, KafkaError.TOPIC_AUTHORIZATION_FAILED),
            Refusal(Api.PRODUCE, KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER),
            Refusal(Api.PRODUCE, KafkaError.INVALID_PRODUCER_EPOCH),
            Refusal(Api.ADD_OFFSETS_TO_TXN, KafkaError.INVALID_TXN_STATE),
            Refusal(Api.ADD_OFFSETS_TO_TXN, KafkaError.PRODUCER_FENCED),
            Refusal(Api.TXN_OFFSET_COMMIT, KafkaError.INVALID_COMMIT_OFFSET_SIZE),
            Refusal(Api.END_TXN, KafkaError.INVALID_PRODUCER_EPOCH, attempts=1),
            Refusal(Api.END_TXN, KafkaError.PRODUCER_FENCED, attempts=1),
            Refusal(Api.END_TXN, KafkaError.UNKNOWN, attempts=1),
        ],
    )
