"""What a handler may know and ask, tried through the context that users' tests get."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import structlog

from antiphon import Agent, Context, Event
from antiphon.agents.errors import NotJsonError
from antiphon.bus.delivery import Usage
from antiphon.bus.errors import PermanentError
from antiphon.schemas.envelope import now_us
from antiphon.testing.context import context
from antiphon.testing.delivery import MemoryServices, MemoryState, delivery_of, hand


class Counted(Event):
    n: int


def test_ids_and_attempt() -> None:
    """Where the event belongs, and how often it was tried."""
    made = context(id="e", correlation_id="w", parent_id="p", attempt=3, replaying=True)
    assert (made.id, made.correlation_id, made.parent_id, made.attempt, made.replaying) == ("e", "w", "p", 3, True)
    root = context(id="e")
    assert (root.correlation_id, root.parent_id, root.attempt, root.replaying) == ("e", None, 1, False)


def test_deadline() -> None:
    """The time left never goes below nothing; without a deadline there is none."""
    soon = datetime.now(UTC) + timedelta(seconds=60)
    remaining = context(deadline=soon).remaining()

    assert context(deadline=soon).deadline == soon
    assert remaining is not None
    assert 50 < remaining <= 60
    assert context(deadline=datetime(2020, 1, 1, tzinfo=UTC)).remaining() == 0.0
    assert (context().deadline, context().remaining()) == (None, None)


async def test_state_lasts_from_event_to_event() -> None:
    """State belongs to the agent and the event's key."""
    state = MemoryState()
    counter = Agent("counter")

    @counter.on(Counted)
    async def count(counted: Counted, context: Context) -> None:
        context.state["total"] = context.state.get("total", 0) + counted.n
        context.state.setdefault("seen", []).append(counted.n)

    first = delivery_of(Counted(n=3), state=state)
    second = delivery_of(first.event, state=state)
    other = delivery_of(Counted(n=5), state=state)
    for delivery in (first, second, other):
        await hand(counter.consumer(), delivery)

    assert state.values == {
        first.envelope.correlation_id: {"total": 6, "seen": [3, 3]},
        other.envelope.correlation_id: {"total": 5, "seen": [5]},
    }


def test_the_meshs_part_of_the_state_is_hidden() -> None:
    """What joins and side effects keep there can be neither seen nor changed by accident."""
    made = context(state={"antiphon.joins": {}, "mine": 1})

    assert dict(made.state) == {"mine": 1}
    assert (len(made.state), repr(made.state), "antiphon.joins" in made.state) == (1, "{'mine': 1}", False)
    with pytest.raises(ValueError, match=r"begin with 'antiphon\.', which is the mesh's own, got 'antiphon\.x'"):
        made.state["antiphon.x"] = 1
    with pytest.raises(KeyError):
        del made.state["antiphon.joins"]
    made.state.clear()
    assert dict(made.state) == {}


async def test_once_runs_a_side_effect_once_for_an_event() -> None:
    """A second attempt gets what the first one's call returned; another event, or another name, calls again."""
    services = MemoryServices()
    calls: list[str] = []
    shop = Agent("shop")

    @shop.on(Counted)
    async def buy(counted: Counted, context: Context) -> None:
        async def charge() -> dict[str, int]:
            calls.append("charge")
            return {"receipt": counted.n}

        assert await context.once("charge", charge) == {"receipt": counted.n}
        await context.once("note", lambda: calls.append("note"))
        if context.attempt == 1:
            raise ConnectionError

    delivery = delivery_of(Counted(n=7), services=services)
    with pytest.raises(ConnectionError):
        await hand(shop.consumer(), delivery)
    await hand(shop.consumer(), dataclasses.replace(delivery, attempt=2))
    assert calls == ["charge", "note"]

    with pytest.raises(ConnectionError):
        await hand(shop.consumer(), delivery_of(Counted(n=8), services=services))
    assert calls == ["charge", "note"] * 2


async def test_what_once_remembers_is_nobodys_to_change() -> None:
    """A handler that changes the result does not change what the next attempt gets."""
    made = context()
    first = await made.once("list", lambda: [1])
    first.append(2)
    second = await made.once("list", lambda: [0])
    second.append(3)
    assert made.effects == {"list": [1]}


