"""Deadlines of workflows: what becomes of one that has not ended when its time is over."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest
from ordering import AGENTS, OrderPlaced, Shop

from antiphon.agents.worker import Worker
from antiphon.bus.consumer import Consumer
from antiphon.bus.intervention import Act, SagaIntervened
from antiphon.bus.partition import partition_for
from antiphon.bus.undo import undo_requested
from antiphon.compensation.advance import overdue
from antiphon.compensation.coordinator import coordinator
from antiphon.compensation.workflow import Fact, Phase, Workflow
from antiphon.schemas.envelope import now_us
from antiphon.schemas.ids import root_id
from antiphon.testing.clock import FakeClock
from antiphon.testing.facts import NOBODY, Hears, did, said, told, undid
from antiphon.testing.waiting import eventually


class HalfAMinute(str):
    """What is said of a deadline of 30 s. A busy machine may take some of it until the root has its time."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and re.fullmatch(r"deadline of (30|2\d(\.\d)?) s passed", other) is not None

    __hash__ = str.__hash__


PASSED = HalfAMinute("deadline of 30 s passed")


class Hurried(Shop):
    """The shop with a clock of its own, by which the coordinator goes; orders have half a minute unless they say otherwise."""

    def __init__(self, *, agents: tuple[str, ...] = AGENTS, **moods: str) -> None:
        super().__init__(agents=agents, **moods)
        self.clock = FakeClock(now_us())
        self.deadline = datetime.now(UTC)

    def coordinator(self, *, past_stuck: bool = False) -> Consumer:
        return coordinator(clock_us=self.clock.now_us, past_stuck=past_stuck)

    def worker(self, *agents: object, **more: Any) -> Worker:
        return super().worker(*agents, clock=self.clock, **more)

    async def order(self, order: str = "A", *, within: timedelta = timedelta(seconds=30)) -> str:
        """Place an order, of one partition with all others."""
        id = next(id for id in iter(root_id, "") if partition_for(id.encode(), self.partitions) == 0)
        deadline = datetime.now(UTC) + within
        [published] = await self.publisher.publish([OrderPlaced(order=order)], id=id, deadline=deadline)
        self.deadline = deadline
        return published.correlation_id

    def pass_deadline(self, *, later_s: float = 2) -> None:
        """Let the time go on until after the deadline of the last order, by more than the agenda rounds."""
        self.clock.advance(self.deadline.timestamp() - self.clock.now_us() / 1_000_000 + later_s)

    async def until_failed(self, workflow: str) -> str:
        """Wait until a workflow has failed; return why."""

        async def why() -> str | None:
            failure = (await self.kept(workflow)).failure
            return None if failure is None else failure.reason

        return str(await eventually(why, what="the workflow to fail"))

    async def until_waiting(self, name: str) -> None:
        """Wait until an agent's handler is held up, and the coordinator knows what led to it."""
        await self.logged_all(f"{name} waits")
        await self.quiet()


async def test_s24_a_deadline_passes_in_a_step() -> None:
    """While a handler runs the workflow fails; what led to it is undone when that has come to its end."""
    shop = Hurried(agents=("stock", "card"), card="waits")
    async with shop.running(*shop.crew()):
        workflow = await shop.order()
        await shop.until_waiting("card")
        shop.pass_deadline()
        assert await shop.until_failed(workflow) == PASSED
        assert shop.log == ["stock", "card waits"]
        shop.gates["card"].set()
        await shop.until(workflow, Phase.COMPENSATED)
    assert shop.log == ["stock", "card waits", "card", "-card", "-stock"]


async def test_s26_a_success_after_the_deadline_is_late() -> None:
    """It is undone as what came too late; nothing of the workflow goes on from it."""
    shop = Hurried(agents=("stock", "card", "parcel"), card="waits")
    async with shop.running(*shop.crew()):
        workflow = await shop.order()
        await shop.until_waiting("card")
        shop.pass_deadline()
        await shop.until_failed(workflow)
        shop.gates["card"].set()
        kept = await shop.until(workflow, Phase.COMPENSATED)
        [(_, request)] = await shop.events(undo_requested("card"))
        await shop.quiet()
    assert (request.late, request.reason, kept.failure and kept.failure.reason) == (True, PASSED, PASSED)
    assert (await shop.kept(workflow)).phase is Phase.COMPENSATED


class Case(NamedTuple):
    """One of the eight of S25: in which step the deadline passes, whether that had finished, and how it ends."""

    step: str
    finished: bool
    refuses: bool
    phase: Phase
    because: str
    log: str


