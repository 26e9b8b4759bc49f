"""An undo that comes before its action: the action is passed over when it comes, and activity says so."""

from __future__ import annotations

import dataclasses
import time

from antiphon import Agent, Context, Event
from antiphon.bus.consumer import STATE_EXPIRES_S
from antiphon.bus.record import Outgoing
from antiphon.bus.tombstones import UNDONE, is_marked, mark
from antiphon.schemas.envelope import Envelope, from_headers, to_headers
from antiphon.testing.mesh import MemoryMesh


class SeatWanted(Event):
    seat: str


class SeatUnwanted(Event):
    seat: str


class SeatTaken(Event):
    seat: str


class SeatFreed(Event):
    seat: str


def train() -> Agent:
    agent = Agent("train")

    @agent.on(SeatWanted)
    async def take(wanted: SeatWanted, context: Context) -> SeatTaken:
        context.state["seat"] = wanted.seat
        return SeatTaken(seat=wanted.seat)

    @agent.on(SeatUnwanted)
    async def free(unwanted: SeatUnwanted, context: Context) -> SeatFreed:
        context.state.clear()
        return SeatFreed(seat=unwanted.seat)

    return agent


async def say(mesh: MemoryMesh, event: Event, id: str, *, undoes: str | None = None) -> None:
    """Publish an event of workflow w, as a saga would."""
    envelope = dataclasses.replace(
        Envelope.root(event.__event__.type, source="/agents/saga", id=id, correlation_id="w"), undoes=undoes
    )
    await mesh.codec.announce([type(event)])
    await mesh.bus.publish([Outgoing(event.__event__.topic, b"w", mesh.codec.encode(event), to_headers(envelope))])


async def outcomes(mesh: MemoryMesh) -> dict[str, tuple[str, str | None]]:
    return {one.event_id: (one.outcome, one.error.message if one.error else None) for one in await mesh.handled()}


async def test_an_action_that_comes_after_its_undo_is_passed_over() -> None:
    """Also after a restart, and each time it comes; another one of the same workflow is not."""
    mesh = MemoryMesh()
    async with mesh.running(train()):
        await say(mesh, SeatUnwanted(seat="12A"), "undo", undoes="late")
        await mesh.eventually(SeatFreed, count=1)
    async with mesh.running(train()):
        await say(mesh, SeatWanted(seat="12A"), "late")
        await say(mesh, SeatWanted(seat="12A"), "late")
        await say(mesh, SeatWanted(seat="12B"), "other")
        taken = await mesh.eventually(SeatTaken, count=1)
    assert (taken, await outcomes(mesh)) == (
        [SeatTaken(seat="12B")],
        {
            "undo": ("completed", None),
            "late": ("skipped", "train had undone what seat.wanted asks for before it came, so it was not done"),
            "other": ("completed", None),
        },
    )


async def test_an_undo_whose_action_cannot_come_any_more_leaves_nothing() -> None:
    """It does not say what it undoes, and no state is kept for it."""
    mesh = MemoryMesh()
    async with mesh.running(train()):
        await say(mesh, SeatUnwanted(seat="12A"), "undo")
        await mesh.eventually(SeatFreed, count=1)
    assert await mesh.records("train.state") == []


async def test_a_mark_goes_with_the_state_it_stands_in() -> None:
    """It is written as a workflow's state is, which expires; what the agent keeps itself stands beside it."""
    mesh = MemoryMesh()
    async with mesh.running(train()):
        await say(mesh, SeatUnwanted(seat="12A"), "undo", undoes="late")
        await mesh.eventually(SeatFreed, count=1)
    [record] = await mesh.records("train.state")
    assert (record.key, ("antiphon_keyed_by", b"workflow") in record.headers) == (b"w", True)
    assert is_marked(record.value, "late")


def test_under_a_key_that_is_kept_for_ever_old_marks_go() -> None:
    """As old as a workflow's state may be."""
    kept: dict[str, object] = {}
    now_us = time.time_ns() // 1_000
    mark(kept, "old", now_us)
    mark(kept, "new", later_us := now_us + round(STATE_EXPIRES_S * 1_000_000))
    assert kept == {UNDONE: {"new": later_us}}


def test_what_is_undone_stands_in_the_headers() -> None:
    """As `ce_undoes`, where there is something to say."""
    envelope = dataclasses.replace(Envelope.root("seat.unwanted", source="/agents/saga", id="1"), undoes="2")
    headers = to_headers(envelope)
    assert ("ce_undoes", b"2") in headers
    assert from_headers(headers, key=b"1", timestamp_ms=0) == envelope
