"""What spoilt records have found, each as it was found: it is read, or refused by name, ever since."""

from __future__ import annotations

import contextlib
import json
import zlib
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

from antiphon.bus.activity import Activity, Emitted, Handled, Spent
from antiphon.bus.heartbeat import AgentSeen
from antiphon.bus.memory import MemoryBus
from antiphon.bus.names import Names
from antiphon.bus.port import TopicSpec
from antiphon.bus.record import Outgoing, Position, Record
from antiphon.bus.redrive import COUNT, FROM, SETTLED, count_of, note_in, origin_of
from antiphon.bus.state import REMEMBERED, PartitionState, StateDamagedError
from antiphon.compensation.agenda import Agenda
from antiphon.compensation.coordinator import coordinator
from antiphon.compensation.examined import examine
from antiphon.compensation.reading import read_kept
from antiphon.compensation.workflow import Phase
from antiphon.replay.bundle import read
from antiphon.replay.diff import read_report
from antiphon.replay.errors import BundleError, NoReportError
from antiphon.replay.letter import letter_of
from antiphon.schemas.avro import schema_of
from antiphon.schemas.codec import Codec
from antiphon.schemas.compatibility import mismatches
from antiphon.schemas.envelope import Envelope, format_time, from_headers, now_us, parse_time, to_headers
from antiphon.schemas.errors import (
    DecodeError,
    InvalidDataError,
    NotAnEventError,
    RegistryError,
    UnsupportedSchemaError,
)
from antiphon.schemas.input import event_from_json
from antiphon.schemas.registry import RegistryStore
from antiphon.schemas.store import MemoryStore
from antiphon.testing.mesh import MemoryMesh
from antiphon.testing.registry import RegistryServer
from antiphon.testing.waiting import eventually
from antiphon.tracing.index.index import Index
from antiphon.tracing.index.search import Search
from antiphon.tracing.otlp.sending import readable
from antiphon.tracing.spans.making import spans_of
from antiphon.tracing.workflow import stitch
from tests.tracing.reading import Read

Headers = list[tuple[str, bytes | None]]
EVENT: Headers = [("ce_id", b"e"), ("ce_type", b"a.b"), ("ce_source", b"/a")]


def envelope(*more: tuple[str, bytes], timestamp_ms: int = 0) -> Envelope:
    return from_headers([*EVENT, *more], key=None, timestamp_ms=timestamp_ms)


def record(headers: Headers) -> Record:
    return Record("archive.dead", 0, 7, b"k", b"", headers, 0)


@pytest.mark.parametrize(
    "text", ["9999-12-31T23:59:59.999999-23:59", "0001-01-01T00:00:00+23:59", "0001-01-01T00:00:00.000000+00:01"]
)
def test_a_deadline_that_no_year_holds(text: str) -> None:
    """It was read, and then could not be handed on with what the handler said: refused where it is read."""
    with pytest.raises(ValueError, match="expected a time of the years 1 to 9999"):
        parse_time(text)
    with pytest.raises(NotAnEventError):
        envelope(("ce_deadline", text.encode()))


def test_a_year_of_fewer_than_four_digits() -> None:
    """It was handed on with fewer, and nobody could read it."""
    time_us = parse_time("0987-01-02T03:04:05.000006Z")
    assert format_time(time_us) == "0987-01-02T03:04:05.000006Z"


@pytest.mark.parametrize("timestamp_ms", [2**63 - 1, -(2**63)])
def test_a_timestamp_that_no_year_holds(timestamp_ms: int) -> None:
    """An event without a time of its own has the broker's, and that may be anybody's."""
    headers = to_headers(envelope(timestamp_ms=timestamp_ms))
    assert from_headers(headers, key=None, timestamp_ms=0).time_us == envelope(timestamp_ms=timestamp_ms).time_us


def test_hops_below_none_evade_no_limit() -> None:
    """Below 0, an event would go in a circle for longer than it may, or for ever."""
    assert (envelope(("ce_hops", b"-1000")).hops, envelope(("ce_hops", b"9" * 30)).hops) == (0, 2**31)


