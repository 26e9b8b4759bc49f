"""`antiphon saga`, on the embedded broker, with agents and coordinator as a process of their own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from antiphon import Event, Mesh
from tests.cli.conftest import Antiphon, Ran, Served
from tests.cli.process import Process

pytestmark = pytest.mark.embedded

TRIPS = """\
from antiphon import Agent, Event, PermanentError


class TripBooked(Event):
    trip: str


class SeatHeld(Event):
    trip: str


class TripRefused(Event, fails=True):
    trip: str


train, purse = Agent("train"), Agent("purse")


@train.on(TripBooked, holds="trip")
async def hold(booked: TripBooked) -> SeatHeld:
    return SeatHeld(trip=booked.trip)


@train.undoes(SeatHeld)
async def free(held: SeatHeld) -> None:
    raise PermanentError("the railway is closed")


@purse.on(SeatHeld)
async def pay(held: SeatHeld) -> TripRefused | None:
    return TripRefused(trip=held.trip) if held.trip == "dear" else None
"""


@pytest.fixture
def mesh(served: Served) -> Iterator[Antiphon]:
    """Run the agents and the coordinator; return what runs a command beside them."""
    with served("trips", TRIPS, "--with-coordinator") as antiphon:
        yield antiphon


def book(mesh: Antiphon, trip: str) -> str:
    ran = mesh("publish", "trip.booked", "--data", orjson.dumps({"trip": trip}).decode(), "--json")
    return str(orjson.loads(ran.out)["correlation_id"])


def listed(ran: Ran) -> dict[str, dict[str, Any]]:
    assert ran.code == 0, ran.err
    return {one["correlation_id"]: one for one in orjson.loads(ran.out)}


def until(condition: Callable[[], bool]) -> None:
    """Ask again and again: each time it costs a command."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline


def test_a_parked_workflow_is_seen_and_settled(mesh: Antiphon) -> None:
    """It is listed with what is stuck and why, tried again in vain, and gone past with a reason that is kept."""
    id = book(mesh, "dear")
    until(lambda: listed(mesh("saga", "list", "--json")).get(id, {}).get("state") == "parked")

    one = listed(mesh("saga", "list", "--json"))[id]
    [step] = one["steps"]
    assert (one["saga"], one["reason"]) == (None, "trip.refused, said by purse")
    assert (step["type"], step["agent"], step["status"]) == ("seat.held", "train", "stuck")
    assert step["problem"] == "PermanentError: the railway is closed"
    assert "parked  ·  0 of 1 undone" in mesh("saga", "show", id[:20]).out
    assert orjson.loads(mesh("trace", id, "--json").out)["state"] == "parked"

    assert mesh("saga", "retry", id).code == 0
    until(lambda: listed(mesh("saga", "list", "--json"))[id]["steps"][0]["attempts"] == 2)

    code, out, err = mesh("saga", "skip", id, "--reason", "telephoned", "--json")
    assert (code, orjson.loads(out)["state"]) == (0, "compensated"), err
    assert orjson.loads(out)["steps"][0]["problem"].endswith(": telephoned")
    assert "compensated  ·  0 of 1 undone, 1 skipped" in mesh("saga", "show", id).out
    document = orjson.loads(mesh("trace", id, "--json").out)
    assert document["state"] == "compensated"
    said = [event["data"] for event in document["events"] if event["type"] == "antiphon.saga.intervened"]
    assert [(one["act"], one["reason"]) for one in said] == [("retry", "tried again"), ("skip", "telephoned")]


