"""What an index says, against what really happened: workflows drawn from seeds, played on workers that crash, told by their plans.

Each event carries the plan of what comes of it, so what must be seen follows
from the plan of the first one, whatever the workers went through.
`make truths` plays ten thousand workflows; `ANTIPHON_TRUTHS` says another number.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import math
import os
import random
from collections.abc import Iterator
from typing import Any

import pytest

from antiphon import Agent, Context, Event, PermanentError, RetryPolicy
from antiphon.bus.heartbeat import AgentSeen, Heard
from antiphon.bus.record import Record
from antiphon.compensation.coordinator import coordinator
from antiphon.testing.simulation import Fault, Run, Simulation
from antiphon.tracing import Index, Listed, Search
from antiphon.tracing.workflow import Workflow
from tests.tracing.reading import Read, learn, relevant

WORKFLOWS = int(os.environ.get("ANTIPHON_TRUTHS", "240"))
TOGETHER = 6
PARTS = max(4, WORKFLOWS // 300)


class Opened(Event):
    name: str
    plan: str


class Checked(Event):
    name: str
    plan: str


class Priced(Event):
    name: str
    plan: str


class Insured(Event):
    name: str
    plan: str


class Booked(Event):
    name: str
    plan: str


class Bundled(Event):
    name: str


class Declined(Event, fails=True):
    name: str
    plan: str


CLASSES: dict[str, Any] = {one.__name__: one for one in (Opened, Checked, Priced, Insured, Booked, Declined)}
HEARERS = {"Opened": ("alpha",), "Checked": ("beta", "gamma"), "Priced": ("delta",), "Insured": (), "Booked": ()}
SAYS = {
    "alpha": ("Checked", "Priced", "Declined"),
    "beta": ("Priced", "Declined"),
    "gamma": ("Insured", "Declined"),
    "delta": ("Booked", "Declined"),
}
ONCE = frozenset({"Insured", "Booked"})
"""At most one of these in a workflow: a join of several would have to choose."""


def act(agent: str, event: Any, context: Context) -> list[Any]:
    """Do what the plan says."""
    said = json.loads(event.plan).get(agent, {})
    for cost in said.get("spends", ()):
        context.spend(model="m", cost=cost)
    if said.get("raises"):
        raise PermanentError("as planned")
    return [
        CLASSES[type](name=f"{event.name}/{agent}.{ordinal}", plan=json.dumps(plan))
        for ordinal, (type, plan) in enumerate(said.get("says", ()))
    ]


def crew() -> list[Any]:
    """Agents that do as they are told, and the coordinator."""
    alpha, beta, gamma, delta, omega = (
        Agent(name, retry=RetryPolicy(base_s=0.05, attempts=5)) for name in ("alpha", "beta", "gamma", "delta", "omega")
    )

    @alpha.on(Opened)
    async def open_it(event: Opened, context: Context) -> list[Checked | Priced | Declined]:
        return act("alpha", event, context)

    @beta.on(Checked)
    async def price(event: Checked, context: Context) -> list[Priced | Declined]:
        return act("beta", event, context)

    @gamma.on(Checked)
    async def insure(event: Checked, context: Context) -> list[Insured | Declined]:
        return act("gamma", event, context)

    @delta.on(Priced)
    async def book(event: Priced, context: Context) -> list[Booked | Declined]:
        return act("delta", event, context)

    @delta.undoes(Booked)
    async def unbook(event: Booked) -> None: ...

    @omega.on(Booked, Insured, join=True)
    async def bundle(booked: Booked, insured: Insured) -> Bundled:
        return Bundled(name="bundle")

    return [alpha, beta, gamma, delta, omega, coordinator()]


def planned(chance: random.Random, type: str, used: set[str], depth: int = 0) -> dict[str, Any]:
    """Draw what comes of an event: for each agent that hears it, what that does."""
    plan: dict[str, Any] = {}
    for agent in HEARERS.get(type, ()):
        said: dict[str, Any] = {"spends": [chance.choice((0.01, 0.1, 1.25)) for _ in range(chance.randrange(3))]}
        if chance.random() < 0.08:
            said["raises"] = True
        says: list[Any] = []
        for _ in range(chance.choice((0, 1, 1, 2, 3))):
            likely = [one for one in SAYS[agent] if one != "Declined" or chance.random() < 0.2]
            child = chance.choice(likely) if likely else None
            if child is None or child in used:
                continue
            used |= {child} & ONCE
            says.append([child, planned(chance, child, used, depth + 1)])
        plan[agent] = said | {"says": says}
    return plan


NEVER_US = 1 << 60
"""When nobody is live any more."""


@dataclasses.dataclass
class Truth:
    """What must be seen of a workflow."""

    parents: dict[str, set[str]] = dataclasses.field(default_factory=dict[str, set[str]])
    types: dict[str, str] = dataclasses.field(default_factory=dict[str, str])
    """By name."""
    failing: set[str] = dataclasses.field(default_factory=set[str])
    cost: float = 0.0
    state: str = ""


def truth(root: Opened, twist: str) -> Truth:
    """Follow the plan, as agents do that never fail but as planned."""
    found = Truth()
    ones: dict[str, str] = {}
    todo: list[tuple[str, str, set[str], Any]] = [("Opened", root.name, set(), json.loads(root.plan))]
    while todo:
        type, name, parents, plan = todo.pop()
        found.parents[name] = parents
        found.types[name] = type
        ones[type] = name
        for agent in HEARERS.get(type, ()):
            said = plan[agent]
            found.cost += sum(said["spends"])
            if said.get("raises"):
                found.failing.add(agent)
                continue
            for ordinal, (child, below) in enumerate(said["says"]):
                if child == "Declined":
                    found.failing.add(agent)
                todo.append((child, f"{name}/{agent}.{ordinal}", {name}, below))
    if ones.keys() >= ONCE:
        found.parents["bundle"] = {ones[type] for type in ONCE}
    if found.failing and "Booked" in ones:
        found.state = {"owed": "stalled", "lost": "incomplete" if "Checked" in ones else "compensated"}.get(
            twist, "compensated"
        )
    elif found.failing:
        found.state = "failed"
    elif twist == "owed" and "Priced" in ones:
        found.state = "stalled"
    else:
        found.state = "incomplete" if twist == "lost" and "Checked" in ones else "completed"
    return found


def twisted(run: Run, twist: str) -> Iterator[Record]:
    """Yield what a tracer finds: all, or what retention has left, or with the heartbeat of an agent that went for good."""
    for record in relevant(record for some in run.records.values() for record in some):
        if twist != "lost" or record.topic != "checked":
            yield record
    if twist == "owed":
        gone = AgentSeen(
            agent="sleeper",
            version="1",
            instance="1",
            started_us=0,
            time_us=1,
            interval_s=1,
            stopped=True,
            hears=[Heard(type="priced", topic="priced")],
            capacity=1,
        )
        yield Record("antiphon.agents", 0, 1 << 40, b"sleeper/1", run.codec.encode(gone), [], 0)


def problems(seed: int) -> list[str]:
    """Play a handful of workflows with one seed, read what is left of them in any order; return what is seen wrongly."""
    chance = random.Random(f"truth {seed}")
    roots = [Opened(name=str(n), plan=json.dumps(planned(chance, "Opened", set()))) for n in range(TOGETHER)]
    # An attempt that fails by chance has spent all the same: then the log alone knows how often that was.
    by_chance = seed % 2 == 1
    run = Simulation(crew(), roots, faults={*Fault} - (set() if by_chance else {Fault.FAIL}), fold=False).run(seed)
    twist = ("", "owed", "lost")[seed % 3]
    records = [*twisted(run, twist)]
    records += chance.sample(records, len(records) // 3)
    chance.shuffle(records)
    asyncio.run(learn(run.codec, records))
    read = Read(None, run.codec)
    while records:
        size = chance.choice((5, 50, 1_000))
        read.take(records[:size])
        records = records[size:]
        if chance.random() < 0.3:
            read.settle(NEVER_US)
    read.settle(NEVER_US)
    index = Index(read.database)
    listed = {one.correlation_id: one for one in index.workflows(Search(), at_us=NEVER_US)}
    found: list[str] = []
    for id, one in listed.items():
        workflow = index.workflow(id, at_us=NEVER_US)
        assert workflow is not None
        name = next(event.data["name"] for event in workflow.events if event.id == id)
        told = truth(roots[int(name)], twist)
        if by_chance:
            told.cost = paid(run, id)
        found += [f"seed {seed}, workflow {name}: {line}" for line in differences(told, one, workflow, twist)]
    return (
        found if len(listed) == TOGETHER else [*found, f"seed {seed}: expected {TOGETHER} workflows, got {len(listed)}"]
    )


def paid(run: Run, id: str) -> float:
    """What the attempts of a workflow spent, as the log has them: each once."""
    entries = (entry for agent in SAYS for entry in run.handled(agent) if entry.correlation_id == id)
    return math.fsum(spent.cost for entry in entries for spent in entry.usage)


def differences(told: Truth, listed: Listed, workflow: Workflow, twist: str) -> Iterator[str]:
    """Yield where what is seen is not what was."""
    events = {event.id: event for event in workflow.events if not event.is_undo_request}
    names = {id: event.data["name"] for id, event in events.items()}
    parents = {names[id]: {names.get(parent, "lost") for parent in event.parents} for id, event in events.items()}
    lost = {name for name, type in told.types.items() if type == "Checked"} if twist == "lost" else set[str]()
    expected = {
        name: {"lost" if parent in lost else parent for parent in above}
        for name, above in told.parents.items()
        if name not in lost
    }
    if parents != expected:
        yield f"expected parents {expected}, got {parents}"
    if not listed.state == workflow.state == told.state:
        yield f"expected it to be {told.state}, got {listed.state} in the list, {workflow.state} stitched"
    for what, agent in (("the list", listed.failed_agent), ("the workflow", workflow.failed_agent)):
        if agent not in told.failing and (agent is not None or told.failing):
            yield f"expected one of {told.failing or None} to have failed it, got {agent} in {what}"
    if not math.isclose(listed.cost["amount"], told.cost, abs_tol=1e-6):
        yield f"expected it to cost {told.cost}, got {listed.cost}"
    undone = sum(event.is_undo_request for event in workflow.events)
    if undone != (told.failing != set() and "Booked" in told.types.values()):
        yield f"expected what was booked to be undone once if it failed, got {undone} requests"


@pytest.mark.parametrize("first", range(PARTS))
def test_what_is_seen_is_what_happened(first: int, caplog: pytest.LogCaptureFixture) -> None:
    """State, parents, failing agent and cost of every workflow, in whatever order its records are read."""
    seeds = range(first, math.ceil(WORKFLOWS / TOGETHER), PARTS)
    with caplog.at_level(logging.CRITICAL + 1, logger="antiphon"):
        found = [line for seed in seeds for line in problems(seed)]
    assert found == []
