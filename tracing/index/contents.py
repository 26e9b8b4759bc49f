"""What an index holds of one workflow, as it was read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import orjson

from antiphon.bus.activity import Emitted, Failure, Logged, Spent
from antiphon.schemas.codec import Codec, to_json
from antiphon.schemas.envelope import Envelope
from antiphon.schemas.errors import SchemaError, UnknownSchemaError
from antiphon.schemas.store import MemoryStore, Reference
from antiphon.tracing.delivered import Delivered
from antiphon.tracing.index.database import Database, Row
from antiphon.tracing.index.emitted import FAILS, TOLD, UNDO, emitted_in
from antiphon.tracing.index.keys import id_of
from antiphon.tracing.index.rows import Form
from antiphon.tracing.seen import SeenEvent

_AGAIN = """
SELECT e.id, e.time_us, e.more FROM events e JOIN replays r ON r.workflow = e.workflow
WHERE e.workflow = ? AND e.more IS NOT NULL
"""
_EVENTS = """
SELECT e.source, e.part, e.place, e.id, e.type, e.sayer, e.time_us, e.parent, e.hops, e.more, p.form, p.content
FROM events e LEFT JOIN payloads p
ON p.workflow = e.workflow AND p.source = e.source AND p.part = e.part AND p.place = e.place
WHERE e.workflow = ?
"""
_DELIVERIES = """
SELECT event, agent, started_us, instance, attempt, type, version, outcome, duration_us, queue_us, confidence, emitted, more
FROM deliveries WHERE workflow = ?
"""
_CALLS = """
SELECT event, agent, started_us, instance, attempt, model, input_tokens, output_tokens, cost, currency, begun_us, took_us FROM calls
WHERE workflow = ? ORDER BY event, agent, started_us, instance, attempt, call
"""
_MARK = b"."  # where it counts only that something can be undone


class Contents:
    """Reads workflows out of a database. What recurs is kept; `refresh` reads it again."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.names: dict[int, str] = {}
        self.topics: dict[int, str] = {}
        self._codec = Codec(MemoryStore())
        self._lacking: set[Reference] = set()
        """Schemas that were not there when they were looked for; whoever asks again for them opens it again."""
        self.refresh()

    def refresh(self) -> None:
        """Read what recurs again: names, topics, schemas."""
        self.names = dict(self._database.rows("SELECT no, name FROM names"))
        self.topics = dict(self._database.rows("SELECT no, topic FROM sources"))
        for reference, schema in self._database.rows("SELECT reference, schema FROM schemas"):
            number = int(reference[1:]) if reference.startswith("#") else bytes.fromhex(reference)
            if self._codec.known(number) is None:
                self._codec.know(number, orjson.loads(schema))

    def events(self, workflow: bytes, *, decoded: Callable[[str], bool] = lambda type: True) -> list[SeenEvent]:
        """Return the events of a workflow, one for each place at which one stands; the data only of types that are to be *decoded*."""
        id = id_of(workflow)
        rows = [*self._database.rows(_EVENTS, (workflow,))]
        if any(row[0] not in self.topics or row[4] not in self.names or row[5] not in self.names for row in rows):
            self.refresh()
        return [self._event(id, row, decoded) for row in rows]

    def replay_of(self, workflow: bytes) -> str | None:
        """Return the event that a live replay began a workflow with again; None: it is no replay."""
        again = [
            (id != workflow, time_us, id_of(id), found)
            for id, time_us, more in self._database.rows(_AGAIN, (workflow,))
            if (found := orjson.loads(more).get("replay_of")) is not None
        ]
        return min(again)[-1] if again else None

    def _event(self, correlation_id: str, row: Row, decoded: Callable[[str], bool]) -> SeenEvent:
        source, part, place, id, type, sayer, time_us, parent, hops, more, form, content = row
        rest: Mapping[str, Any] = orjson.loads(more) if more is not None else {}
        data, problem = self._data(form, content) if decoded(self.names[type]) else (None, None)
        topic, partition, offset = rest.get("origin", (self.topics[source], part, place))
        return SeenEvent(
            envelope=Envelope(
                id=id_of(id),
                type=self.names[type],
                source=self.names[sayer],
                time_us=time_us,
                correlation_id=correlation_id,
                parent_id=None if parent is None else id_of(parent),
                causes=tuple(rest.get("causes", ())),
                traceparent=rest.get("traceparent"),
                deadline_us=rest.get("deadline_us"),
                hops=hops,
                budget=rest.get("budget"),
                tenant=rest.get("tenant"),
                replay_of=rest.get("replay_of"),
                key=rest.get("key"),
            ),
            topic=topic,
            partition=partition,
            offset=offset,
            data=data,
            problem=problem,
        )

    def _data(self, form: int | None, content: bytes) -> tuple[Any, str | None]:
        match form:
            case Form.AVRO:
                return self._decoded(content)
            case Form.JSON:
                return orjson.loads(content), None
            case Form.PROBLEM:
                return None, content.decode()
            case _:
                return None, "the index does not hold it"

    def _decoded(self, value: bytes) -> tuple[Any, str | None]:
        try:
            try:
                return to_json(self._codec.shown(value)), None
            except UnknownSchemaError as error:
                if error.reference in self._lacking:
                    raise
                self._lacking.add(error.reference)
                self.refresh()
                return to_json(self._codec.shown(value)), None
        except SchemaError as error:
            return None, str(error)

    def data(self, workflow: bytes) -> Iterator[Any]:
        """Yield the data of a workflow's events, where it can be read."""
        for form, content in self._database.rows("SELECT form, content FROM payloads WHERE workflow = ?", (workflow,)):
            data, problem = self._data(form, content)
            if problem is None:
                yield data

    def deliveries(self, workflow: bytes) -> list[Delivered]:
        """Return the deliveries of a workflow, each once, in order."""
        calls: dict[Row, list[Spent]] = {}
        for row in self._database.rows(_CALLS, (workflow,)):
            *known_by, model, input_tokens, output_tokens, cost, currency, begun_us, took_us = row
            calls.setdefault(tuple(known_by), []).append(
                Spent(
                    model=self.name(model),
                    input_tokens=input_tokens,
                    output_tokens=output_tokens,
                    cost=cost,
                    currency=currency,
                    started_us=begun_us,
                    duration_us=took_us,
                )
            )
        found = [self._delivered(row, calls) for row in self._database.rows(_DELIVERIES, (workflow,))]
        return sorted(found, key=Delivered.rank)

    def _delivered(self, row: Row, calls: Mapping[Row, list[Spent]]) -> Delivered:
        event, agent, started_us, instance, attempt = known_by = row[:5]
        type, version, outcome, duration_us, queue_us, confidence, emitted, more = row[5:]
        rest: Mapping[str, Any] = orjson.loads(more) if more is not None else {}
        error = rest.get("error")
        return Delivered(
            event_id=id_of(event),
            event_type=self.name(type),
            agent=self.name(agent),
            version=self.name(version),
            instance=self.name(instance),
            attempt=attempt,
            outcome=self.name(outcome),
            started_us=started_us,
            duration_us=duration_us,
            queue_us=queue_us,
            emitted=tuple(self._emitted(emitted)) if emitted is not None else (),
            error=None if error is None else Failure(**error),
            usage=tuple(calls.get(known_by, ())),
            confidence=confidence,
            logs=tuple(Logged(**line) for line in rest.get("logs", ())),
        )

    def name(self, number: int) -> str:
        """Return the text that *number* stands for."""
        if number not in self.names:
            self.refresh()
        return self.names[number]

    def _emitted(self, packed: bytes) -> Iterator[Emitted]:
        for id, type, marks in emitted_in(packed):
            yield Emitted(
                id=id_of(id),
                type=self.name(type),
                fails=bool(marks & FAILS),
                undo=_MARK if marks & UNDO else None,
                told=_MARK if marks & TOLD else None,
            )
