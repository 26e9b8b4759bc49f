"""A mesh that pays claims: state, side effects, a join, an undo, and one claim that is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Any

from antiphon import Agent, Context, Event, PermanentError
from antiphon.bus.consumer import Consumer
from antiphon.bus.record import TopicPartition
from antiphon.replay.choice import Choice
from antiphon.replay.compare import Rules
from antiphon.replay.compared import Compared
from antiphon.replay.effects import Effects
from antiphon.replay.handler import HandlerReplay
from antiphon.replay.reading import read_recording
from antiphon.replay.recording import Recording
from antiphon.replay.sandbox import Ground, SandboxReplay
from antiphon.replay.schemas import KeptSchemas
from antiphon.schemas.codec import Codec
from antiphon.testing.mesh import MemoryMesh
from antiphon.testing.waiting import eventually


class ClaimFiled(Event):
    claim: str
    amount: int


class ClaimChecked(Event, key="claim"):
    claim: str
    at: datetime


class ClaimPaid(Event):
    claim: str
    receipt: str
    seen: int


class ClaimClosed(Event):
    claim: str


fired: list[str] = []
undone: list[str] = []
replayed: list[bool] = []
payer, checker = Agent("payer"), Agent("checker")


@payer.on(ClaimFiled)
async def pay(filed: ClaimFiled, context: Context) -> ClaimPaid:
    async def transfer() -> str:
        fired.append(context.id)
        return f"receipt {len(fired)}"

    replayed.append(context.replaying)
    if filed.amount > 100:
        raise PermanentError(f"{filed.amount} is too much")
    receipt = await context.once("transfer", transfer)
    context.state["seen"] = context.state.get("seen", 0) + filed.amount
    context.confidence(0.5)
    context.spend(model="m", cost=0.25)
    return ClaimPaid(claim=filed.claim, receipt=receipt, seen=context.state["seen"])


@payer.undoes(ClaimPaid)
async def claw_back(paid: ClaimPaid) -> None:
    undone.append(paid.claim)


@checker.on(ClaimFiled)
async def check(filed: ClaimFiled, context: Context) -> list[ClaimChecked]:
    return [ClaimChecked(claim=f"{filed.claim}.{part}", at=context.now()) for part in range(2)]


joined = Agent("joined")


class ClaimNoted(Event):
    claim: str


@checker.on(ClaimPaid)
async def noted(paid: ClaimPaid) -> ClaimNoted:
    return ClaimNoted(claim=paid.claim)


@joined.on(ClaimPaid, ClaimNoted, join=True)
async def close(paid: ClaimPaid, note: ClaimNoted) -> ClaimClosed:
    return ClaimClosed(claim=f"{paid.claim} {note.claim}")


AGENTS = (payer, checker, joined)


async def three_claims(mesh: MemoryMesh) -> MemoryMesh:
    """Have three claims handled, one of them set aside; the first two share a workflow, and so state."""
    fired.clear()
    async with mesh.running(*AGENTS):
        [first] = await mesh.publisher.publish([ClaimFiled(claim="c0", amount=1)])
        await mesh.eventually(ClaimPaid, count=1)
        await mesh.publisher.publish([ClaimFiled(claim="c1", amount=2)], correlation_id=first.id)
        # The third is of another key: it may be begun before the second unless it comes later.
        await mesh.eventually(ClaimPaid, count=2)
        await mesh.publish(ClaimFiled(claim="dear", amount=500))
        await mesh.eventually(ClaimClosed, count=1)

        async def over() -> bool:
            return len(await mesh.handled()) == 12

        await eventually(over, 30, what="all to be handled")
    return mesh


async def recorded(mesh: MemoryMesh, choice: Choice | None = None) -> Recording:
    return await read_recording(mesh.bus, mesh.names, mesh.codec, choice or Choice(), claims=mesh.claims)


async def again(
    mesh: MemoryMesh,
    *consumers: Consumer,
    effects: Effects = Effects.RECORDED,
    rules: Rules | None = None,
    recording: Recording | None = None,
) -> list[Compared]:
    found = recording or await recorded(mesh)
    codec = Codec(KeptSchemas(behind=mesh.store))
    run = consumers or [agent.consumer() for agent in AGENTS]
    replay = HandlerReplay(found, run, codec, effects=effects, rules=rules or Rules())
    return [one async for one in replay.run(Choice().of(found.handlings))]


def ground(mesh: MemoryMesh) -> Ground:
    return Ground(bus=mesh.bus, names=mesh.names, store=mesh.store, partitions=mesh.partitions, claims=mesh.claims)


async def in_sandbox(
    mesh: MemoryMesh,
    *consumers: Consumer,
    effects: Effects = Effects.RECORDED,
    rules: Rules | None = None,
    recording: Recording | None = None,
) -> list[Compared]:
    found = recording or await recorded(mesh)
    run = consumers or [agent.consumer() for agent in AGENTS]
    replay = SandboxReplay(found, run, ground(mesh), effects=effects, rules=rules or Rules())
    return await asyncio.wait_for(replay.run(Choice().of(found.handlings)), 60)


def candidate(change: Callable[[ClaimPaid], Event | list[Event] | None]) -> Consumer:
    """Return payer, with what it says changed."""
    other = Agent("payer")

    @other.on(ClaimFiled)
    async def pay_otherwise(
        filed: ClaimFiled, context: Context
    ) -> ClaimPaid | ClaimClosed | list[ClaimPaid | ClaimClosed] | None:
        found: Any = change(await pay(filed, context))
        return found  # type: ignore[no-any-return]

    return other.consumer()


async def everything(mesh: MemoryMesh) -> dict[TopicPartition, tuple[int, int]]:
    return await mesh.bus.bounds(await mesh.bus.topics())
