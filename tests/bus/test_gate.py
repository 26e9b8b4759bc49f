"""The gate: whom it would break if agents were deployed now, and that what breaks somebody is not published."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

import pytest
from pydantic import Field

from antiphon import Agent, Event
from antiphon.bus.consumer import Consumer
from antiphon.bus.contracts import Contract, Contracts, of_consumers, of_workers, read_schemas
from antiphon.bus.errors import BreaksReadersError
from antiphon.bus.gate import Verdict, gate
from antiphon.bus.guard import Unreadable
from antiphon.bus.names import SCHEMAS
from antiphon.bus.publisher import Publisher
from antiphon.bus.retained import written_schemas
from antiphon.bus.subscriptions import subscriptions
from antiphon.schemas.avro import schema_of
from antiphon.schemas.envelope import now_us
from antiphon.testing.mesh import MemoryMesh
from antiphon.tracing.records import read_agents


class CaseOpened(Event, type="case.opened"):
    case: str
    size: int


class CaseOpened2(Event, type="case.opened"):
    """Both readers and writers of the old one do without `city`."""

    case: str
    size: int
    city: str = "?"


class CaseOpenedOddly(Event, type="case.opened"):
    case: str
    size: str


class CaseOpenedStrictly(Event, type="case.opened"):
    case: str
    size: int
    owner: str


class CaseClosed(Event, type="case.closed"):
    case: str


def opener(opened: type[Event], version: str = "1") -> Agent:
    """Make an agent that says that a case was opened, in some version of what that is."""
    agent = Agent("opener", version=version)

    async def open_again(closed: CaseClosed) -> Any: ...

    open_again.__annotations__["return"] = opened
    agent.on()(open_again)
    return agent


def closer(opened: type[Event], name: str = "closer", version: str = "1") -> Agent:
    agent = Agent(name, version=version)

    async def close(opened: Any) -> None: ...

    close.__annotations__["opened"] = opened
    agent.on(opened)(close)
    return agent


def contracts(*agents: Agent) -> Contracts:
    return of_consumers([agent.consumer() for agent in agents])


def told(verdict: Verdict) -> list[tuple[str, str, str, tuple[str, ...]]]:
    return [(one.type, one.path, one.kind.value, one.agents) for one in verdict.problems]


def test_a_change_that_every_reader_can_take_is_passed() -> None:
    """A field more, with a default."""
    verdict = gate(contracts(opener(CaseOpened2)), contracts(opener(CaseOpened), closer(CaseOpened)))
    assert (verdict.compatible, len(verdict.pairs)) == (True, 1)


def test_whom_it_breaks_is_named() -> None:
    """Each problem once, with all who read it so, and what the writer can do."""
    live = contracts(closer(CaseOpened), closer(CaseOpened, "auditor"))
    [problem] = gate(contracts(opener(CaseOpenedOddly)), live).problems
    assert problem.document() == {
        "type": "case.opened",
        "kind": "type_changed",
        "path": "size",
        "message": "it was written as string and is read as long",
        "remedy": "Keep the type, and put the new one into a field of another name",
        "agents": ["auditor", "closer"],
    }


def test_new_code_that_cannot_read_what_is_written_is_what_breaks() -> None:
    """Then its own agent is named, and the remedy is the reader's."""
    [problem] = gate(contracts(closer(CaseOpenedStrictly)), contracts(opener(CaseOpened))).problems
    assert (problem.path, problem.agents, problem.remedy.split(",")[0]) == ("owner", ("closer",), "Give it a default")


def test_what_stands_on_the_topic_is_read_too() -> None:
    """Nobody writes it any more, or nobody says so; the new code will meet it all the same."""
    verdict = gate(
        contracts(closer(CaseOpenedStrictly)), Contracts((), ()), written={"case.opened": [schema_of(CaseOpened)]}
    )
    assert told(verdict) == [("case.opened", "owner", "missing_default", ("closer",))]


def test_writer_and_reader_that_are_deployed_together_break_the_old_reader_meanwhile() -> None:
    """Which is a question of order: the reader first."""
    live = contracts(opener(CaseOpened), closer(CaseOpened))
    verdict = gate(contracts(opener(CaseOpenedOddly, "2"), closer(CaseOpenedOddly, version="2")), live)
    by_reader = {problem.message: problem.remedy for problem in verdict.problems}
    assert by_reader["it was written as string and is read as long"] == (
        "The new closer can read it: deploy that first, and let it replace every worker of the old one"
    )
    assert by_reader["it was written as long and is read as string"].startswith(
        "Keep the type, or one Avro promotes to"
    )


def test_who_told_no_schema_is_said_to_be_unknown() -> None:
    """A worker of an older release; that it reads another topic is known even so."""
    [read] = contracts(closer(CaseOpened)).reads
    silent = dataclasses.replace(read, schema=None)
    elsewhere = dataclasses.replace(silent, agent="auditor", topic="cases")
    verdict = gate(contracts(opener(CaseOpenedOddly)), Contracts((silent, elsewhere), ()))

    assert verdict.unknown == {"case.opened": ["auditor", "closer"]}
    assert told(verdict) == [("case.opened", "", "topic_moved", ("auditor",))]


