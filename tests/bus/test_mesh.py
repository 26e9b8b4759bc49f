"""The mesh as an application sees it, over the bus in memory."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from antiphon import Mesh, agent
from antiphon.bus.errors import AnswerTimeoutError, UnknownTopicError
from antiphon.bus.port import TopicSpec
from antiphon.bus.settings import Settings
from antiphon.schemas.errors import EncodeError
from antiphon.schemas.event import Event, envelope_of
from antiphon.testing.mesh import MemoryMesh


class Asked(Event, type="question.asked"):
    text: str


class Answered(Event, type="question.answered", key="topic"):
    topic: str
    text: str


class Refused(Event, type="question.refused"):
    why: str


@agent
async def oracle(question: Asked) -> Answered | Refused:
    """Answer what is asked, on a topic keyed by something else than the workflow."""
    if not question.text:
        return Refused(why="nothing was asked")
    return Answered(topic="weather", text=question.text.upper())


def mesh_on(world: MemoryMesh) -> Mesh:
    return Mesh(
        world.bus, store=world.store, settings=Settings(partitions=world.partitions), source="/applications/shop"
    )


async def test_a_published_event_starts_a_workflow() -> None:
    """The receipt says where it went and what to trace; the id is the workflow's."""
    world = MemoryMesh()
    async with mesh_on(world) as mesh:
        published = await mesh.publish(Asked(text="rain?"))

    [(envelope, event)] = await world.events(Asked)
    [record] = await world.records("question.asked")
    assert event == Asked(text="rain?")
    assert (envelope.id, envelope.correlation_id, envelope.source) == (
        published.id,
        published.correlation_id,
        "/applications/shop",
    )
    assert (published.id, published.topic) == (published.correlation_id, "question.asked")
    assert (published.partition, published.offset) == (record.partition, record.offset)


async def test_what_is_published_in_a_span_belongs_to_its_trace() -> None:
    """As OpenTelemetry's own propagator writes it; agents hand it on, and outside of a span there is none."""
    world = MemoryMesh()
    async with mesh_on(world) as mesh, world.running(oracle):
        with TracerProvider().get_tracer("shop").start_as_current_span("checkout"):
            carrier: dict[str, str] = {}
            TraceContextTextMapPropagator().inject(carrier)
            await mesh.publish(Asked(text="rain?"))
        await mesh.publish(Asked(text="snow?"))
        await world.eventually(Answered, count=2)
    told = {envelope.parent_id: envelope.traceparent for envelope, _ in await world.events(Answered)}
    asked = {event.text: envelope for envelope, event in await world.events(Asked)}
    assert asked["rain?"].traceparent == told[asked["rain?"].id] == carrier["traceparent"]
    assert asked["snow?"].traceparent is told[asked["snow?"].id] is None


async def test_an_event_may_join_a_workflow_from_outside() -> None:
    """A person's decision, say, belongs to the workflow that waits for it."""
    world = MemoryMesh()
    async with mesh_on(world) as mesh:
        first = await mesh.publish(Asked(text="rain?"))
        second = await mesh.publish(Refused(why="later"), correlation_id=first.correlation_id)
    assert (second.correlation_id, second.id != first.id) == (first.id, True)


async def test_a_request_waits_for_its_own_answer() -> None:
    """Among many at once each gets its own, wherever the answer's key puts it."""
    world = MemoryMesh()
    async with world.running(oracle), mesh_on(world) as mesh:
        for text in ("rain?", "snow?", "hail?"):
            answer = await mesh.request(Asked(text=text), until=Answered, timeout=10)
            assert answer == Answered(topic="weather", text=text.upper())


async def test_a_request_takes_whichever_answer_comes() -> None:
    """Several classes may end it; the answer knows its workflow."""
    world = MemoryMesh()
    async with world.running(oracle), mesh_on(world) as mesh:
        answer = await mesh.request(Asked(text=""), until=(Answered, Refused), timeout=10)

    assert answer == Refused(why="nothing was asked")
    assert envelope_of(answer).correlation_id == envelope_of(answer).parent_id


async def test_a_mesh_that_was_opened_first_goes_by_the_topics_that_are_there() -> None:
    """A worker made them meanwhile, narrower than the application was told: a request finds its answer all the same."""
    world = MemoryMesh(partitions=2)
    async with Mesh(world.bus, store=world.store, settings=Settings(partitions=12)) as mesh, world.running(oracle):
        answers = [await mesh.request(Asked(text=""), until=Refused, timeout=10) for _ in range(8)]
    assert answers == [Refused(why="nothing was asked")] * 8


@pytest.mark.parametrize("there", ["antiphon.activity", "question.asked", "question.refused"])
async def test_a_mesh_makes_topics_as_wide_as_those_that_are_there(there: str) -> None:
    """Whatever made the first one; its own settings count where there is none."""
    world = MemoryMesh()
    async with Mesh(world.bus, settings=Settings(partitions=12)) as mesh:
        await world.bus.create([TopicSpec(there, 2)])
        with pytest.raises(AnswerTimeoutError):
            await mesh.request(Asked(text="anyone?"), until=Refused, timeout=0.01)
        await mesh.publish(Answered(topic="weather", text="rain"))
    known = there == "antiphon.activity"
    assert await world.bus.topics() == {
        there: 2,
        "question.asked": 2,
        "question.refused": 2,
        "question.answered": 2 if known else 12,
        "antiphon.schemas": 2 if known else 12,
    }


async def test_a_request_names_the_topic_that_its_answer_lacks() -> None:
    """Where it may not make topics it could wait for nothing; nothing is published then."""
    world = MemoryMesh()
    await world.bus.create([TopicSpec("question.asked", 2)])
    async with Mesh(world.bus, store=world.store, settings=Settings(create_topics=False)) as mesh:
        with pytest.raises(UnknownTopicError, match=r"topic 'question\.refused' does not exist"):
            await mesh.request(Asked(text="anyone?"), until=Refused, timeout=10)
    assert await world.records("question.asked") == []


async def test_a_request_without_an_answer_says_what_to_look_at() -> None:
    """The workflow goes on; its id is in the message."""
    async with mesh_on(MemoryMesh()) as mesh:
        with pytest.raises(AnswerTimeoutError, match=r"expected question\.answered within 0\.01 s.*antiphon trace"):
            await mesh.request(Asked(text="anyone?"), until=Answered, timeout=0.01)


async def test_nothing_is_published_where_one_event_does_not_fit() -> None:
    """All are encoded before any is written."""

    class Counted(Event, type="thing.counted"):
        n: int

    world = MemoryMesh()
    async with mesh_on(world) as mesh:
        with pytest.raises(EncodeError, match="n"):
            await mesh.publish_all([Counted(n=1), Counted(n=2**70)])
    assert await world.records("thing.counted") == []


async def test_an_id_names_one_event() -> None:
    """Two events of one id would be taken for one, and the other lost to whoever dedupes."""
    world = MemoryMesh()
    async with mesh_on(world) as mesh:
        with pytest.raises(ValueError, match=r"expected one event where an id is given, got 2\."):
            await mesh.publish_all([Asked(text="rain?"), Asked(text="snow?")], id="mine")
    assert await world.records("question.asked") == []
