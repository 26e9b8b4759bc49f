"""How many workflows stand how, and what was undone: what operators see without asking for each."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, MutableMapping
from typing import Any, cast

from antiphon.bus.delivery import State
from antiphon.bus.state import StateDamagedError
from antiphon.bus.telemetry import Figure
from antiphon.compensation.agenda import RESERVED
from antiphon.compensation.store import Change
from antiphon.compensation.workflow import Phase, Status, Workflow

log = logging.getLogger(__name__)

_KEY = f"{RESERVED}census"
_UNDOS = {Status.ASKED: "asked", Status.UNDONE: "undone", Status.STUCK: "given_up", Status.SKIPPED: "skipped"}


class Census:
    """Figures of the workflows that the coordinator of one process keeps, by partition. Any thread may ask.

    How many there are of each phase, and since when those that are parked are,
    stands in the coordinator's state and is known at once after a restart. What
    was undone is counted from when the process began.
    """

    def __init__(self, clock_us: Callable[[], int]) -> None:
        self._clock_us = clock_us
        self._standing: dict[int, dict[str, Any]] = {}
        self._damaged: set[int] = set()
        """Partitions of which that was said."""
        self._undos = Counter[str]()

    def take(self, partition: int, state: State, changes: Iterable[Change]) -> None:
        """Count *changes*: workflows as they were and as they are now, None where they are not kept."""
        counted = self._counted(partition, state)
        if counted is None:
            return
        for id, before, after in changes:
            self._count(counted, id, before, after)
        self._standing[partition] = {**counted}

    def _counted(self, partition: int, state: State) -> MutableMapping[str, Any] | None:
        """Return what is counted so far; None where that is damaged: no workflow has to wait for a number."""
        try:
            counted = state.mapping(_KEY)
            if not _is_count(counted):
                raise StateDamagedError(_KEY, "something else than numbers of workflows")
        except StateDamagedError as error:
            if partition not in self._damaged:
                self._damaged.add(partition)
                log.warning("workflows are not counted", extra={"partition": partition, "reason": str(error)})
            return None
        self._damaged.discard(partition)
        return counted

    def figures(self, partitions: Collection[int]) -> Iterator[Figure]:
        """Yield what stands on *partitions*, which this process owns now."""
        standing = [known for number, known in [*self._standing.items()] if number in partitions]
        for phase in Phase:
            kept = sum(known.get(phase.value, 0) for known in standing)
            yield Figure("sagas", "workflows that the coordinator keeps", kept, labels={"state": phase.value})
        parked = [since_us for known in standing for since_us in known.get("since", {}).values()]
        oldest_s = (self._clock_us() - min(parked)) / 1_000_000 if parked else 0.0
        yield Figure(
            "saga_oldest_parked_seconds", "since when a parked workflow waits for a person", max(0.0, oldest_s)
        )
        for outcome in _UNDOS.values():
            count = self._undos[outcome]
            yield Figure("saga_undos", "undos of effects", count, labels={"outcome": outcome}, counts=True)

    def _count(
        self, counted: MutableMapping[str, Any], id: str, before: Workflow | None, after: Workflow | None
    ) -> None:
        was, now = (None if workflow is None else workflow.phase for workflow in (before, after))
        if was is not now:
            for phase, one in ((was, -1), (now, 1)):
                if phase is not None:
                    _add(counted, phase.value, one)
            since = counted.setdefault("since", {})
            if now is Phase.PARKED:
                since[id] = self._clock_us()
            else:
                since.pop(id, None)
            if not since:
                del counted["since"]
        if after is None:
            return
        for effect_id, effect in after.effects.items():
            if effect.status in _UNDOS and effect.status is not _status(before, effect_id):
                self._undos[_UNDOS[effect.status]] += 1


def _is_count(counted: Mapping[str, Any]) -> bool:
    numbers = all(isinstance(counted.get(phase.value, 0), int) for phase in Phase)
    since: object = counted.get("since", {})
    return (
        numbers
        and isinstance(since, dict)
        and all(isinstance(us, int) for us in cast("dict[str, object]", since).values())
    )


def _status(workflow: Workflow | None, id: str) -> Status | None:
    return workflow.effects[id].status if workflow is not None and id in workflow.effects else None


def _add(counted: MutableMapping[str, Any], name: str, one: int) -> None:
    # Those that were kept before anybody counted are not missed when they go.
    number = max(0, counted.get(name, 0) + one)
    if number:
        counted[name] = number
    else:
        counted.pop(name, None)
