"""Readers of what the mesh says of itself: heartbeats and activity, as whoever reads them does."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import orjson
from corpus import Standing
from ground import NAMES, NOW_US, Ground, Reader
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

from antiphon.bus.activity import Activity
from antiphon.bus.contracts import of_workers
from antiphon.bus.heartbeat import AgentSeen
from antiphon.bus.record import Record
from antiphon.bus.roll import decoded, read_agents
from antiphon.bus.subscriptions import Subscriptions, subscriptions
from antiphon.compensation.advance import advance
from antiphon.compensation.kept import Kept, kept
from antiphon.compensation.workflow import Fact, Workflow
from antiphon.replay.bundle import write as write_bundle
from antiphon.replay.recording import Recording, StatesBefore, handlings
from antiphon.tracing.delivered import deliveries_of
from antiphon.tracing.index.database import Sqlite
from antiphon.tracing.index.rows import Holds, Source
from antiphon.tracing.index.rows import Reader as Rows
from antiphon.tracing.index.writing import Writer
from antiphon.tracing.otlp.sending import readable
from antiphon.tracing.spans.making import spans_of
from antiphon.tracing.workflow import stitch


class Telling:
    """Heartbeats and activity: asked, stitched, judged, indexed."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._index = Sqlite(None, writes=True)
        self._writer = Writer(self._index)
        self._indexed = 0

    def close(self) -> None:
        self._index.close()

    def readers(self) -> list[Reader]:
        """Return this part of the table."""
        one, some, topics = self._ground.one, self._ground.some, self._ground.corpus.topics
        activity = topics["antiphon.activity"]
        indexed = some("antiphon.activity", "antiphon.agents", "book.wanted", "book.lent")
        return [
            Reader("heartbeats", one(topics["antiphon.agents"]), self.heartbeat, (), 10),
            Reader("a roll of agents", some("antiphon.agents"), self.roll, (), 3),
            Reader("activity, stitched", one(activity), self.stitched, (), 8),
            Reader("activity, as spans", one(activity), self.spans, (), 3),
            Reader("activity, by the coordinator", one(activity), self.coordinated, (), 8),
            Reader("activity, recorded", one(activity), self.recorded, (), 5),
            Reader("an index", indexed, self.indexed, (), 5),
        ]

    async def heartbeat(self, record: Record) -> None:
        seen = await decoded(self._ground.codec, AgentSeen, record)
        if seen is not None:
            self._asked(subscriptions([seen], now_us=NOW_US))

    async def roll(self, records: Sequence[Record]) -> None:
        self._asked(subscriptions(await read_agents(Standing(records).bus, NAMES, self._ground.codec), now_us=NOW_US))

    def _asked(self, known: Subscriptions) -> None:
        of_workers(known, {})
        for type in known.heard:
            known.hearers(type, None)
            known.leads_to_undoable(type)
        for voices in known.agents.values():
            for seen in voices:
                seen.model_dump_json()
                known.declared(seen.agent, seen.version)

    async def stitched(self, record: Record) -> None:
        activity = await decoded(self._ground.codec, Activity, record)
        if activity is None:
            return
        for id in {handled.correlation_id for handled in activity.deliveries}:
            deliveries_of(id, [activity])
            workflow = stitch([], [activity], [], now_us=NOW_US, correlation_id=id)
            orjson.dumps(workflow.document())

    async def spans(self, record: Record) -> None:
        """As an OpenTelemetry collector is sent them."""
        activity = await decoded(self._ground.codec, Activity, record)
        if activity is None:
            return
        for id in {handled.correlation_id for handled in activity.deliveries}:
            workflow = stitch([], [activity], [], now_us=NOW_US, correlation_id=id)
            encode_spans([readable(span, "") for span in spans_of(workflow)]).SerializeToString()

    async def coordinated(self, record: Record) -> None:
        activity = await decoded(self._ground.codec, Activity, record)
        if activity is None:
            return
        for delivery in activity.deliveries:
            fact = Fact(activity.agent, delivery, tuple(activity.failing))
            workflow, _ = advance(Workflow(), fact, self._ground.mesh)
            said = orjson.loads(orjson.dumps(Kept(workflow, 1, 2).written()))
            assert kept(said).workflow == workflow

    async def recorded(self, record: Record) -> None:
        activity = await decoded(self._ground.codec, Activity, record)
        if activity is not None:
            told = handlings([activity])
            StatesBefore(told, {})
            write_bundle(Recording(handlings=told, events={}, changes={}), {})

    async def indexed(self, records: Sequence[Record]) -> None:
        """Rows, and an index that takes them, whatever they say; then what follows from them."""
        holds = {"antiphon.activity": Holds.ACTIVITY, "antiphon.agents": Holds.AGENTS}
        self._indexed += 1
        if self._indexed % 200 == 0:
            # Each would take longer than the one before: what follows is asked of all that is there.
            self._index.close()
            self._index = Sqlite(None, writes=True)
            self._writer = Writer(self._index)
        writer = self._writer
        sources = {
            topic: Source(writer.source(topic, "").no, holds.get(topic, Holds.EVENTS))
            for topic in sorted({record.topic for record in records})
        }
        rows = Rows(self._ground.codec, sources, writer.numbers).rows(
            [dataclasses.replace(record, appended=True) for record in records]
        )
        writer.write(rows)
        while writer.settle(now_us=NOW_US):
            pass