def test_numbers_of_thousands_of_digits_in_a_redrive() -> None:
    """Python reads no number that long, and whoever listed the letters was shown a traceback."""
    digits = b"9" * 5_000
    spoilt = record([(COUNT, digits), (FROM, b"orders[0]@" + digits), (SETTLED, digits)])
    assert (count_of(spoilt), origin_of(spoilt), note_in(spoilt)) == (0, None, None)
    letter = letter_of(record([("antiphon_dead_offset", digits), ("antiphon_dead_partition", b"\xc2\xb2")]), Names())
    assert letter.origin == Position("", 0, 0)


def test_an_origin_beyond_all_offsets() -> None:
    """No index holds it: the tracer ended where it was read."""
    assert origin_of(record([(FROM, b"orders[0]@" + b"9" * 25)])) is None


@pytest.mark.parametrize("value", [b"\xff", b"[1]", b"7", b'{"a": '])
def test_state_that_is_no_mapping(value: bytes) -> None:
    """It was the handler's error then, tried again and again; and where results of side effects stood, nobody's: the event hung."""
    state = PartitionState("a.state", 0)
    state.restored("k", value, None)
    with pytest.raises(StateDamagedError, match="expected state as this agent writes it under 'k', got"):
        state.view().mapping("k")
    spoilt = b'["' + REMEMBERED.encode() + b'"]'
    state.restored("k", spoilt, None)
    assert state.without_remembered({}, "k", "e") == {}


def test_an_agenda_of_countless_pages() -> None:
    """It was read page by page, for ever."""
    state = PartitionState("compensation.state", 0)
    state.restored("antiphon:agenda", json.dumps({"1": 2**53}).encode(), None)
    with pytest.raises(StateDamagedError, match="an agenda that cannot be read"):
        Agenda(state.view()).due(2)


async def test_a_workflow_in_state_that_cannot_be_read_hides_no_other() -> None:
    """`antiphon saga list` was a traceback, whichever was asked for."""
    bus, names = MemoryBus(partitions=1), Names()
    await bus.create([TopicSpec("compensation.state", 1)])
    good = json.dumps({"workflow": {"ended": True}, "touched_us": 1, "due_us": 2}).encode()
    values = {b"good": good, b"no json": b"{", b"\xff": good[:-1], b"other": b'{"workflow": {"events": [1]}}'}
    await bus.publish([Outgoing("compensation.state", key, value, [], 0) for key, value in values.items()])
    assert {*await read_kept(bus, names, [0])} == {"good"}


def bundle(document: object, **head: object) -> bytes:
    body = json.dumps(document).encode()
    said = {"antiphon_bundle": 1, "length": len(body), "sha256": sha256(body).hexdigest(), **head}
    return json.dumps(said).encode() + b"\n" + zlib.compress(body)


@pytest.mark.parametrize(
    "content",
    [
        bundle({"handlings": [], "events": {}, "changes": {}, "schemas": [[7, ["no object"]]]}),
        bundle({"handlings": [], "events": {}, "changes": {}, "schemas": []}, length=1e308),
    ],
    ids=["a schema that is no object", "a length that is no number"],
)
def test_bundles_that_somebody_has_edited(content: bytes, tmp_path: Path) -> None:
    """With a hash that fits."""
    path = tmp_path / "edited.antiphon"
    path.write_bytes(content)
    with pytest.raises(BundleError):
        read(path)


async def test_activity_of_times_and_tokens_that_no_database_adds_up(tmp_path: Path) -> None:
    """One such record, and a tracer ended at it, again and again: it counts as one that cannot be read."""
    codec = Codec(MemoryStore())
    await codec.announce([Activity])
    odd: list[dict[str, Any]] = [
        {"started_us": 2**62, "duration_us": 2**62},
        {"usage": [Spent(model="m", input_tokens=2**62)]},
    ]
    records = [
        Record("antiphon.activity", 0, number, None, codec.encode(activity(**more)), [], 2**63 - 1, appended=True)
        for number, more in enumerate([*odd, {}])
    ]
    read = Read(tmp_path / "index.db", codec)
    read.take(records)
    read.settle(now_us())
    read.database.close()
    with Index.opened(tmp_path / "index.db") as index:
        assert [one.correlation_id for one in index.workflows(Search())] == ["w"]