def test_a_foreign_schema_that_no_class_can_have_is_a_problem_and_no_crash() -> None:
    """Of a writer that is not ours."""
    foreign = {"type": "record", "name": "CaseOpened", "fields": [{"name": "case", "type": ["null"]}]}
    write = Contract(agent="other", version="", type="case.opened", topic="case.opened", schema=foreign)
    verdict = gate(contracts(closer(CaseOpened)), Contracts((), (write,)))
    assert {path for _, path, _, _ in told(verdict)} == {"case", "size"}


async def live(mesh: MemoryMesh) -> Contracts:
    workers = await read_agents(mesh.bus, mesh.names, mesh.codec)
    return of_workers(subscriptions(workers, now_us=now_us()), await read_schemas(mesh.bus, mesh.names))


async def test_workers_tell_what_they_read_and_write() -> None:
    """By heartbeat and schema topic, to the last default; a second worker writes no schema again."""

    class CaseNoted(Event, type="case.noted"):
        case: str = Field(max_length=10)
        tags: list[str] = Field(default_factory=lambda: ["new"])

    mesh = MemoryMesh()
    async with mesh.running(opener(CaseOpened2), closer(CaseNoted)):
        known = await live(mesh)
        once = len(await mesh.records(SCHEMAS))
    async with mesh.running(opener(CaseOpened2), closer(CaseNoted)):
        twice = len(await mesh.records(SCHEMAS))

    assert {(one.agent, one.type): one.schema for one in known.reads} == {
        ("opener", "case.closed"): schema_of(CaseClosed),
        ("closer", "case.noted"): schema_of(CaseNoted),
    }
    assert [(one.agent, one.version, one.schema) for one in known.writes] == [("opener", "1", schema_of(CaseOpened2))]
    assert twice == once


async def test_f19_what_a_reader_could_not_read_is_not_published() -> None:
    """The error names the field, whom it breaks and what to do; nothing is on the wire, nor is the schema."""
    mesh = MemoryMesh()
    async with mesh.running(closer(CaseOpened)):
        await mesh.publish(CaseOpened2(case="a", size=1))
        schemas = len(await mesh.records(SCHEMAS))
        with pytest.raises(BreaksReadersError) as caught:
            await mesh.publish(CaseOpenedOddly(case="b", size="1"))
        await mesh.publish(CaseOpened(case="c", size=1))

    assert str(caught.value) == (
        "case.opened, field 'size': it was written as string and is read as long, which breaks closer. "
        "Keep the type, and put the new one into a field of another name. "
        "Where that agent is no more: 'antiphon agents retire NAME'."
    )
    assert len(await mesh.records("case.opened")) == 2
    assert len(await mesh.records(SCHEMAS)) == schemas


async def test_f19_an_agent_that_would_break_a_reader_does_not_start() -> None:
    """Before any of its events, and also while its reader is down, for it may come back."""
    mesh = MemoryMesh()
    async with mesh.running(closer(CaseOpened)):
        pass
    with pytest.raises(BreaksReadersError, match="which breaks closer"):
        await mesh.worker(opener(CaseOpenedOddly)).run()


async def test_f19_whoever_wants_it_so_is_warned_or_let_go(caplog: pytest.LogCaptureFixture) -> None:
    """By the setting `unreadable`."""
    mesh = MemoryMesh()
    async with mesh.running(closer(CaseOpened)):
        with caplog.at_level(logging.WARNING):
            for policy in (Unreadable.WARN, Unreadable.PUBLISH):
                publisher = Publisher(mesh.bus, mesh.codec, mesh.names, unreadable=policy)
                await publisher.publish([CaseOpenedOddly(case="b", size="1")])
    asked = [record for record in caplog.records if record.message.startswith("events are published that")]
    assert (len(asked), len(await mesh.records("case.opened"))) == (1, 2)


async def test_an_agents_own_older_workers_do_not_keep_it_down() -> None:
    """Those that have stopped: whoever changes what it says to itself stops it first."""

    def looping(opened: type[Event], version: str) -> Consumer:
        agent = Agent("looper", version=version)

        async def again(opened: Any) -> Any: ...

        again.__annotations__.update({"opened": opened, "return": opened})
        agent.on(opened)(again)
        return agent.consumer()

    mesh = MemoryMesh()
    async with mesh.running(looping(CaseOpened, "1")):
        with pytest.raises(BreaksReadersError, match="which breaks looper"):
            await mesh.worker(looping(CaseOpenedOddly, "2")).run()
    async with mesh.running(looping(CaseOpenedOddly, "2")) as worker:
        assert worker.ready.is_set()


async def test_what_was_written_is_found_on_the_topic() -> None:
    """The newest of each partition, or every one that is still there; each schema once, of the types that were asked for."""
    mesh = MemoryMesh(1)
    await mesh.prepare(closer(CaseOpened))
    first = Publisher(mesh.bus, mesh.codec, mesh.names)
    await first.publish([CaseOpened(case="a", size=1)])
    await first.publish([CaseOpened2(case=str(n), size=1) for n in range(40)])
    progress: list[tuple[int, int]] = []

    def tell(done: int, whole: int) -> None:
        progress.append((done, whole))

    found = [
        await written_schemas(mesh.bus, mesh.names, mesh.store, {"case.opened": types}, every=every, progress=tell)
        for types, every in ((["case.opened"], False), (["case.opened"], True), (["other"], True))
    ]
    assert found == [
        {"case.opened": [schema_of(CaseOpened2)]},
        {"case.opened": [schema_of(CaseOpened), schema_of(CaseOpened2)]},
        {},
    ]
    assert progress[-1] == (41, 41)
