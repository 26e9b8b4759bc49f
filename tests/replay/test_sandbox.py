"""Handling again with real workers, on topics that are made for it: everything comes out there, and nothing anywhere else."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence

import pytest

from antiphon import Agent, Event
from antiphon.bus.memory.bus import MemoryBus
from antiphon.bus.names import AGENTS as HEARTBEATS
from antiphon.bus.names import Names
from antiphon.bus.port import Membership, TopicSpec, Transaction
from antiphon.bus.record import Committed, Outgoing, TopicPartition
from antiphon.compensation.coordinator import coordinator
from antiphon.replay.compare import Kind
from antiphon.replay.errors import OutsideSandboxError
from antiphon.replay.fence import Fenced
from antiphon.replay.leftovers import Leftover, leftovers, new_id, remove_leftovers, sandboxes
from antiphon.replay.letters import agents_with_letters
from antiphon.testing.mesh import MemoryMesh
from antiphon.testing.waiting import eventually
from antiphon.tracing.finding import find_workflows
from antiphon.tracing.records import may_hold_events
from tests.replay.claims import (
    AGENTS,
    ClaimClosed,
    ClaimFiled,
    ClaimPaid,
    candidate,
    everything,
    fired,
    in_sandbox,
    payer,
    replayed,
    undone,
)


async def test_f28_real_workers_come_to_the_same_and_touch_nothing(mesh: MemoryMesh) -> None:
    """State, side effects, joins and the clock are as they were then; no offset moves, nothing is written, fired, undone or left."""
    assert isinstance(mesh.bus, MemoryBus)
    before = await everything(mesh), mesh.bus.committed("payer"), mesh.bus.generation("payer"), [*fired]
    replayed.clear()
    compared = await in_sandbox(mesh)

    assert [(one.differences, one.skipped, one.state_known) for one in compared] == [([], None, True)] * 12
    after = await everything(mesh), mesh.bus.committed("payer"), mesh.bus.generation("payer"), fired
    assert (after, undone) == (before, [])
    assert replayed == [True] * 3
    assert [one.raised for one in compared if one.raised is not None] == [("PermanentError", "500 is too much")]


async def test_what_a_candidate_says_is_what_the_next_agent_hears(mesh: MemoryMesh) -> None:
    """Unlike in the mode `handler`: a change shows where it is made, and in what follows from it."""
    compared = await in_sandbox(
        mesh,
        candidate(lambda paid: paid.model_copy(update={"claim": "other"})),
        *(one.consumer() for one in AGENTS[1:]),
    )
    told = [(one.handling.agent, found.kind, found.type) for one in compared for found in one.differences]

    assert sorted(told) == [
        ("checker", Kind.CHANGED, "claim.noted"),
        ("checker", Kind.CHANGED, "claim.noted"),
        ("joined", Kind.CHANGED, "claim.closed"),
        ("payer", Kind.CHANGED, "claim.paid"),
        ("payer", Kind.CHANGED, "claim.paid"),
    ]


async def test_what_does_not_come_is_not_waited_for(mesh: MemoryMesh) -> None:
    """Where a candidate says nothing, what would have followed is told as not run, and not as a difference of its own."""
    compared = await in_sandbox(mesh, candidate(lambda _: None), *(one.consumer() for one in AGENTS[1:]))
    told = [(one.handling.agent, [found.kind for found in one.differences]) for one in compared if one.differences]
    skipped = {(one.handling.agent, one.skipped) for one in compared if one.skipped}

    assert told == [("payer", [Kind.MISSING])] * 2
    assert skipped == {
        (agent, "its event did not come: what led to it came out differently") for agent in ("checker", "joined")
    }


async def test_one_agent_alone_is_given_what_the_others_said(mesh: MemoryMesh) -> None:
    """They do not run; what they emitted comes from the recording."""
    [joined] = [agent.consumer() for agent in AGENTS if agent.name == "joined"]
    compared = await in_sandbox(mesh, joined)

    assert {(one.handling.agent, one.handling.entry.event_type, len(one.differences)) for one in compared} == {
        ("joined", "claim.paid", 0),
        ("joined", "claim.noted", 0),
    }


async def test_interrupted_it_leaves_nothing(mesh: MemoryMesh) -> None:
    """Whatever its handlers are at."""
    other, begun = Agent("payer"), asyncio.Event()

    @other.on(ClaimFiled)
    async def hang(filed: ClaimFiled) -> None:
        begun.set()
        await asyncio.sleep(3_600)

    before = await mesh.bus.topics()
    task = asyncio.create_task(in_sandbox(mesh, other.consumer()))
    await asyncio.wait_for(begun.wait(), 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await mesh.bus.topics() == before


async def test_what_a_killed_one_left_is_found_by_the_next(mesh: MemoryMesh) -> None:
    """Once nobody has said for a while that he is there; what is somebody's, or only looks like one, is left alone."""
    id, topics = new_id(), await mesh.bus.topics()
    old = f"replay.{id}"
    await mesh.bus.create([TopicSpec(f"{old}.{HEARTBEATS}", 1), TopicSpec("replay.started", 1)])
    await mesh.bus.publish([Outgoing(f"{old}.{HEARTBEATS}", b"payer/1", b"here", [])])
    [one] = sandboxes(await mesh.bus.topics(), mesh.names)
    used = await leftovers(mesh.bus, mesh.names)
    removed = await eventually_removed(mesh)

    assert (one.namespace, used, [found.namespace for found in removed]) == (old, [], [old])
    assert (await mesh.bus.topics()).keys() == topics.keys() | {"replay.started"}