async def test_once_of_a_plain_handler() -> None:
    """A thread cannot await; there the same has a name of its own."""
    services = MemoryServices()
    shop = Agent("shop")
    calls: list[int] = []

    def charge() -> int:
        calls.append(1)
        return 7

    @shop.on(Counted)
    def buy(counted: Counted, context: Context) -> None:
        assert [context.once_sync("charge", charge) for _ in range(2)] == [7, 7]

    await hand(shop.consumer(), delivery_of(Counted(n=1), services=services))
    assert calls == [1]
    with pytest.raises(RuntimeError, match=r"expected once_sync in a plain def handler, .* await context.once"):
        context().once_sync("charge", charge)


@pytest.mark.parametrize(
    ("result", "got"),
    [
        (datetime(2026, 1, 1, tzinfo=UTC), "datetime datetime.date....timezone.utc) at result"),
        ({"a": [1, (2, 3)]}, "tuple (2, 3) at result['a'][1]"),
        ({1: 2}, "int 1 at a key of result"),
        (float("nan"), "float nan at result"),
        (Counted(n=1), "Counted Counted(n=1) at result"),
    ],
)
async def test_once_refuses_what_it_cannot_remember(result: Any, got: str) -> None:
    """It would come back as something else; and trying again would repeat the side effect, so it is permanent."""
    made = context()
    with pytest.raises(NotJsonError) as caught:
        await made.once("call", lambda: result)
    assert isinstance(caught.value, PermanentError)
    assert str(caught.value) == (
        "once('call'): expected a result of JSON's types (str, int, float, bool, None, list, dict with str keys), "
        f"got {got}. Return what you need of it, for example model.model_dump(mode='json')."
    )
    assert made.effects == {}


def test_spend_and_confidence() -> None:
    """Both go into the activity record; numbers that make no sense are refused."""
    made = context()
    made.spend(model="small", input_tokens=10, output_tokens=2, cost=0.01)
    made.spend(model="large", currency="EUR")
    made.confidence(0.5)
    made.confidence(1)

    assert made.usage == [Usage("small", 10, 2, 0.01, "USD"), Usage("large", 0, 0, 0.0, "EUR")]
    assert made.reported_confidence == 1.0
    for wrong in (1.01, -0.1, float("nan")):
        with pytest.raises(ValueError, match="expected a confidence from 0 to 1, got"):
            made.confidence(wrong)
    with pytest.raises(ValueError, match="expected tokens and cost of at least 0, got input_tokens=-1"):
        made.spend(model="small", input_tokens=-1)
    with pytest.raises(ValueError, match="cost=nan"):
        made.spend(model="small", cost=float("nan"))


def test_how_long_a_call_took() -> None:
    """Told when it is over; so its start is known too, by the clock of all else that is told."""
    made, before_us = context(), now_us()
    made.spend(model="small", duration=0.25)
    made.spend(model="small", duration=0)
    call, short = made.usage

    assert call.duration_us == 250_000
    assert call.started_us is not None
    assert before_us <= call.started_us + 250_000 <= now_us()
    assert short.duration_us == 0
    for wrong in (-0.1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="expected a duration of at least 0 seconds, got"):
            made.spend(model="small", duration=wrong)


def test_log_carries_the_ids() -> None:
    """Every line says which event of which workflow it is about."""
    made = context(id="e", correlation_id="w", agent="stock")
    with structlog.testing.capture_logs() as lines:
        made.log.info("looked", shelf=3)
        made.log.warning("empty")

    fields = {"agent": "stock", "event_id": "e", "correlation_id": "w", "attempt": 1}
    place = {"topic": "antiphon.test.heard", "partition": 0, "offset": 0}
    assert lines == [
        {"event": "looked", "shelf": 3, "log_level": "info", **fields, **place},
        {"event": "empty", "log_level": "warning", **fields, **place},
    ]


async def test_remaining_can_be_handed_on() -> None:
    """As the docstring says: it fits asyncio's time-out, also where there is no deadline."""
    async with asyncio.timeout(context().remaining()):
        await asyncio.sleep(0)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(context(deadline=datetime(2020, 1, 1, tzinfo=UTC)).remaining()):
            await asyncio.Event().wait()
