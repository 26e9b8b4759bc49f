"""`antiphon run --canary`: what is refused before anything runs, and what `agents` and `doctor` say of workers that differ."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from antiphon.bus.canary import beside
from antiphon.bus.consumer import Consumer
from antiphon.bus.heartbeat import AgentSeen, canary
from antiphon.bus.share import Share
from antiphon.cli.checks import Status, canaries
from antiphon.cli.commands.agents import document
from tests.cli.conftest import Antiphon
from tests.cli.process import Process

EVENTS = """
from antiphon import Event

class TicketOpened(Event):
    n: int

class TicketTriaged(Event):
    n: int
"""
AGENTS = """
from antiphon import agent
from tickets import TicketOpened, TicketTriaged

@agent(version={version!r})
async def triage(ticket: TicketOpened) -> TicketTriaged:
    return TicketTriaged(n=ticket.n)

@agent(version={version!r})
async def look(ticket: TicketOpened) -> None: ...
"""
MORE = """
from antiphon import agent
from tickets import TicketOpened, TicketTriaged

@agent(version="2")
async def triage(ticket: TicketOpened) -> TicketTriaged | TicketOpened:
    return ticket
"""
SAGA = """
from antiphon import Saga, Step
from tickets import TicketOpened, TicketTriaged

class Asked(TicketTriaged):
    pass

def ask(ticket: TicketOpened) -> Asked:
    return Asked(n=ticket.n)

triage = Saga("triage", starts=TicketOpened, steps=[Step("ask", action=ask, done=TicketTriaged)])
"""
V2 = "triage=./desk_v2.py:triage"


@pytest.fixture
def desk(folder: Path) -> Path:
    (folder / "tickets.py").write_text(EVENTS)
    (folder / "desk.py").write_text(AGENTS.format(version="1"))
    (folder / "desk_v2.py").write_text(AGENTS.format(version="2"))
    (folder / "desk_more.py").write_text(MORE)
    (folder / "desk_saga.py").write_text(SAGA)
    return folder


A_PERCENTAGE = "a percentage from 0% to 100% with at most two decimals, such as 10% or 0.5%"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--share", "10%"],
            ["error: expected --canary with --share 10%, got none", "try: --canary NAME=FILE.py:AGENT"],
        ),
        (["--canary", V2], ["error: expected --share with --canary, got none", "try: --share 10%"]),
        (
            ["--canary", V2, "--share", "0.1"],
            [f"error: expected share to be {A_PERCENTAGE}, got '0.1' (from --share)"],
        ),
        (
            ["--canary", V2.replace("triage=", "triag="), "--share", "10%"],
            [
                "error: no agent 'triag' among those to be run, for --canary triag=./desk_v2.py:triage",
                "did you mean triage?",
            ],
        ),
        (
            ["--canary", "triage", "--share", "10%"],
            ["error: expected --canary NAME=WHERE, got 'triage'", "try: --canary triage=./triage_v2.py:triage"],
        ),
        (
            ["--canary", "triage=./desk_v2.py", "--share", "10%"],
            ["error: expected one agent at './desk_v2.py', got triage, look", "try: ./desk_v2.py:NAME"],
        ),
        (
            ["--canary", "triage=./desk_saga.py:triage", "--share", "10%"],
            [
                "error: expected an agent at './desk_saga.py:triage', got the saga 'triage'",
                "a saga has its versions beside it: previous=",
            ],
        ),
        (
            ["--canary", V2, "--canary", V2, "--share", "10%"],
            ["error: expected one --canary of 'triage', got two", "compare more than two by antiphon replay"],
        ),
        (
            ["--canary", "triage=./desk_more.py:triage", "--share", "10%"],
            [
                "error: the canary 2 of 'triage' cannot have a share of its workflows:",
                "expected it to emit nothing but ticket.triaged, got ticket.opened, ticket.triaged",
                "Have it agree in that; or deploy it as a whole, which a rolling deployment does worker by worker",
            ],
        ),
    ],
    ids=lambda value: " ".join(value) if value[0].startswith("--") else "",
)
def test_what_cannot_be_is_refused_before_anything_runs(
    antiphon: Antiphon, desk: Path, words: list[str], said: list[str]
) -> None:
    """Exit code 2: what was expected, what came, what to do."""
    ran = antiphon("run", "desk", *words)
    assert (ran.code, [line.strip() for line in ran.err.splitlines()]) == (2, said)


def test_the_environment_says_it_too(antiphon: Antiphon, desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container is told without another command line; several stand with commas between them."""
    monkeypatch.setenv("ANTIPHON_CANARY", f"{V2}, look=./desk_v2.py:look")
    monkeypatch.setenv("ANTIPHON_SHARE", "12.50%")
    shown = orjson.loads(antiphon("config", "--json").out)
    assert (shown["canary"], shown["share"]) == (
        {"value": [V2, "look=./desk_v2.py:look"], "from": "ANTIPHON_CANARY"},
        {"value": "12.5%", "from": "ANTIPHON_SHARE"},
    )
    monkeypatch.setenv("ANTIPHON_SHARE", "12")
    ran = antiphon("run", "desk")
    assert (ran.code, ran.err.strip()) == (
        2,
        f"error: expected share to be {A_PERCENTAGE}, got '12' (from ANTIPHON_SHARE)",
    )


