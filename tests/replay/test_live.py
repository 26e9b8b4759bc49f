"""Publishing past events once more: as new ones, which say what they are a replay of."""

from __future__ import annotations

from antiphon.bus.claims import Claims, MemoryClaims
from antiphon.replay.choice import Choice
from antiphon.replay.live import LiveReplay, Republished, again
from antiphon.schemas.envelope import from_headers
from antiphon.testing.mesh import MemoryMesh
from antiphon.testing.waiting import eventually
from antiphon.tracing import By, Index, Search
from antiphon.tracing.index.database import Sqlite
from antiphon.tracing.index.writing import Writer
from antiphon.tracing.tracer import Tracer
from tests.replay.claims import AGENTS, ClaimFiled, fired, payer, recorded, replayed, undone


async def publish(mesh: MemoryMesh, choice: Choice) -> list[Republished]:
    found = await recorded(mesh)
    replay = LiveReplay(mesh.bus, mesh.names, claims=mesh.claims)
    return [one async for one in replay.run(again(found, choice.of(found.handlings)))]


async def test_events_happen_once_more(mesh: MemoryMesh) -> None:
    """With new ids in a new workflow each; agents answer them as any others, and the old workflows stay as they were."""
    count = len(fired)
    replayed.clear()
    done = await publish(mesh, Choice())
    async with mesh.running(*AGENTS):
        await eventually(lambda: handled(mesh, 24), 30, what="all to be handled once more")
    every = await mesh.events(ClaimFiled)
    old, new = ([one for one in every if (one[0].replay_of is None) is is_old] for is_old in (True, False))

    assert sorted(one.replay_of for one in done) == sorted(envelope.id for envelope, _ in old)
    assert {envelope.id for envelope, _ in new} == {one.now.id for one in done}
    assert {envelope.id for envelope, _ in new}.isdisjoint(envelope.id for envelope, _ in old)
    assert {envelope.replay_of for envelope, _ in new} == {envelope.id for envelope, _ in old}
    assert sorted(event.claim for _, event in new) == sorted(event.claim for _, event in old)
    # Two of them were in one workflow, and are again; the third is in another.
    assert len({envelope.correlation_id for envelope, _ in new}) == 2
    assert (len(fired) - count, undone, replayed) == (2, [], [False] * 3)


async def test_what_follows_says_so_too(mesh: MemoryMesh) -> None:
    """Down to the last event, so that a replay is told from what customers did."""
    done = await publish(mesh, Choice(types=frozenset({"claim.filed"}), failed=True))
    async with mesh.running(*AGENTS):
        await eventually(lambda: handled(mesh, 14), 30, what="all to be handled once more")
    said = [
        from_headers(record.headers, key=record.key, timestamp_ms=record.timestamp_ms)
        for record in await mesh.records("claim.checked")
    ]

    assert len(done) == 1
    assert [one.replay_of for one in said if one.correlation_id == done[0].now.correlation_id] == [
        done[0].replay_of
    ] * 2


async def handled(mesh: MemoryMesh, count: int) -> bool:
    return len(await mesh.handled()) == count


def figures(index: Index, *, replays: bool = False) -> list[object]:
    """What an index says of production, or with *replays* of all."""
    costs = [index.cost(by, replays=replays) for by in (By.AGENT, By.MODEL, By.DAY)]
    return [*costs, index.confidence(threshold=0.5, replays=replays), index.states(replays=replays)]


async def test_they_are_no_figures_of_production(mesh: MemoryMesh) -> None:
    """Nor are those of an event from the middle of a workflow. Lists say of what each is a replay; who asks is told of all."""
    database = Sqlite(None, writes=True)
    index, tracer = Index(database), Tracer(mesh.bus, mesh.names, mesh.codec, Writer(database))
    await tracer.catch_up()
    before, took = figures(index), index.durations()
    old = {one.correlation_id for one in index.workflows(Search())}
    await publish(mesh, Choice())
    paid = await publish(mesh, Choice(types=frozenset({"claim.paid"})))
    async with mesh.running(*AGENTS):
        # Twelve once more; and what two payments lead to, of which one workflow has both.
        await eventually(lambda: handled(mesh, 24 + 6), 30, what="all to be handled once more")
    await tracer.catch_up()

    assert figures(index) == before
    assert [(one.type, one.workflows) for one in index.durations()] == [(one.type, one.workflows) for one in took]
    [all_spent] = index.cost(By.MODEL, replays=True)
    [spent] = index.cost(By.MODEL)
    assert (spent.calls, all_spent.calls) == (2, 4)
    assert sum(one.answers for one in index.confidence(threshold=0.5, replays=True)) == 4
    listed = {one.correlation_id: one.replay_of for one in index.workflows(Search())}
    assert all((listed[id] is None) is (id in old) for id in listed)
    [both] = {one.now.correlation_id for one in paid}
    stitched = index.workflow(both)
    assert stitched is not None
    assert listed[both] == stitched.document()["replay_of"] == paid[0].replay_of
    database.close()


async def test_what_followed_is_not_published(mesh: MemoryMesh) -> None:
    """It follows again; an event in the middle is published where it alone is meant."""
    found = await recorded(mesh)
    every = again(found, Choice().of(found.handlings))
    notes = again(found, Choice(types=frozenset({"claim.noted"})).of(found.handlings))

    assert [one.topic for one in every] == ["claim.filed"] * 3
    assert [one.topic for one in notes] == ["claim.noted"] * 2


async def test_a_large_event_is_published_by_its_claim() -> None:
    """As it was the first time."""
    mesh = MemoryMesh(partitions=1, claims=Claims(MemoryClaims(), limit=1_000))
    async with mesh.running(payer):
        await mesh.publish(ClaimFiled(claim="c" * 2_000, amount=500))
        await eventually(lambda: handled(mesh, 1), 30, what="it to be handled")
        found = await recorded(mesh)
        replay = LiveReplay(mesh.bus, mesh.names, claims=mesh.claims)
        [_] = [one async for one in replay.run(again(found, Choice().of(found.handlings)))]
        await eventually(lambda: handled(mesh, 2), 30, what="it to be handled once more")

    assert [event.claim for _, event in await mesh.events(ClaimFiled)] == ["c" * 2_000] * 2