EIGHT = [
    Case("stock", False, False, Phase.COMPENSATED, PASSED, "stock -stock"),
    Case("stock", False, True, Phase.COMPENSATED, PASSED, ""),
    Case("stock", True, False, Phase.COMPENSATED, PASSED, "stock -stock"),
    Case("stock", True, True, Phase.COMPENSATED, "refused, said by stock", ""),
    Case("card", False, False, Phase.COMPENSATED, PASSED, "stock card -card -stock"),
    Case("card", False, True, Phase.COMPENSATED, PASSED, "stock -stock"),
    Case("card", True, False, Phase.COMPLETED, "", "stock card"),
    Case("card", True, True, Phase.COMPENSATED, "refused, said by card", "stock -stock"),
]
"""docs/reference/sagas.md has them as a table."""


@pytest.mark.parametrize("case", EIGHT, ids=lambda case: f"{case.step}-{case.finished}-{case.refuses}")
async def test_s25_a_deadline_around_a_step(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first failure to be known is the reason, and what had ended before its deadline stays as it was."""
    shop = Hurried(agents=("stock", "card"))
    # The agents' machines have this time too.
    monkeypatch.setattr("antiphon.bus.runner.now_us", shop.clock.now_us)
    for module in ("runner", "job"):
        monkeypatch.setattr(f"antiphon.bus.{module}.monotonic_ns", lambda: shop.clock.now_us() * 1_000)
    if not case.finished:
        shop.hold(case.step, then="refuses" if case.refuses else "")
    elif case.refuses:
        shop.moods[case.step] = "refuses"
    crew = shop.crew()
    if (case.step, case.finished, case.refuses) == ("stock", True, False):
        # What comes after the first step is not there when the deadline passes, nor for long after that.
        async with shop.running(crew[1]):
            crew.pop(1)
    async with shop.running(*crew):
        workflow = await shop.order()
        if not case.finished:
            await shop.until_waiting(case.step)
            shop.pass_deadline()
            if case.step == "card":
                await shop.until_failed(workflow)
            shop.gates[case.step].set()
        else:
            await shop.until_known(workflow)
            await shop.quiet()
            if len(crew) == 3:
                await shop.until(workflow, case.phase)
            shop.pass_deadline(later_s=2 if len(crew) == 3 else 700)
        kept = await shop.until(workflow, case.phase)
        await shop.quiet()
    assert (kept.failure.reason if kept.failure else "") == case.because
    assert [line for line in shop.log if "waits" not in line] == case.log.split()


async def test_s28_a_deadline_that_is_put_off() -> None:
    """It counts then; a workflow of the same deadline that was given no more time fails."""
    shop = Hurried(agents=("stock", "card"), card="waits")
    async with shop.running(*shop.crew()):
        patient, other = await shop.order("A"), await shop.order("B")
        await shop.until_waiting("card")
        await shop.says(extend(shop.deadline + timedelta(hours=1)), patient)

        async def put_off() -> bool:
            deadline_us = (await shop.kept(patient)).deadline_us
            return deadline_us is not None and deadline_us > shop.deadline.timestamp() * 1_000_000 + 1

        await eventually(put_off, what="the deadline to be put off")
        shop.pass_deadline()
        await shop.until_failed(other)
        shop.gates["card"].set()
        await shop.until(patient, Phase.COMPLETED)
        await shop.until(other, Phase.COMPENSATED)
        [kept] = await shop.eventually(SagaIntervened, count=1)
    assert (kept.act, kept.actor, kept.reason) == (Act.EXTEND, "ann", "she knows")


def extend(until: datetime) -> SagaIntervened:
    return said(Act.EXTEND).model_copy(update={"until_us": round(until.timestamp() * 1_000_000)})


@pytest.mark.parametrize(("until_s", "deadline_s"), [(45, 45), (30, 30), (15, 30)])
def test_s28_only_longer(until_s: int, deadline_s: int) -> None:
    """A word that would shorten it changes nothing; nor does an event that joins with an earlier one."""
    kept, _ = told([within(30, did("w", "a+")), within(20, did("outside"))], Hears(a=["agent"]))
    word = said(Act.EXTEND).model_copy(update={"until_us": until_s * 1_000_000})
    kept, _ = told([word], Hears(a=["agent"]), workflow=kept)
    assert kept.deadline_us == deadline_s * 1_000_000


def test_s28_only_while_it_runs() -> None:
    """Neither what has failed nor what has no deadline gets one."""
    word = said(Act.EXTEND).model_copy(update={"until_us": 90_000_000})
    failed, _ = told([within(30, did("w", "a+", "failed!"))])
    free, _ = told([did("w", "a+")], Hears(a=["agent"]))
    assert [told([word], Hears(a=["agent"]), workflow=kept)[0] for kept in (failed, free, Workflow())] == [
        failed,
        free,
        Workflow(),
    ]


async def test_s29_a_deadline_passes_while_the_coordinator_is_down() -> None:
    """It fails when the coordinator is back, and is undone."""
    shop = Hurried(agents=("stock", "card"), card="waits")
    *agents, conductor = shop.crew()
    async with shop.running(*agents):
        async with shop.running(conductor, instance="first"):
            workflow = await shop.order()
            await shop.until_waiting("card")
        shop.pass_deadline()
        async with shop.running(shop.coordinator(), instance="second"):
            assert await shop.until_failed(workflow) == PASSED
            shop.gates["card"].set()
            await shop.until(workflow, Phase.COMPENSATED)
    assert shop.log == ["stock", "card waits", "card", "-card", "-stock"]


async def test_s29_what_ended_in_time_while_the_coordinator_was_down() -> None:
    """It reads all that was handled before it takes a deadline for passed."""
    shop = Hurried(agents=("stock", "card"), card="waits")
    *agents, conductor = shop.crew()
    async with shop.running(*agents):
        async with shop.running(conductor, instance="first"):
            workflow = await shop.order()
            await shop.until_waiting("card")
        shop.gates["card"].set()
        await shop.logged("stock", "card waits", "card")

        async def charged() -> bool:
            return "stock.reserved" in await shop.handled_of(workflow)

        await eventually(charged, what="that to be told")
        shop.pass_deadline()
        async with shop.running(shop.coordinator(), instance="second"):
            await shop.until(workflow, Phase.COMPLETED)
    assert await shop.asked() == []


async def test_s30_a_short_and_a_long_one() -> None:
    """When the coordinator is back, the short one is undone and the long one goes on."""
    shop = Hurried(agents=("stock", "card"), card="waits")
    *agents, conductor = shop.crew()
    async with shop.running(*agents):
        async with shop.running(conductor, instance="first"):
            long = await shop.order("long", within=timedelta(hours=2))
            short = await shop.order("short")
            await eventually(lambda: shop.log.count("card waits") == 2, what="both to be under way")
            await shop.quiet()
        shop.pass_deadline()
        async with shop.running(shop.coordinator(), instance="second"):
            assert await shop.until_failed(short) == PASSED
            assert (await shop.kept(long)).phase is Phase.RUNNING
            shop.gates["card"].set()
            await shop.until(short, Phase.COMPENSATED)
            await shop.until(long, Phase.COMPLETED)
    assert sorted(line for line in shop.log if line.startswith("-")) == ["-card short", "-stock short"]


# Fact by fact.


def within(deadline_s: float, fact: Fact, *, started_s: float = 1, took_s: float = 1) -> Fact:
    """Return *fact* as of an event that was published at 0, with a deadline."""
    times = {"started_us": started_s, "queue_us": started_s, "duration_us": took_s, "deadline_us": deadline_s}
    return fact._replace(delivery=fact.delivery.model_copy(update={k: round(v * 1e6) for k, v in times.items()}))


def test_what_ends_after_the_deadline_is_late_whoever_tells_it_first() -> None:
    """By the agent's clock: the coordinator need not have looked."""
    mesh = Hears(a=["agent"])
    kept, asked = told(
        [within(30, did("w", "a+")), within(30, did("a+", "b+"), started_s=29, took_s=2), undid("b+"), undid("a+")],
        mesh,
    )
    assert (kept.phase, asked, kept.failure and kept.failure.reason) == (
        Phase.COMPENSATED,
        [[], ["b+"], ["a+"], []],
        PASSED,
    )
    assert {id: effect.late for id, effect in kept.effects.items()} == {"a+": False, "b+": True}


def test_an_event_that_came_too_late_to_its_agent() -> None:
    """Past its deadline it is not started; the reason is the workflow's."""
    kept, asked = told(
        [within(30, did("w", "a+")), within(30, did("a+", outcome="expired"), started_s=30, took_s=0)],
        Hears(a=["agent"]),
    )
    assert (asked, kept.failure and kept.failure.reason) == ([[], ["a+"]], PASSED)


@pytest.mark.parametrize("ended", [False, True])
def test_only_what_has_not_ended_is_overdue(ended: bool) -> None:
    """What was complete before stays so."""
    kept, _ = told([within(30, did("w", "a+"))], NOBODY if ended else Hears(a=["agent"]))
    after, _ = overdue(kept, "w", Hears(a=["agent"]))
    assert (after.phase, after == kept) == ((Phase.COMPLETED, True) if ended else (Phase.COMPENSATING, False))


def test_a_deadline_of_a_workflow_whose_root_nobody_told_of() -> None:
    """Then how long it had is not known, and the moment stands there."""
    kept, _ = told([within(30, did("a", "b+"))], Hears(b=["agent"]))
    after, _ = overdue(kept, "w", Hears(b=["agent"]))
    assert after.failure is not None
    assert after.failure.reason == "deadline of 1970-01-01T00:00:30.000000Z passed"