@pytest.mark.embedded
def test_both_versions_are_seen(
    antiphon: Antiphon, desk: Path, embedded: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the start, among the agents, and in the trace of a workflow; a worker without the share is told of."""
    monkeypatch.setenv("ANTIPHON_BOOTSTRAP_SERVERS", embedded)
    monkeypatch.setenv("ANTIPHON_NAMESPACE", namespace)
    words = ("run", "desk", "--canary", V2, "--canary", "look=./desk_v2.py:look", "--share", "50%")
    worker = Process(*words, "--instance", "w-1", cwd=desk)
    other = None
    try:
        said = orjson.loads(worker.wait_for('"starting"'))
        worker.wait_for('"ready"')
        other = Process("run", "desk", "--instance", "w-2", "--share", "50%", "--canary", V2, cwd=desk)
        other.wait_for('"ready"')
        agents = antiphon("agents")
        doctor = orjson.loads(antiphon("doctor", "--json").out)
    finally:
        for process in (worker, other):
            if process is not None:
                process.end()
                process.clean_up()
    assert said["canary"] == "2 for 50% of the workflows"
    assert [line.split()[:5] for line in agents.out.splitlines() if "triage" in line] == [
        ["triage", "1,", "2", "for", "50%"],
        ["triage", "1,", "2", "for", "50%"],
    ]
    differ = "2 for 50% (w-1), no canary (w-2)"
    assert f"look: its workers differ: {differ}. " in agents.err
    [check] = [one for one in doctor["checks"] if one["name"] == "canaries"]
    assert (check["status"], check["detail"]) == ("warning", f"look: {differ}")


def seen(instance: str, consumer: Consumer, time_us: int = 10**15) -> AgentSeen:
    return AgentSeen(
        agent=consumer.name,
        version=consumer.version,
        instance=instance,
        started_us=0,
        time_us=time_us,
        interval_s=5,
        capacity=1,
        canary=canary(consumer),
    )


async def handler(event: object) -> list[object]:
    return []


OLD = Consumer(name="triage", version="1", hears={}, handler=handler)  # type: ignore[arg-type]  # it is never called
NEW = Consumer(name="triage", version="2", hears={}, handler=handler)  # type: ignore[arg-type]


def test_workers_that_differ_are_a_warning() -> None:
    """Those that are up; one that is gone has no say."""
    tenth, half = beside(OLD, NEW, Share(1_000)), beside(OLD, NEW, Share(5_000))
    alike = [seen("w-1", tenth), seen("w-2", tenth), seen("w-3", half, time_us=0)]
    check = canaries(alike, now_us=10**15)
    assert (check.status, check.detail) == (Status.OK, "triage 2 for 10%")
    check = canaries([*alike, seen("w-4", half), seen("w-5", OLD)], now_us=10**15)
    assert (check.status, check.detail) == (
        Status.WARNING,
        "triage: 2 for 10% (w-1, w-2), 2 for 50% (w-4), no canary (w-5)",
    )
    assert canaries([], now_us=10**15).detail == "no agent has a canary"


def test_the_document_of_agents_tells_the_share() -> None:
    """From 0 to 1, beside the version; null where there is no canary."""
    [agent] = document([seen("a", OLD), seen("b", beside(OLD, NEW, Share(25)))], {}, at_us=10**15, all=False)
    assert [one["canary"] for one in agent["instances"]] == [None, {"version": "2", "share": 0.0025}]
