"""Everything that reads bytes from outside: what it is given, how it reads, and the errors that it is known to raise.

A reader goes as far as the mesh does with what it has read: headers are handed
on, a heartbeat is asked who hears what, activity is stitched, indexed and judged.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import random
import zlib
from collections.abc import Awaitable, Callable, Sequence
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeAlias

import orjson
from corpus import Corpus, Standing, fingerprint_of
from keeping import classes
from mutator import Mutator
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from troupe import BookWanted, moving

from antiphon.bus.activity import Activity
from antiphon.bus.claim import DATAREF, in_full
from antiphon.bus.contracts import of_workers, read_schemas
from antiphon.bus.delivery import State
from antiphon.bus.errors import ClaimError
from antiphon.bus.guard import over_limit
from antiphon.bus.heartbeat import AgentSeen
from antiphon.bus.intervention import SagaIntervened
from antiphon.bus.names import Names
from antiphon.bus.offsets import Progress
from antiphon.bus.record import Committed, Record, TopicPartition
from antiphon.bus.redrive import note_in, origin_of, redriven, unsettled
from antiphon.bus.roll import decoded, read_agents
from antiphon.bus.schema_topic import TopicStore
from antiphon.bus.state import PartitionState, StateDamagedError, StateNotJsonError
from antiphon.bus.subscriptions import Subscriptions, subscriptions
from antiphon.compensation.advance import advance, intervene
from antiphon.compensation.errors import UnknownSagaVersionError
from antiphon.compensation.examined import workable
from antiphon.compensation.kept import Kept, kept
from antiphon.compensation.locks import read as read_lock
from antiphon.compensation.reading import read_locks, read_workflows
from antiphon.compensation.runs import Runs
from antiphon.compensation.store import Workflows
from antiphon.compensation.workflow import Fact, Workflow
from antiphon.replay.bundle import read as read_bundle
from antiphon.replay.bundle import write as write_bundle
from antiphon.replay.diff import of_reports, read_report
from antiphon.replay.errors import BundleError, NoReportError
from antiphon.replay.letter import letter_of
from antiphon.replay.recording import Recording, StatesBefore, handlings
from antiphon.schemas.codec import Codec, reference_of, to_json
from antiphon.schemas.compatibility import mismatches
from antiphon.schemas.condition import Condition
from antiphon.schemas.difference import differences
from antiphon.schemas.envelope import Envelope, from_headers, to_headers
from antiphon.schemas.errors import (
    ConditionError,
    InvalidDataError,
    NotAnEventError,
    RegistryError,
    SchemaError,
    UnsupportedSchemaError,
)
from antiphon.schemas.event import Event
from antiphon.schemas.generate import class_from_schema
from antiphon.schemas.input import event_from_json
from antiphon.schemas.registry import RegistryStore
from antiphon.schemas.store import AvroSchema, Framing, Reference
from antiphon.testing.registry import RegistryServer
from antiphon.tracing.delivered import deliveries_of
from antiphon.tracing.finding import window_ms
from antiphon.tracing.index.database import Sqlite
from antiphon.tracing.index.keys import id_of, key_of
from antiphon.tracing.index.rows import Holds, Source
from antiphon.tracing.index.rows import Reader as Rows
from antiphon.tracing.index.writing import Writer
from antiphon.tracing.otlp.sending import readable
from antiphon.tracing.records import event_in
from antiphon.tracing.spans.making import spans_of
from antiphon.tracing.workflow import stitch

NOW_US = 1_764_410_000_000_000
NAMES = Names()

Read: TypeAlias = Callable[[Any], Awaitable[object]]


@dataclasses.dataclass(frozen=True)
class Reader:
    """One reader."""

    name: str
    spoilt: Callable[[Mutator], Any]
    """Makes what it is given."""
    read: Read
    errors: tuple[type[Exception], ...] = ()
    """What it may raise; anything else is a defect."""
    weight: int = 10
    """How often it is chosen, beside the others."""


class World:
    """The readers over one corpus, and what they share."""

    def __init__(self, corpus: Corpus, folder: Path) -> None:
        self.corpus = corpus
        self._folder = folder
        self.codec = corpus.codec()
        self.classes = classes()
        self._index = Sqlite(None, writes=True)
        self._writer = Writer(self._index)
        self._indexed = 0
        self._registry: RegistryServer | None = None

    def close(self) -> None:
        self._index.close()
        if self._registry is not None:
            self._registry.close()

    @cached_property
    def registry(self) -> RegistryServer:
        self._registry = RegistryServer()
        return self._registry

    def readers(self) -> Sequence[Reader]:
        """Return the table."""
        corpus = self.corpus

        def one(records: Sequence[Record]) -> Callable[[Mutator], Record]:
            return lambda mutator: mutator.record(mutator.draw.choice(records))

        def value(records: Sequence[Record]) -> Callable[[Mutator], bytes]:
            return lambda mutator: mutator.content(
                corpus.framed(mutator.draw.choice(records).value or b"", mutator.draw)
            )

        def state(records: Sequence[Record]) -> Callable[[Mutator], tuple[str, bytes]]:
            def spoilt(mutator: Mutator) -> tuple[str, bytes]:
                record = mutator.draw.choice(records)
                document = mutator.json(json.loads(record.value or b""))
                text = json.dumps(document).encode()
                return (record.key or b"").decode(), mutator.content(text) if mutator.draw.random() < 0.3 else text

            return spoilt

        def some(*topics: str) -> Callable[[Mutator], list[Record]]:
            records = [record for topic in topics for record in corpus.topics[topic]]

            def spoilt(mutator: Mutator) -> list[Record]:
                found = [mutator.draw.choice(records) for _ in range(4)]
                return [mutator.record(record) if mutator.draw.random() < 0.5 else record for record in found]

            return spoilt

        def schema(mutator: Mutator) -> AvroSchema:
            found: AvroSchema = mutator.json(mutator.draw.choice(corpus.schemas))
            return found

        activity, agents = corpus.topics["antiphon.activity"], corpus.topics["antiphon.agents"]
        claimed = [record for record in corpus.events if not record.value]
        letters = [record for topic, found in corpus.topics.items() if topic.endswith(".dead") for record in found]
        undoing = [
            record for record in corpus.events if record.topic.startswith("antiphon.") or ".undo" in record.topic
        ]
        schemas = (SchemaError,)
        damaged = (StateDamagedError,)
        return [
            Reader("headers", one(corpus.events), self.headers, (NotAnEventError,), 20),
            Reader("values, as their classes", one(corpus.events), self.event, schemas, 30),
            Reader("values, without classes", value(corpus.events), self.untyped, schemas, 20),
            Reader("the mesh's own events", one(undoing), self.event, schemas, 10),
            Reader("references to large values", one(claimed), self.claim, (ClaimError,), 2),
            Reader("records of schemas", some("antiphon.schemas"), self.schema_topic, (), 3),
            Reader("schemas, as writers'", schema, self.schema, schemas, 5),
            Reader("schemas, by the gate", schema, self.gate, (UnsupportedSchemaError,), 2),
            Reader("schemas, as classes", schema, self.generated, schemas, 1),
            Reader("answers of a registry", self.answer, self.registered, (RegistryError,), 1),
            Reader("bundles", self.bundled, self.bundle, (BundleError,), 2),
            Reader("bundles that were edited", self.edited, self.bundle, (BundleError, *schemas), 3),
            Reader("reports of replays", self.reported, self.report, (NoReportError,), 2),
            Reader("heartbeats", one(agents), self.heartbeat, (), 10),
            Reader("a roll of agents", some("antiphon.agents"), self.roll, (), 3),
            Reader("activity, stitched", one(activity), self.stitched, (), 8),
            Reader("activity, as spans", one(activity), self.spans, (), 3),
            Reader("activity, by the coordinator", one(activity), self.coordinated, (), 8),
            Reader("activity, recorded", one(activity), self.recorded, (), 5),
            Reader(
                "an index",
                some("antiphon.activity", "antiphon.agents", "book.wanted", "book.lent"),
                self.indexed,
                (),
                5,
            ),
            Reader("metadata of commits", self.metadata, self.progress, (), 15),
            Reader("state", state(corpus.states), self.state, (*damaged, StateNotJsonError), 10),
            Reader("workflows in state", state(corpus.under()), self.workflow, damaged, 10),
            Reader("locks in state", state(corpus.under("antiphon:lock/")), self.lock, damaged, 3),
            Reader("the agenda in state", state(corpus.under("antiphon:agenda")), self.agenda, damaged, 3),
            Reader(
                "runs of sagas in state",
                state(corpus.under(topic="moving.state")),
                self.run,
                (*damaged, UnknownSagaVersionError, InvalidDataError),
                8,
            ),
            Reader("state, from outside", some("compensation.state", "moving.state"), self.from_outside, (), 5),
            Reader("an operator's word", one(corpus.topics["antiphon.saga.events"]), self.word, (), 5),
            Reader("dead letters", one(letters), self.letter, (), 8),
            Reader("events handed in again", one(corpus.topics["archive.redrive"]), self.redriven, (), 5),
            Reader("JSON that people type", self.typed, self.json, (InvalidDataError,), 5),
            Reader("conditions that people type", self.asked, self.condition, (ConditionError,), 2),
        ]

    # What is on a topic of events.

    async def headers(self, record: Record) -> None:
        """Read, ask the guards, and hand on what an answer inherits."""
        envelope = from_headers(record.headers, key=record.key, timestamp_ms=record.timestamp_ms)
        over_limit(envelope, (), max_hops=100)
        key = key_of(envelope.correlation_id)
        assert id_of(key) == envelope.correlation_id
        window_ms(envelope.correlation_id)
        answer = Envelope(
            id=envelope.id,
            type=envelope.type,
            source=envelope.source,
            time_us=envelope.time_us,
            correlation_id=envelope.correlation_id,
            parent_id=envelope.id,
            causes=envelope.causes,
            traceparent=envelope.traceparent,
            deadline_us=envelope.deadline_us,
            hops=envelope.hops + 1,
            budget=envelope.budget,
            tenant=envelope.tenant,
            replay_of=envelope.replay_of,
            key=envelope.key,
        )
        headers = to_headers(answer)
        key_text = answer.correlation_id if answer.key is None else answer.key
        again = from_headers(headers, key=key_text.encode(), timestamp_ms=0)
        # What was handed on is read as it was, but for causes, of which the comma is no part.
        assert dataclasses.replace(again, causes=(), hops=0) == dataclasses.replace(answer, causes=(), hops=0)
        orjson.dumps(dataclasses.asdict(again))

    async def event(self, record: Record) -> None:
        found = from_headers(record.headers, key=record.key, timestamp_ms=record.timestamp_ms)
        event_class = self.classes.get(found.type, BookWanted)
        event = self.codec.decode(event_class, record.value or b"")
        orjson.dumps(to_json(event))
        await self._announced(event_class)
        self.codec.encode(event)

    async def _announced(self, event_class: type[Event]) -> None:
        await self.codec.announce([event_class])

    async def untyped(self, value: bytes) -> None:
        reference_of(value)
        self.codec.read_raw(value)
        orjson.dumps(to_json(self.codec.shown(value)))

    async def claim(self, record: Record) -> None:
        in_full(record)
        headers = [(name, said) for name, said in record.headers]
        if DATAREF in dict(headers):
            await self.corpus.kept.store().value_of(dataclasses.replace(record, value=None))

    # Schemas.

    async def schema_topic(self, records: Sequence[Record]) -> None:
        bus = Standing(records).bus
        store = TopicStore(bus, NAMES, partitions=1)
        for type in await store.types():
            await store.latest(type)
        await read_schemas(bus, NAMES)
        codec = Codec(store)
        for record in records:
            with contextlib.suppress(SchemaError, ValueError):
                await codec.learn(bytes.fromhex((record.key or b"").decode()))

    async def schema(self, schema: AvroSchema) -> None:
        """Learn it as a registry's, and read with it what was written with another."""
        codec = Codec(_One(schema))
        await codec.learn(1)
        for record in self.corpus.events[:3]:
            value = b"\x00\x00\x00\x00\x01" + (record.value or b"")[10:]
            with contextlib.suppress(SchemaError):
                orjson.dumps(to_json(codec.shown(value)))
            with contextlib.suppress(SchemaError):
                codec.read_raw(value)
            with contextlib.suppress(SchemaError):
                orjson.dumps(to_json(codec.decode(BookWanted, value)))

    async def gate(self, schema: AvroSchema) -> None:
        if not isinstance(schema, dict):
            return  # the topic of schemas, and a registry, let no other through
        mismatches(schema, BookWanted)
        mismatches(self.corpus.schemas[0], schema)
        differences(self.corpus.schemas[0], schema)

    async def generated(self, schema: AvroSchema) -> None:
        if isinstance(schema, dict):
            class_from_schema(schema)

    def answer(self, mutator: Mutator) -> tuple[int, bytes]:
        schema = json.dumps(mutator.draw.choice(self.corpus.schemas))
        body: Any = {
            "subject": "a-value",
            "version": 1,
            "id": 7,
            "schema": schema,
            "schemaType": "AVRO",
            "references": [],
        }
        body = mutator.draw.choice((body, ["a-value", "b-value"], {"error_code": 40403, "message": "not found"}))
        text = json.dumps(mutator.json(body)).encode()
        return mutator.draw.choice((200, 200, 200, 404, 409, 422)), mutator.content(
            text
        ) if mutator.draw.random() < 0.3 else text

    async def registered(self, answer: tuple[int, bytes]) -> None:
        self.registry.answer = answer
        store = RegistryStore(self.registry.url, timeout_s=5)
        try:
            for ask in (
                lambda: store.fetch(7),
                lambda: store.latest("a"),
                store.types,
                lambda: store.publish("a", self.corpus.schemas[0]),
            ):
                with contextlib.suppress(RegistryError):
                    await ask()
        finally:
            store.close()

    # Files.

    @cached_property
    def _bundle(self) -> bytes:
        activity = [
            self.codec.decode(Activity, record.value or b"") for record in self.corpus.topics["antiphon.activity"]
        ]
        told = handlings(activity)
        events = {
            dict(record.headers)["ce_id"].decode(): record  # type: ignore[union-attr]  # every event has one
            for record in self.corpus.events
            if record.value
        }
        wanted = {one.entry.event_id for one in told}
        recording = Recording(
            handlings=told, events={id: one for id, one in events.items() if id in wanted}, changes={"counter": []}
        )
        return write_bundle(recording, {fingerprint_of(schema): schema for schema in self.corpus.schemas[:12]})

    def bundled(self, mutator: Mutator) -> bytes:
        return mutator.content(self._bundle)

    def edited(self, mutator: Mutator) -> bytes:
        """A document that somebody has changed, with a head that fits it."""
        document = mutator.json(json.loads(zlib.decompress(self._bundle.partition(b"\n")[2])))
        body = json.dumps(document).encode()
        head = {"antiphon_bundle": 1, "length": len(body), "sha256": sha256(body).hexdigest()}
        if mutator.draw.random() < 0.1:
            head = mutator.json(head)
        return json.dumps(head).encode() + b"\n" + zlib.compress(body, 1)

    async def bundle(self, content: bytes) -> None:
        file = self._folder / "spoilt.antiphon"
        file.write_bytes(content)
        recording, schemas = read_bundle(file)
        StatesBefore(recording.handlings, recording.changes)
        recording.gone()
        codec = Codec(schemas)
        await schemas.types()
        for record in [*recording.events.values()][:3]:
            await event_in(record, NAMES, codec)

    def reported(self, mutator: Mutator) -> bytes:
        item: dict[str, Any] = {"event_id": "e", "agent": "a", "kind": "missing", "type": "t", "fields": []}
        document: dict[str, Any] = {"workflows": 1, "same": 1, "different": 1, "differences": [item], "skipped": [item]}
        text = json.dumps(mutator.json(document)).encode()
        return mutator.content(text) if mutator.draw.random() < 0.3 else text

    async def report(self, content: bytes) -> None:
        file = self._folder / "spoilt.json"
        file.write_bytes(content)
        report = read_report(file)
        of_reports(report, report)

    # What the mesh says of itself.

    async def heartbeat(self, record: Record) -> None:
        seen = await decoded(self.codec, AgentSeen, record)
        if seen is not None:
            self._asked(subscriptions([seen], now_us=NOW_US))

    async def roll(self, records: Sequence[Record]) -> None:
        self._asked(subscriptions(await read_agents(Standing(records).bus, NAMES, self.codec), now_us=NOW_US))

    def _asked(self, known: Subscriptions) -> None:
        of_workers(known, {})
        for type in known.heard:
            known.hearers(type, None)
            known.leads_to_undoable(type)
        for voices in known.agents.values():
            for seen in voices:
                seen.model_dump_json()
                known.declared(seen.agent, seen.version)

    @cached_property
    def _mesh(self) -> Subscriptions:
        seen = [self.codec.decode(AgentSeen, record.value or b"") for record in self.corpus.topics["antiphon.agents"]]
        return subscriptions(seen, now_us=NOW_US)

    async def stitched(self, record: Record) -> None:
        activity = await decoded(self.codec, Activity, record)
        if activity is None:
            return
        for id in {handled.correlation_id for handled in activity.deliveries}:
            deliveries_of(id, [activity])
            workflow = stitch([], [activity], [], now_us=NOW_US, correlation_id=id)
            orjson.dumps(workflow.document())

    async def spans(self, record: Record) -> None:
        """As an OpenTelemetry collector is sent them."""
        activity = await decoded(self.codec, Activity, record)
        if activity is None:
            return
        for id in {handled.correlation_id for handled in activity.deliveries}:
            workflow = stitch([], [activity], [], now_us=NOW_US, correlation_id=id)
            encode_spans([readable(span, "") for span in spans_of(workflow)]).SerializeToString()

    async def coordinated(self, record: Record) -> None:
        activity = await decoded(self.codec, Activity, record)
        if activity is None:
            return
        for delivery in activity.deliveries:
            fact = Fact(activity.agent, delivery, tuple(activity.failing))
            workflow, _ = advance(Workflow(), fact, self._mesh)
            said = orjson.loads(orjson.dumps(Kept(workflow, 1, 2).written()))
            assert kept(said).workflow == workflow

    async def recorded(self, record: Record) -> None:
        activity = await decoded(self.codec, Activity, record)
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
        rows = Rows(self.codec, sources, writer.numbers).rows(
            [dataclasses.replace(record, appended=True) for record in records]
        )
        writer.write(rows)
        while writer.settle(now_us=NOW_US):
            pass

    # What a group keeps.

    def metadata(self, mutator: Mutator) -> Committed:
        committed, _ = mutator.draw.choice(self.corpus.kept.metadata)
        text = mutator.content(committed.metadata.encode()).decode(errors="replace")
        return Committed(mutator.draw.choice((committed.offset, 0, 2**62, committed.offset + 1)), text)

    async def progress(self, committed: Committed) -> None:
        progress = Progress.from_committed(committed)
        for offset in range(committed.offset, committed.offset + 20):
            if progress.take(offset) and offset % 2:
                progress.finish(offset)
        assert progress.committed().offset >= committed.offset
        assert isinstance(progress.full, bool)

    # State.

    def _state(self, said: tuple[str, bytes]) -> State:
        key, value = said
        state = PartitionState("any.state", 0)
        state.restored(key, value, 1)
        return state.view()

    async def state(self, said: tuple[str, bytes]) -> None:
        key, value = said
        state = PartitionState("any.state", 0)
        state.restored(key, value, 1)
        state.without_remembered({}, key, "an event")
        state.expired(2, 10)
        view = state.view()
        view.mapping(key)["more"] = 1
        state.store(view.changed())
        state.load(key)

    async def workflow(self, said: tuple[str, bytes]) -> None:
        """Look at it as the coordinator does when its time has come, and keep it."""
        workflows = Workflows(self._state(said), now_us=NOW_US, linger_us=1_000_000)
        workflow = workflows[said[0]]
        try:
            after, _ = advance(workflow, self._fact(said[0]), self._mesh)
            workflows[said[0]] = after
            list(workflows.store())
        except Exception:
            workflows.examine(said[0])
            raise

    def _fact(self, id: str) -> Fact:
        told = [record for record in self.corpus.topics["antiphon.activity"] if id.encode() in (record.value or b"")]
        activity = self.codec.decode(Activity, (told or self.corpus.topics["antiphon.activity"])[0].value or b"")
        return Fact(activity.agent, activity.deliveries[0], tuple(activity.failing))

    async def lock(self, said: tuple[str, bytes]) -> None:
        mapping = self._state(said).mapping(said[0])
        with workable(mapping, said[0]):
            read_lock(mapping)

    async def agenda(self, said: tuple[str, bytes]) -> None:
        workflows = Workflows(self._state(said), now_us=NOW_US * 2, linger_us=1_000_000)
        list(workflows.due())
        assert workflows.next_us is None or isinstance(workflows.next_us, int)

    async def run(self, said: tuple[str, bytes]) -> None:
        runs = Runs(moving, self._state(said), now_us=NOW_US)
        with workable(runs.of(said[0]), said[0], saga=True):
            for run in [*runs.of(said[0]).values()]:
                if runs.misfit(run) is None:
                    runs.write(said[0], runs.read(run))
            list(runs.released(said[0]))
        list(runs.overdue())

    async def from_outside(self, records: Sequence[Record]) -> None:
        bus = Standing(records).bus
        await read_workflows(bus, NAMES, ["moving"], [0])
        await read_locks(bus, NAMES, [0])

    async def word(self, record: Record) -> None:
        said = await decoded(self.codec, SagaIntervened, record)
        if said is not None:
            intervene(Workflow(), said, "word", self._mesh)

    # What was set aside.

    async def letter(self, record: Record) -> None:
        letter = letter_of(record, NAMES)
        orjson.dumps(letter.document())
        note_in(record)
        unsettled([record, record])
        redriven("archive.redrive", record, origin=letter.origin)
        await event_in(record, NAMES, self.codec, self.corpus.kept.store())

    async def redriven(self, record: Record) -> None:
        place = origin_of(record)
        if place is not None:
            TopicPartition(place.topic, place.partition)
            orjson.dumps([*place])
        again = redriven("archive.redrive", record, origin=letter_of(record, NAMES).origin)
        assert again.partition == record.partition

    # What people type.

    def typed(self, mutator: Mutator) -> bytes:
        data = {"book": "Emma", "member": "ann", "pages": "x"}
        text = json.dumps(mutator.json(data)).encode()
        return mutator.content(text) if mutator.draw.random() < 0.5 else text

    async def json(self, text: bytes) -> None:
        event_from_json(BookWanted, text)

    def asked(self, mutator: Mutator) -> str:
        return mutator.content(mutator.draw.choice((b"amount>100", b"customer.country=DE", b"body~refund"))).decode(
            errors="replace"
        )

    async def condition(self, text: str) -> None:
        Condition.parse(text).holds({"amount": 7, "customer": {"country": "DE"}, "body": "a refund"})


class _One:
    """A store that has one schema, whatever it is asked for."""

    framing = Framing.CONFLUENT

    def __init__(self, schema: AvroSchema) -> None:
        self._schema = schema

    async def publish(self, topic: str, schema: AvroSchema) -> Reference:
        return 1

    async def fetch(self, reference: Reference) -> AvroSchema | None:
        # Whoever fetches has seen to it that it is an object.
        return self._schema if isinstance(self._schema, dict) else None

    async def latest(self, type: str) -> AvroSchema | None:
        return None

    async def types(self) -> list[str]:
        return []


def drawn(seed: int, number: int) -> random.Random:
    """Return what draws the case of a number: each comes again by itself."""
    return random.Random(f"{seed}:{number}")
