"""Which topics a mesh needs, and whether the cluster has them as it should."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping

from antiphon.bus.consumer import Consumer
from antiphon.bus.errors import MissingTopicsError, PartitionCountError
from antiphon.bus.names import ACTIVITY, AGENTS, SCHEMAS, Names
from antiphon.bus.port import Bus, TopicSpec

DEFAULT_PARTITIONS = 12
# When activity was appended by the broker's clock, beside when all of it happened by its workers', tells whose is off.
_STAMPED = {"message.timestamp.type": "LogAppendTime"}


@dataclasses.dataclass(frozen=True)
class TopicPlan:
    """What would have to change for the cluster to fit."""

    create: tuple[TopicSpec, ...]
    wrong: tuple[tuple[str, int, int], ...]
    """Topics with another number of partitions than the mesh's: name, expected, got."""
    fine: tuple[str, ...]


def needed(consumers: Iterable[Consumer], names: Names) -> dict[str, bool]:
    """Return the topics that *consumers* and the mesh itself need, and whether each is compacted."""
    topics = {names.topic(ACTIVITY): False, names.topic(AGENTS): True, names.topic(SCHEMAS): True}
    for consumer in consumers:
        classes = [*consumer.hears.values(), *(consumer.emits or ())]
        topics |= {names.topic(event_class.__event__.topic): False for event_class in classes}
        topics[names.state(consumer.name)] = True
        topics[names.dead(consumer.name)] = topics[names.redrive(consumer.name)] = False
        if consumer.undoes:
            topics[names.undo(consumer.name)] = False
    # Heard by the coordinator, and compacted or not by what it is, not by who hears it.
    return topics | {names.topic(ACTIVITY): False, names.topic(AGENTS): True, names.topic(SCHEMAS): True}


def plan(wanted: Mapping[str, bool], existing: Mapping[str, int], partitions: int) -> TopicPlan:
    """Compare the topics *wanted* with those *existing*.

    >>> plan({"a": False, "b": True}, {"a": 3}, 12).wrong
    (('a', 12, 3),)
    """
    return TopicPlan(
        create=tuple(
            TopicSpec(name, partitions, compact=compact, config=_STAMPED if name.endswith(ACTIVITY) else {})
            for name, compact in sorted(wanted.items())
            if name not in existing
        ),
        wrong=tuple(
            (name, partitions, existing[name])
            for name in sorted(wanted)
            if name in existing and existing[name] != partitions
        ),
        fine=tuple(name for name in sorted(wanted) if existing.get(name) == partitions),
    )


def partitions_of_mesh(
    existing: Mapping[str, int], names: Names, configured: int | None, beside: Iterable[str] = ()
) -> int:
    """Return how many partitions this mesh's topics have: as the activity topic's, where there is one already.

    Where there is none, because no worker ever ran, as the first of *beside* that is there; and only then as *configured*.

    >>> partitions_of_mesh({"orders": 3}, Names(), 12), partitions_of_mesh({"orders": 3}, Names(), 12, beside=["orders"])
    (12, 3)
    """
    known = (names.topic(ACTIVITY), *beside)
    return next((existing[name] for name in known if name in existing), configured or DEFAULT_PARTITIONS)


async def ensure(
    bus: Bus, consumers: Collection[Consumer], names: Names, *, partitions: int | None, may_create: bool
) -> int:
    """See to it that the topics *consumers* need are there and equally wide; returns how wide.

    Raises `PartitionCountError`, `MissingTopicsError` where topics lack and may
    not be created, `TopicCreationRefusedError` where the broker says no.
    """
    existing = await bus.topics()
    width = partitions_of_mesh(existing, names, partitions)
    found = plan(needed(consumers, names), existing, width)
    for name, expected, got in found.wrong:
        raise PartitionCountError(name, expected, got)
    if found.create and not may_create:
        raise MissingTopicsError([spec.name for spec in found.create], [consumer.name for consumer in consumers])
    if found.create:
        await bus.create(found.create)
        existing = await bus.topics()
        # Another worker may have been quicker, with a width of its own.
        for name, expected, got in plan(needed(consumers, names), existing, width).wrong:
            raise PartitionCountError(name, expected, got)
    return width