def activity(**more: Any) -> Activity:
    handled: dict[str, Any] = {
        "event_id": "e",
        "event_type": "a.b",
        "correlation_id": "w",
        "topic": "a.b",
        "partition": 0,
        "offset": 0,
        "attempt": 1,
        "outcome": "completed",
        "started_us": 1,
        "duration_us": 1,
        "queue_us": 0,
    }
    return Activity(agent="a", version="1", instance="i", deliveries=[Handled(**{**handled, **more})])


def test_a_time_that_a_collector_cannot_be_told() -> None:
    """All that was sent with it was refused with it."""
    workflow = stitch([], [activity(started_us=2**62)], [], now_us=0, correlation_id="w")
    spans = [readable(span, "") for span in spans_of(workflow)]
    assert len(encode_spans(spans).SerializeToString()) > 0


@pytest.mark.parametrize("name", [7, None, True])
async def test_a_field_whose_name_is_no_text(name: object) -> None:
    """Whoever read an event of such a schema, or asked the gate, got a traceback."""
    schema = {"type": "record", "name": "Odd", "fields": [{"name": name, "type": "long"}]}
    with pytest.raises(DecodeError):
        Codec(MemoryStore()).know(1, schema)
    with pytest.raises(UnsupportedSchemaError):
        mismatches(schema, AgentSeen)


@pytest.mark.parametrize("said", [{"type": "{}"}, {"type": "a.b", "key": "no field"}, "a text"])
def test_a_class_line_that_no_class_can_have(said: object) -> None:
    """The gate asks who reads an event of everybody, a stranger's schema included: it refuses that one alone."""
    schema = {"type": "record", "name": "Odd", "fields": [{"name": "a", "type": "long"}], "antiphon": said}
    with contextlib.suppress(UnsupportedSchemaError):
        assert isinstance(mismatches(schema_of(AgentSeen), schema), list)
    assert isinstance(mismatches(schema, AgentSeen), list)


@pytest.mark.parametrize("body", [b'["a-value", {}]', b'{"schema": {"type": "record"}}', b'{"schema": ["x"]}', b"7"])
async def test_a_registry_that_answers_in_a_way_of_its_own(body: bytes) -> None:
    """JSON, and not what was asked for."""
    with RegistryServer() as registry:
        registry.answer = (200, body)
        store = RegistryStore(registry.url)
        for ask in (store.types(), store.fetch(7), store.latest("a")):
            with contextlib.suppress(RegistryError):
                await ask
        store.close()


def test_a_number_of_thousands_of_digits_that_somebody_types() -> None:
    """As `antiphon publish` reads them."""
    with pytest.raises(InvalidDataError, match="a number that is too long"):
        event_from_json(AgentSeen, '{"capacity": ' + "9" * 5_000 + "}")


@pytest.mark.parametrize("part", [{"differences": None}, {"skipped": 7}], ids=str)
def test_a_report_whose_lists_are_none(part: dict[str, Any], tmp_path: Path) -> None:
    """As `antiphon replay diff` reads them."""
    report: dict[str, Any] = {"workflows": 1, "same": 1, "different": 0, "differences": [], "skipped": [], **part}
    path = tmp_path / "report.json"
    path.write_text(json.dumps(report))
    with pytest.raises(NoReportError):
        read_report(path)


RUN: dict[str, Any] = {
    "version": "1",
    "phase": "running",
    "undoing": False,
    "reason": "",
    "start": {"id": "s", "type": "move.wanted", "data": {}},
    "inherited": {},
    "due": {},
    "steps": {"van": {"stage": "done"}},
}


def test_a_step_of_a_saga_with_an_answer_that_is_none() -> None:
    """Seed 9, record 858985 of a million: the machine stumbled, and the state was taken for right."""
    examine({"s": RUN}, "w", saga=True)
    with pytest.raises(StateDamagedError, match=r"s\.steps\.van\.answer"):
        examine({"s": {**RUN, "steps": {"van": {"stage": "done", "answer": None}}}}, "w", saga=True)