async def eventually_removed(mesh: MemoryMesh) -> Sequence[Leftover]:
    async def removed() -> Sequence[Leftover]:
        return await remove_leftovers(mesh.bus, mesh.names, silent_s=0.001)

    return await eventually(removed, 30, what="the sandbox to be silent")


async def test_the_fence_lets_nothing_out(mesh: MemoryMesh) -> None:
    """Not by publishing, committing, trying out, joining, making or removing; whatever is tried writes nothing at all."""
    inside = Names("replay.0199f2c100000001")
    await mesh.bus.create([TopicSpec(inside.topic("claim.filed"), 2)])
    fenced, before = Fenced(mesh.bus, inside), await everything(mesh)
    good, bad = Outgoing(inside.topic("claim.filed"), b"k", b"v", []), Outgoing("claim.filed", b"k", b"v", [])
    member = await fenced.join(
        Membership(group=inside.group("payer"), topics=(inside.topic("claim.filed"),), instance="1")
    )
    moved = Transaction([], {TopicPartition("claim.filed", 0): Committed(7)})
    tries = [
        fenced.publish([good, bad]),
        fenced.create([TopicSpec("other", 1)]),
        fenced.remove("staging"),
        fenced.join(Membership(group="payer", topics=(inside.topic("claim.filed"),), instance="1")),
        fenced.join(Membership(group=inside.group("payer"), topics=("claim.filed",), instance="2")),
        member.commit(Transaction([good, bad], {})),
        member.commit(moved),
        member.try_out([bad]),
    ]
    for one in tries:
        with pytest.raises(OutsideSandboxError, match=r"under replay\.0199f2c100000001\. alone"):
            await one
    await member.close()

    assert await everything(mesh) == before
    assert dataclasses.asdict(good)["topic"] == "replay.0199f2c100000001.claim.filed"


class ClaimRefused(Event, fails=True):
    claim: str


async def test_what_fails_in_a_sandbox_undoes_nothing(mesh: MemoryMesh) -> None:
    """A candidate says that a workflow has failed, while the mesh and its coordinator run: nobody there hears of it."""
    other = Agent("checker")

    @other.on(ClaimFiled)
    async def refuse(filed: ClaimFiled) -> ClaimRefused:
        return ClaimRefused(claim=filed.claim)

    @other.on(ClaimPaid)
    async def noted(paid: ClaimPaid) -> None: ...

    async with mesh.running(*AGENTS, coordinator()):
        compared = await in_sandbox(mesh, payer.consumer(), other.consumer())
        # What comes behind it in the mesh is through as well: whoever had heard would have acted.
        await mesh.publish(ClaimFiled(claim="last", amount=3))
        await mesh.eventually(ClaimClosed, count=2)
    refused = [found.type for one in compared for found in one.differences if found.kind is Kind.ADDED]

    assert (refused, undone) == (["claim.refused"] * 3, [])
    assert [record.topic for record in await mesh.records("payer.undo")] == []


async def test_a_sandbox_is_no_part_of_the_mesh_for_anybody(mesh: MemoryMesh) -> None:
    """While it is there: its copies are no second sighting of an event, its letters are nobody's."""
    [first, *_] = await mesh.records("claim.filed")
    inside = Names("replay.0199f2c100000001")
    specs = [TopicSpec(inside.topic(topic), 2) for topic in ("claim.filed", "payer.dead", "antiphon.activity")]
    before = await find_workflows(mesh.bus, mesh.names, ""), await mesh.handled()
    await mesh.bus.create(specs)
    await mesh.bus.publish([Outgoing(specs[0].name, first.key, first.value, first.headers, partition=0)])
    topics = await mesh.bus.topics()

    assert (await find_workflows(mesh.bus, mesh.names, ""), await mesh.handled()) == before
    assert [topic for topic in topics if topic.startswith("replay.") and may_hold_events(mesh.names, topic)] == []
    assert agents_with_letters(topics, mesh.names) == ["checker", "joined", "payer"]
