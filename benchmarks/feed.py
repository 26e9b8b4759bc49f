"""What is put in before a run: topics, and records as a client of the mesh writes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from antiphon.bus.names import Names
from antiphon.bus.port import TopicSpec
from antiphon.bus.record import Outgoing
from antiphon.bus.schema_topic import TopicStore
from antiphon.schemas.codec import Codec
from antiphon.schemas.envelope import Envelope, to_headers
from hops import Asked
from stage import PARTITIONS, Stage

ASKED, ANSWERED, ACTIVITY = "hop.asked", "hop.answered", "antiphon.activity"
_CHUNK = 5_000


def asked(n: int, *, place: str = "here") -> Asked:
    """Return what the *n*-th event says."""
    return Asked(name=f"n{n}", text="to be or not to be, " * 4, count=n, share=0.5, is_new=True, place=place, when_us=n)


def own_workflow(n: int) -> str | None:  # noqa: ARG001 - others go by the number
    """Let every event be the first of its workflow: a key of its own."""
    return None


class Feed:
    """The topics of one namespace, and records for them."""

    def __init__(self, stage: Stage, names: Names, *, partitions: int = PARTITIONS) -> None:
        self._bus = stage.bus
        self._names = names
        self._partitions = partitions
        self._codec = Codec(TopicStore(stage.bus, names, partitions=partitions))

    async def open(self) -> None:
        """Create the topics and publish the schema of what is asked."""
        topics = (ASKED, ANSWERED, ACTIVITY, "antiphon.schemas", "antiphon.agents")
        await self._bus.create([TopicSpec(self._names.topic(topic), self._partitions) for topic in topics])
        await self._codec.announce([Asked])

    def records(
        self,
        count: int,
        *,
        first: int = 0,
        workflow: Callable[[int], str | None] = own_workflow,
        event: Callable[[int], Asked] = asked,
    ) -> Iterator[Outgoing]:
        """Make records, encoded when they are taken."""
        for n in range(first, first + count):
            envelope = Envelope.root(ASKED, source="/benchmarks", correlation_id=workflow(n))
            key = envelope.correlation_id.encode()
            yield Outgoing(self._names.topic(ASKED), key, self._codec.encode(event(n)), to_headers(envelope))

    async def publish(self, records: Iterator[Outgoing] | list[Outgoing]) -> None:
        """Write *records* and return when all of them are there; memory is bounded by a chunk."""
        chunk: list[Outgoing] = []
        for record in records:
            chunk.append(record)
            if len(chunk) == _CHUNK:
                await self._bus.publish(chunk)
                chunk = []
        await self._bus.publish(chunk)