def test_a_run_of_a_saga_under_the_id_of_another() -> None:
    """Seed 11, record 465904: what was written of it took the place of a damaged one, and what that had led to was nobody's fault."""
    with pytest.raises(StateDamagedError, match="another's id"):
        examine({"name": RUN}, "w", saga=True)


WORKFLOW = {"workflow": {"events": {"e": {"type": "a.b"}}}, "touched_us": 1, "due_us": 2}


@pytest.mark.parametrize(
    "spoilt",
    [
        {**WORKFLOW, "touched_us": "1"},
        {"workflow": WORKFLOW["workflow"]},
        {**WORKFLOW, "workflow": []},
        {**WORKFLOW, "workflow": {"events": {"e": ["a.b"]}}},
        {**WORKFLOW, "workflow": {"events": {"e": {"type": "a.b", "done": 7}}}},
        {
            **WORKFLOW,
            "workflow": {
                "failure": {"event_id": "e", "reason": "why"},
                "effects": {"gone": {"agent": "a", "type": "a.b", "value": ""}},
            },
        },
    ],
    ids=["a time", "a part", "the whole", "an event", "who is through", "an effect of no event"],
)
async def test_one_workflow_in_the_coordinators_state_that_cannot_be_worked_with(spoilt: dict[str, Any]) -> None:
    """It held up all that stood behind it on its partition; now what is said of it is set aside, and of others done."""
    mesh = MemoryMesh(1)
    await mesh.prepare(coordinator())
    value = json.dumps(spoilt).encode()
    await mesh.bus.publish([Outgoing("compensation.state", b"bad", value, [], 0)])
    async with mesh.running(coordinator()):
        for id in ("bad", "good"):
            done = activity(correlation_id=id, emitted=[Emitted(id="x", type="a.c", undo=b"to undo it")])
            await mesh.publisher.publish([done], correlation_id=id)

        async def both() -> bool:
            kept = await read_kept(mesh.bus, mesh.names, [0])
            return "good" in kept and len(await mesh.records("compensation.dead")) == 1

        await eventually(both, 30, what="the good one to be kept, the bad one to be set aside")
    [letter] = await mesh.records("compensation.dead")
    said = dict(letter.headers)
    assert (said["antiphon_dead_error"], said["antiphon_dead_reason"]) == (b"StateDamagedError", b"permanent")


@pytest.mark.parametrize(
    "spoilt",
    [b"\xff", json.dumps(dict.fromkeys(Phase, "many")).encode(), b'{"since": [1]}'],
    ids=["the whole", "a number", "times"],
)
async def test_damaged_figures_of_the_coordinator_hold_nothing_up(spoilt: bytes) -> None:
    """How many workflows there are stands in its state too: whatever was said on the partition was set aside for its sake."""
    mesh = MemoryMesh(1)
    await mesh.prepare(coordinator())
    await mesh.bus.publish([Outgoing("compensation.state", b"antiphon:census", spoilt, [], 0)])
    async with mesh.running(coordinator()):
        done = activity(correlation_id="good", emitted=[Emitted(id="x", type="a.c", undo=b"to undo it")])
        await mesh.publisher.publish([done], correlation_id="good")

        async def kept() -> bool:
            return "good" in await read_kept(mesh.bus, mesh.names, [0])

        await eventually(kept, 30, what="what was said to be kept")
    assert await mesh.records("compensation.dead") == []


async def test_what_a_newer_release_keeps_besides_hides_nothing() -> None:
    """To look for damage is not to look for what is not known yet: releases share state."""
    bus, names = MemoryBus(partitions=1), Names()
    await bus.create([TopicSpec("compensation.state", 1)])
    newer = json.dumps({**WORKFLOW, "workflow": {"events": {"e": {"type": "a.b", "new": 1}}}, "new": 2}).encode()
    await bus.publish([Outgoing("compensation.state", b"newer", newer, [], 0)])
    assert {*await read_kept(bus, names, [0])} == {"newer"}