def test_what_does_not_fit_is_refused(mesh: Antiphon) -> None:
    """Before anything is said, with the state as it is; a reason is asked for."""
    id = book(mesh, "cheap")
    until(lambda: listed(mesh("saga", "list", "--all", "--json")).get(id, {}).get("state") == "completed")

    assert listed(mesh("saga", "list", "--json")) == {}
    code, _, err = mesh("saga", "cancel", id, "--reason", "changed my mind")
    assert (code, err.splitlines()[0]) == (
        1,
        "error: expected one that is running to cancel, got one that is completed",
    )
    code, _, err = mesh("saga", "skip", id, "--reason", " ")
    assert (code, err.splitlines()[0]) == (2, "error: expected a reason, got none")
    assert mesh("saga", "skip", id).code == 2
    code, _, err = mesh("saga", "show", "nothing")
    assert (code, err.startswith("error: the coordinator keeps no workflow 'nothing'")) == (1, True)


def test_a_deadline_is_put_off(mesh: Antiphon, folder: Path) -> None:
    """By so much, or until then; never to an earlier time, and only where there is one."""
    (folder / "slow.py").write_text(SLOW)
    slow = Process("run", "slow", cwd=folder)
    try:
        slow.wait_for('"ready"')
        # The coordinator hears of agents as everybody does: before that nobody is waited for.
        until(lambda: "guide" in mesh("agents").out)
        id = asyncio.run(book_by("2040-01-01T00:00:00+00:00"))
        until(lambda: listed(mesh("saga", "list", "--all", "--json")).get(id, {}).get("state") == "running")
        assert "by: 2040-01-01T00:00:00.000000Z" in mesh("saga", "show", id).out
        code, out, err = mesh("saga", "extend", id, "--by", "1h", "--reason", "slow today", "--json")
        assert (code, orjson.loads(out or "{}").get("deadline")) == (0, "2040-01-01T01:00:00.000000Z"), err
        code, _, err = mesh("saga", "extend", id, "--until", "2040-01-01T00:30:00Z", "--reason", "hurry")
        assert (code, err.splitlines()[0]) == (
            1,
            "error: expected a time after the deadline there is, 2040-01-01T01:00:00.000000Z, got 2040-01-01T00:30:00.000000Z",
        )
        assert mesh("saga", "extend", id, "--reason", "why not").code == 2
    finally:
        slow.clean_up()


def test_who_waits_for_what_is_held_is_seen(mesh: Antiphon) -> None:
    """A parked workflow keeps what it holds; who waits for it is listed with who has it, and goes on when that is settled."""
    holder = book(mesh, "dear")
    until(lambda: listed(mesh("saga", "list", "--json")).get(holder, {}).get("state") == "parked")
    waiting = book(mesh, "dear")
    until(lambda: waiting in listed(mesh("saga", "list", "--json")))

    [lock] = listed(mesh("saga", "list", "--json"))[waiting]["locks"]
    assert (lock["entity"], lock["state"], lock["holder"]) == ("trip/dear", "waiting", holder)
    assert f"{waiting}  running  0 to undo      waits for trip/dear, held by {holder}" in mesh("saga", "list").out
    assert "\nholds trip/dear\n" in mesh("saga", "show", holder).out
    trace = mesh("trace", waiting).out
    assert "antiphon.lock.wanted" in trace

    assert mesh("saga", "skip", holder, "--reason", "telephoned").code == 0
    until(lambda: listed(mesh("saga", "list", "--json")).get(waiting, {}).get("state") == "parked")


def test_a_parked_saga_is_shown_and_goes_on(mesh: Antiphon, folder: Path) -> None:
    """Past its pivot, by step; a retry asks for the step again."""
    (folder / "voyages.py").write_text(VOYAGES)
    voyages = Process("run", "voyages", cwd=folder)
    try:
        voyages.wait_for('"ready"')
        id = str(
            orjson.loads(mesh("publish", "voyage.planned", "--data", '{"to": "Rome"}', "--json").out)["correlation_id"]
        )
        until(lambda: listed(mesh("saga", "list", "--json")).get(id, {}).get("state") == "parked")
        shown = mesh("saga", "show", id).out.splitlines()
        assert shown[0].startswith(f"{id}  parked")
        assert [line.split()[:2] for line in shown if line.startswith("  ")] == [
            ["card", "done"],
            ["tickets", "parked"],
        ]
        assert any(line.startswith("saga voyage 0  parked  because: step 'tickets'") for line in shown)
        (folder / "open").touch()
        code, _, err = mesh("saga", "retry", id, "--reason", "they are back")
        assert code == 0, err
        until(lambda: listed(mesh("saga", "list", "--all", "--json"))[id]["runs"][0]["state"] == "completed")
    finally:
        voyages.clean_up()


