"""What an attempt spent, and how sure it was, counts once, however often and wherever activity tells of it."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import random
from collections import Counter
from collections.abc import Sequence
from functools import cache

from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.bus.activity import Activity, Handled, Spent
from antiphon.bus.record import Record
from antiphon.schemas.codec import Codec
from antiphon.schemas.store import MemoryStore
from antiphon.tracing import By, Index, Search
from antiphon.tracing.delivered import deliveries_of
from tests.tracing.reading import Read

WORKFLOWS = ("0199f2c1-0000-7000-8000-000000000000", "order-7")
START_US = 1_795_341_600_000_000


@cache
def codec() -> Codec:
    """A codec that writes and reads activity."""
    made = Codec(MemoryStore())
    asyncio.run(made.announce([Activity]))
    empty = Activity(agent="a", version="1", instance="1", deliveries=[])
    asyncio.run(made.learn(made.encode(empty)[2:10]))
    return made


attempts = st.builds(
    Handled,
    event_id=st.sampled_from(["e1", "e2"]),
    event_type=st.just("ticket.opened"),
    correlation_id=st.sampled_from(WORKFLOWS),
    topic=st.just("ticket.opened"),
    partition=st.just(0),
    offset=st.just(0),
    attempt=st.integers(1, 2),
    outcome=st.sampled_from(["completed", "retried"]),
    started_us=st.integers(START_US, START_US + 3),
    duration_us=st.just(1),
    queue_us=st.just(1),
    usage=st.lists(
        st.builds(
            Spent,
            model=st.sampled_from(["m", "n"]),
            input_tokens=st.integers(0, 9),
            cost=st.sampled_from([0.1, 0.25]),
            currency=st.sampled_from(["EUR", "USD"]),
            started_us=st.none() | st.integers(START_US, START_US + 3),
            duration_us=st.none() | st.integers(0, 3),
        ),
        max_size=2,
    ),
    confidence=st.none() | st.sampled_from([0.25, 0.75]),
)
records = st.builds(
    Activity,
    agent=st.sampled_from(["triage", "answer"]),
    version=st.just("1"),
    instance=st.sampled_from(["a", "b"]),
    deliveries=st.lists(attempts, max_size=3),
)


def distinct(told: Sequence[Activity]) -> list[Activity]:
    """Those of *told* that tell of attempts that nothing before told of; an attempt is told of in one way alone."""
    known: set[tuple[object, ...]] = set()
    found: list[Activity] = []
    for activity in told:
        deliveries: list[Handled] = []
        for one in activity.deliveries:
            attempt = (one.correlation_id, one.event_id, activity.agent, activity.instance, one.started_us, one.attempt)
            if attempt not in known:
                known.add(attempt)
                deliveries.append(one)
        found.append(activity.model_copy(update={"deliveries": deliveries}))
    return found


@settings(deadline=None)
@given(told=st.lists(records, max_size=6), chance=st.randoms(use_true_random=False))
def test_each_attempt_counts_once(told: list[Activity], chance: random.Random) -> None:
    """In sums by whatever, in lists, in confidences, and where one workflow is stitched: written once or three times,
    alone or with others, on this topic or on one that was made anew from it."""
    told = distinct(told)
    repeated = told + chance.choices(told, k=chance.randrange(6)) if told else []
    chance.shuffle(repeated)
    stored = [
        Record("antiphon.activity", chance.randrange(2), offset, b"?", codec().encode(activity), [], 0)
        for offset, activity in enumerate(repeated)
    ]
    read = Read(None, codec())
    read.take(stored)
    anew = [dataclasses.replace(record, offset=record.offset + 100) for record in stored[::2]]
    read.take(anew, identity="anew")
    read.settle(START_US)
    index = Index(read.database)

    entries = [(activity, one) for activity in told for one in activity.deliveries]
    calls = [(activity, one, spent) for activity, one in entries for spent in one.usage]
    by_agent = Counter((activity.agent, spent.currency) for activity, _, spent in calls)
    assert {(one.of, one.currency): one.calls for one in index.cost(By.AGENT)} == by_agent
    for by in By:
        amounts = {
            currency: sum(one.amount for one in index.cost(by) if one.currency == currency)
            for currency in ("EUR", "USD")
        }
        expected = {
            currency: math.fsum(spent.cost for *_, spent in calls if spent.currency == currency)
            for currency in ("EUR", "USD")
        }
        assert {currency: round(amount, 6) for currency, amount in amounts.items()} == {
            currency: round(amount, 6) for currency, amount in expected.items()
        }
    sure = Counter(activity.agent for activity, one in entries if one.confidence is not None)
    assert {one.agent: one.answers for one in index.confidence(threshold=0.5)} == sure
    listed = {one.correlation_id: one.cost for one in index.workflows(Search())}
    for id in WORKFLOWS:
        stitched, workflow = deliveries_of(id, repeated), index.workflow(id)
        assert len(stitched) == sum(one.correlation_id == id for _, one in entries)
        assert (workflow is None) == (not stitched)
        if workflow is not None:
            assert [*workflow.deliveries] == stitched
            assert listed[id] == workflow.document()["cost"]
