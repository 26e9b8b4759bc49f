"""`antiphon agents retire`: out of the mesh for good, once nothing is owed."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from antiphon.bus.heartbeat import AgentSeen, Heard
from antiphon.bus.names import Names
from antiphon.cli.retiring import Standing, deserted, own_topics, undoing
from antiphon.compensation.workflow import Effect, Failure, Status, Workflow
from tests.cli.conftest import Antiphon
from tests.cli.process import Process

CLAIMS = """\
from antiphon import Agent, Event, PermanentError


class ClaimFiled(Event):
    amount: int


class ClaimPaid(Event):
    amount: int


payer = Agent("payer")


@payer.on(ClaimFiled)
async def pay(filed: ClaimFiled) -> ClaimPaid:
    if filed.amount > 100:
        raise PermanentError("too much")
    return ClaimPaid(amount=filed.amount)
"""


def seen(agent: str, *hears: str) -> AgentSeen:
    return AgentSeen(
        agent=agent,
        version="1",
        instance="a",
        started_us=0,
        time_us=0,
        interval_s=1,
        capacity=1,
        hears=[Heard(type=type, topic=type) for type in hears],
    )


def test_what_is_owed_is_told_with_what_to_do() -> None:
    """All of it, in the order of doing; an agent that owes nothing may go."""
    owing = Standing(
        agent="payer",
        workers=["w1"],
        unhandled=3,
        letters=1,
        undos=["f1"],
        runs=["f2"],
        waiting=2,
        group="payer",
        topics=["payer.state"],
    )
    assert [(blocker.kind.value, blocker.detail) for blocker in owing.blockers()] == [
        ("running", "1 worker up: w1"),
        ("lag", "3 events not handled"),
        ("dead_letters", "1 dead letter that nobody has decided about"),
        ("undos", "something of it may have to be undone in 1 workflow: f1"),
        ("sagas", "1 run of the saga have not ended: f2"),
        ("locks", "2 events of it wait until their workflow holds something"),
    ]
    assert all(blocker.remedy for blocker in owing.blockers())
    assert Standing(agent="payer", group="payer", topics=[]).blockers() == []


def test_its_part_in_workflows_that_may_be_undone_keeps_it() -> None:
    """What is undone, or never will be, does not; of what ended well there is a word."""
    effects = {"e": Effect("payer", "claim.paid", "")}
    workflows = {
        "running": Workflow(effects=effects),
        "parked": Workflow(
            effects={"e": Effect("payer", "claim.paid", "", status=Status.STUCK)}, failure=Failure("e", "")
        ),
        "others": Workflow(effects={"e": Effect("stock", "claim.paid", "")}),
        "undone": Workflow(effects={"e": Effect("payer", "claim.paid", "", status=Status.UNDONE)}),
        "completed": Workflow(effects=effects, ended=True),
    }
    assert undoing("payer", workflows) == (["parked", "running"], 1)


def test_what_is_its_own_goes_and_what_others_use_stays() -> None:
    """Its topics by their names; events that nobody else hears are told."""
    existing = ["x.payer.state", "x.payer.dead", "x.claim.filed", "payer.redrive"]
    assert own_topics("payer", Names("x"), existing) == ["x.payer.state", "x.payer.dead"]
    assert deserted("payer", [seen("payer", "a", "b", "antiphon.lock.answered"), seen("audit", "b")]) == ["a"]


def until(holds: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, f"waited for {what}"
        time.sleep(0.1)


def asked(antiphon: Antiphon, *options: str) -> dict[str, Any]:
    ran = antiphon("agents", "retire", "payer", "--json", *options)
    found: dict[str, Any] = orjson.loads(ran.out)
    assert ran.code == (0 if found["ready"] else 1), ran.err
    return found


def owes(antiphon: Antiphon, *options: str) -> list[str]:
    return [blocker["kind"] for blocker in asked(antiphon, *options)["blockers"]]


@contextmanager
def running(folder: Path) -> Generator[None]:
    """Run the agent, and have it leave in order: the embedded broker would wait for one that was killed."""
    (folder / "claims.py").write_text(CLAIMS)
    worker = Process("run", "claims", cwd=folder)
    try:
        worker.wait_for('"ready"')
        yield
        worker.end()
    finally:
        worker.clean_up()


@pytest.mark.embedded
def test_an_agent_is_retired_once_it_owes_nothing(antiphon: Antiphon, folder: Path, corner: None) -> None:
    """While it runs, has events to handle or dead letters to decide about, nothing is removed; then all that was its own is."""
    file = ("publish", "claim.filed", "--data")
    with running(folder):
        assert antiphon(*file, '{"amount": 500}').code == 0
        until(lambda: orjson.loads(antiphon("dead", "list", "--json").out), "the letter")
        busy = owes(antiphon, "--yes")
    stranger = antiphon("agents", "retire", "payr")
    assert antiphon(*file, '{"amount": 5}').code == 0
    stopped = owes(antiphon, "--yes")
    told = antiphon("agents", "retire", "payer")
    assert antiphon("dead", "discard", "--agent", "payer", "--yes").code == 0
    with running(folder):
        until(lambda: owes(antiphon) == ["running"], "the last event to be handled")
    ready = asked(antiphon)
    gone = antiphon("agents", "retire", "payer", "--yes")

    assert (busy, stopped) == (["running", "dead_letters"], ["lag", "dead_letters"])
    assert (stranger.code, "did you mean payer?" in stranger.err) == (2, True)
    assert (told.code, told.out.splitlines()[:3]) == (
        1,
        [
            "no: payer is not done yet",
            "  1 event not handled",
            "    run it until it has none: antiphon run MODULE:payer",
        ],
    )
    assert (ready["ready"], ready["removed"], ready["notes"]) == (True, False, ["nobody else hears claim.filed"])
    assert [topic.rpartition(".")[2] for topic in ready["topics"]] == ["state", "dead", "redrive"]
    assert (gone.code, gone.out.splitlines()[0]) == (0, "payer is retired")
    assert orjson.loads(antiphon("agents", "--all", "--json").out) == []
    assert antiphon("agents", "retire", "payer").code == 2
