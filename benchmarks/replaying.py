"""What it costs to handle events again: beside their handler alone, in a plain loop; and to take a workflow along in a bundle.

Nothing here asks a broker: the events were recorded in memory. What is compared is processor time, as both only compute.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from antiphon import Event
from antiphon.agents.agent import agent_of
from antiphon.bus.consumer import Consumer
from antiphon.bus.record import Record
from antiphon.replay.bundle import read, schemas_of, write
from antiphon.replay.choice import Choice
from antiphon.replay.handler import HandlerReplay
from antiphon.replay.reading import read_recording
from antiphon.replay.recording import Recording
from antiphon.replay.schemas import KeptSchemas
from antiphon.schemas.codec import Codec
from antiphon.testing.mesh import MemoryMesh
from feed import asked
from hops import Answered, Asked, answer
from stage import PARTITIONS, Experiment, Stage
from table import Figure, Pair, Unit

EVENTS = 10_000
WORKFLOW = 500
"""Events that one workflow begins with; each is answered."""
_AT_ONCE = 500
_LIMIT_S = 2.0

LOOP = Figure(
    "replay", "10,000 events handled again, against their handler in a plain loop, decoding", Unit.RATE, "0.8"
)
WRITING = Figure("replay", "the same, against a loop that also encodes and compares what was said", Unit.RATE, "")
BUNDLE = Figure(
    "replay", "a bundle of a workflow of 1,000 events, written and run, against two seconds", Unit.SECONDS, "1"
)


async def once(stage: Stage) -> Mapping[Figure, Pair]:
    """Record, then handle again and in loops, one after the other."""
    stage.say("replay: recording")
    mesh, recording = await recorded(EVENTS, None)
    stage.say("replay: handling again")
    codec, records = Codec(KeptSchemas(behind=mesh.store)), _inputs(recording)
    await codec.announce([Asked, Answered])
    ours = await _cpu_s(lambda: _again(recording, codec))
    plain = await _cpu_s(lambda: _loop(records, codec))
    writing = await _cpu_s(lambda: _writing_loop(recording, records, codec))
    stage.say("replay: a bundle")
    whole, flow = await recorded(WORKFLOW, "one workflow")
    began = time.perf_counter()
    path = stage.folder / f"{stage.names('bundle').namespace}.antiphon"
    path.write_bytes(write(flow, await schemas_of(flow, whole.store)))
    taken, schemas = read(path)
    await _again(taken, Codec(schemas))
    seconds = time.perf_counter() - began
    return {
        LOOP: (EVENTS / ours, EVENTS / plain),
        WRITING: (EVENTS / ours, EVENTS / writing),
        BUNDLE: (seconds, _LIMIT_S),
    }


async def recorded(count: int, workflow: str | None) -> tuple[MemoryMesh, Recording]:
    """Have *count* events answered; each the first of its workflow, or all in one."""
    mesh, handled, consumer = MemoryMesh(partitions=PARTITIONS), itertools.count(1), _consumer()
    through = asyncio.Event()

    async def counted(event: Event) -> Sequence[Event]:
        if next(handled) == count:
            through.set()
        return await consumer.handler(event)

    async with mesh.running(dataclasses.replace(consumer, handler=counted)):
        for first in range(0, count, _AT_ONCE):
            some = [asked(n) for n in range(first, first + _AT_ONCE)]
            await mesh.publisher.publish(some, correlation_id=workflow)
        # What is handled is committed when the worker has drained.
        await through.wait()
    return mesh, await read_recording(mesh.bus, mesh.names, mesh.codec, Choice())


async def _cpu_s(work: Callable[[], Awaitable[None]]) -> float:
    began = time.process_time()
    await work()
    return time.process_time() - began


async def _again(recording: Recording, codec: Codec) -> None:
    replay = HandlerReplay(recording, [_consumer()], codec)
    done = 0
    async for one in replay.run(Choice().of(recording.handlings)):
        assert not one.differences and not one.skipped, one  # noqa: S101, PT018 - or nothing was measured
        done += 1
    assert done == len(recording.handlings)  # noqa: S101 - as above


async def _loop(records: Sequence[Record], codec: Codec) -> None:
    for record in records:
        await answer(codec.decode(Asked, record.value or b""))


async def _writing_loop(recording: Recording, records: Sequence[Record], codec: Codec) -> None:
    said = {one.entry.event_id: one.entry.emitted[0].id for one in recording.handlings}
    for record in records:
        made = codec.encode(await answer(codec.decode(Asked, record.value or b"")))
        id = next(value for name, value in record.headers if name == "ce_id") or b""
        assert made == recording.events[said[id.decode()]].value  # noqa: S101 - it is what is measured


def _inputs(recording: Recording) -> list[Record]:
    return [record for one in recording.handlings if (record := recording.event_of(one)) is not None]


def _consumer() -> Consumer:
    found = agent_of(answer)
    assert found is not None  # noqa: S101 - for the type checker
    return found.consumer()


EXPERIMENT = Experiment((LOOP, WRITING, BUNDLE), once)