async def book_by(deadline: str) -> str:
    async with Mesh() as mesh:
        published = await mesh.publish(TripBooked(trip="far"), deadline=datetime.fromisoformat(deadline))
    return published.correlation_id


class TripBooked(Event):
    trip: str


SLOW = """\
import asyncio

from antiphon import agent
from trips import SeatHeld


@agent
async def guide(held: SeatHeld) -> None:
    await asyncio.Event().wait()
"""


VOYAGES = """\
from pathlib import Path

from antiphon import Agent, Event, PermanentError, RetryPolicy, Saga, Step


class VoyagePlanned(Event):
    to: str


class ChargeCard(Event):
    to: str


class CardCharged(Event):
    to: str


class SendTickets(Event):
    to: str


class TicketsSent(Event):
    to: str


def charge(planned: VoyagePlanned) -> ChargeCard:
    return ChargeCard(to=planned.to)


def send(charged: CardCharged) -> SendTickets:
    return SendTickets(to=charged.to)


voyage = Saga(
    "voyage",
    starts=VoyagePlanned,
    steps=[
        Step("card", action=charge, done=CardCharged, kind="pivot"),
        Step("tickets", action=send, done=TicketsSent, kind="retriable", retry=RetryPolicy(attempts=1)),
    ],
)

clerk = Agent("clerk")


@clerk.on(ChargeCard)
async def pay(asked: ChargeCard) -> CardCharged:
    return CardCharged(to=asked.to)


@clerk.on(SendTickets)
async def post(asked: SendTickets) -> TicketsSent:
    if not Path("open").exists():
        raise PermanentError("the office is closed")
    return TicketsSent(to=asked.to)
"""


CLIMB = """\
from antiphon import Agent, Event


class CampPitched(Event):
    height: int
    ballast: str


climber = Agent("climber")


@climber.on(CampPitched)
async def climb(pitched: CampPitched) -> CampPitched | None:
    return CampPitched(height=pitched.height + 1, ballast=pitched.ballast) if pitched.height < 9 else None


@climber.undoes(CampPitched)
async def descend(pitched: CampPitched) -> None:
    pass
"""


def test_one_that_halted_says_why_and_ends_by_force(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no undo to skip; what is known of it is not undone, as nothing failed."""
    monkeypatch.setenv("ANTIPHON_CLAIM_THRESHOLD", "10000")
    with served("climb", CLIMB, "--with-coordinator") as antiphon:
        data = orjson.dumps({"height": 0, "ballast": "x" * 2_000}).decode()
        id = str(orjson.loads(antiphon("publish", "camp.pitched", "--data", data, "--json").out)["correlation_id"])
        until(lambda: listed(antiphon("saga", "list", "--json")).get(id, {}).get("state") == "parked")
        assert "because: expected at most 10000 bytes to note of it, got " in antiphon("saga", "show", id).out
        assert antiphon("trace", id, "--json").out.count('"parked"') == 1
        code, _, err = antiphon("saga", "skip", id, "--reason", "whatever")
        assert (code, err.partition(":")[0]) == (1, "error")
        assert "expected an undo that was given up to skip, got a workflow that halted" in err
        assert antiphon("saga", "force", id, "--reason", "nothing to undo").code == 0
        until(lambda: listed(antiphon("saga", "list", "--all", "--json")).get(id, {}).get("state") == "completed")
