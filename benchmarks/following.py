"""How soon a workflow that is followed shows an event: `antiphon trace --follow` in a process of its own, beside a bare reader."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncGenerator

from antiphon.bus.heartbeat import AgentSeen, Heard
from antiphon.bus.names import AGENTS, Names
from antiphon.bus.port import TopicSpec
from antiphon.bus.record import Outgoing, TopicPartition
from antiphon.bus.schema_topic import TopicStore
from antiphon.bus.topics import ensure
from antiphon.schemas.codec import Codec
from antiphon.schemas.envelope import Envelope, now_us, to_headers
from antiphon.schemas.ids import root_id
from antiphon.tracing.reading import read_workflow
from feed import asked
from hops import Asked
from stage import PARTITIONS, Stage
from table import Pair

EVENTS = 20
_MOST_S = 60.0
_PAUSE_S = 0.35


async def followed(stage: Stage) -> Pair:
    """Return the milliseconds from an event's acknowledgement to its line, the longest of some; and a bare reader's."""
    stage.say("seeing: following")
    names = stage.names("follow")
    codec = Codec(TopicStore(stage.bus, names, partitions=PARTITIONS))
    await ensure(stage.bus, (), names, partitions=PARTITIONS, may_create=True)
    topic = names.topic(Asked.__event__.topic)
    await stage.bus.create([TopicSpec(topic, PARTITIONS)])
    await codec.announce([Asked, AgentSeen])
    # Somebody owes each event something, so following does not end.
    await _put(stage, names.topic(AGENTS), b"first/1", codec.encode(_heartbeat()), [])
    root = Envelope.root(Asked.__event__.type, source="/benchmarks")
    await _say(stage, topic, codec, root)
    assert await read_workflow(stage.bus, names, codec, root.id) is not None  # noqa: S101 - or there is nothing to follow
    async with _printed(stage, names, root.id) as lines, _read(stage, topic) as records:
        await _until(lines, root.id)
        ours, bare = list[float](), list[float]()
        for n in range(EVENTS):
            # Not in step with how often it looks.
            await asyncio.sleep(_PAUSE_S * (1 + n % 7) / 7)
            event = Envelope.root(Asked.__event__.type, source="/benchmarks", id=root_id(), correlation_id=root.id)
            said = await _say(stage, topic, codec, event)
            seen = await asyncio.gather(_until(lines, event.id), _until(records, event.id))
            ours.append(seen[0] - said)
            bare.append(seen[1] - said)
    return max(ours) * 1_000, max(0.000_1, *bare) * 1_000


def _heartbeat() -> AgentSeen:
    heard = Heard(type=Asked.__event__.type, topic=Asked.__event__.topic)
    return AgentSeen(
        agent="first",
        version="1",
        instance="1",
        started_us=0,
        time_us=now_us(),
        interval_s=3_600,
        hears=[heard],
        capacity=1,
    )


async def _say(stage: Stage, topic: str, codec: Codec, envelope: Envelope) -> float:
    await _put(stage, topic, envelope.correlation_id.encode(), codec.encode(asked(0)), to_headers(envelope))
    return time.monotonic()


async def _put(stage: Stage, topic: str, key: bytes, value: bytes, headers: list[tuple[str, bytes | None]]) -> None:
    await stage.bus.publish([Outgoing(topic, key, value, headers)])


Sightings = dict[str, float]
"""When what was seen first, by id."""


async def _until(seen: Sightings, id: str) -> float:
    deadline = time.monotonic() + _MOST_S
    while id not in seen:
        if time.monotonic() > deadline:
            message = f"expected {id} to be seen within {_MOST_S:g} s"
            raise TimeoutError(message)
        await asyncio.sleep(0.002)
    return seen[id]


@contextlib.asynccontextmanager
async def _printed(stage: Stage, names: Names, id: str) -> AsyncGenerator[Sightings]:
    """Run the command; note when the document it prints has an id first."""
    environment = {
        **os.environ,
        "ANTIPHON_BOOTSTRAP_SERVERS": stage.bootstrap,
        "ANTIPHON_NAMESPACE": names.namespace,
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "antiphon.cli", "trace", id, "--follow", "--json"),
        stdout=asyncio.subprocess.PIPE,
        env=environment,
        cwd=stage.folder,
    )
    seen: Sightings = {}

    async def listen() -> None:
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        async for line in process.stdout:
            text = line.decode().strip()
            if text.startswith('"id"'):
                seen.setdefault(text.split('"')[3], time.monotonic())

    listening = asyncio.create_task(listen())
    try:
        yield seen
    finally:
        process.kill()
        await process.wait()
        listening.cancel()


@contextlib.asynccontextmanager
async def _read(stage: Stage, topic: str) -> AsyncGenerator[Sightings]:
    """Read the topic; note when an event's record came."""
    seen: Sightings = {}

    async def listen() -> None:
        async for record in stage.bus.read({TopicPartition(topic, number): 0 for number in range(PARTITIONS)}):
            id = dict(record.headers)["ce_id"]
            seen.setdefault((id or b"").decode(), time.monotonic())

    listening = asyncio.create_task(listen())
    try:
        yield seen
    finally:
        listening.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await listening
