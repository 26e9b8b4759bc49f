"""How many workflows stand how, and what was undone: what operators see without asking for each."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, MutableMapping
from typing import Any, cast
from zlib import crc32

from antiphon.bus.delivery import State
from antiphon.bus.state import StateDamagedError
from antiphon.bus.telemetry import Figure
from antiphon.compensation.agenda import RESERVED
from antiphon.compensation.examined import workable
from antiphon.compensation.kept import kept
from antiphon.compensation.store import Change
from antiphon.compensation.workflow import Phase, Status, Workflow

log = logging.getLogger(__name__)

_KEY = f"{RESERVED}census"
_PAGES = 64
_UNDOS = {Status.ASKED: "asked", Status.UNDONE: "undone", Status.STUCK: "given_up", Status.SKIPPED: "skipped"}


class Census:
    """Figures of the workflows that the coordinator of one process keeps, by partition. Any thread may ask.

    How many there are of each phase stands in the coordinator's state, and so
    does since when those that are parked are: on pages, by their ids, so that
    one more rewrites one page whatever the number of those that wait. What was
    undone is counted from when the process began.
    """

    def __init__(self, clock_us: Callable[[], int]) -> None:
        self._clock_us = clock_us
        self._standing: dict[int, dict[str, Any]] = {}
        self._parked: dict[int, dict[str, int]] = {}
        """Since when, by id; as it stands in the state, once that was looked at."""
        self._damaged: set[tuple[int, str]] = set()
        """Keys of partitions of which that was said."""
        self._undos = Counter[str]()

    def take(self, partition: int, state: State, changes: Iterable[Change]) -> None:
        """Count *changes*: workflows as they were and as they are now, None where they are not kept."""
        counted = self._mapping(partition, state, _KEY, _is_count)
        if counted is None:
            return
        # The partition may have been somebody else's, or what was counted last not committed.
        is_news = self._standing.get(partition) != counted
        for id, before, after in changes:
            self._count(counted, before, after)
            if Phase.PARKED in (was := _phase(before), now := _phase(after)) and was is not now:
                self._move(partition, state, counted, id, self._clock_us() if now is Phase.PARKED else None)
        if is_news:
            self._look(partition, state, counted)
        if {*counted} == {"moved_us"}:
            counted.clear()  # nobody is left
        self._standing[partition] = {**counted}

    def _mapping(
        self, partition: int, state: State, key: str, is_right: Callable[[Mapping[str, Any]], bool]
    ) -> MutableMapping[str, Any] | None:
        """Return what stands under *key*; None where that is damaged: no workflow has to wait for a number."""
        try:
            found = state.mapping(key)
            if not is_right(found):
                raise StateDamagedError(key, "something else than numbers of workflows")
        except StateDamagedError as error:
            if (partition, key) not in self._damaged:
                self._damaged.add((partition, key))
                log.warning("workflows are not counted", extra={"partition": partition, "reason": str(error)})
            return None
        self._damaged.discard((partition, key))
        return found

    def figures(self, partitions: Collection[int]) -> Iterator[Figure]:
        """Yield what stands on *partitions*, which this process owns now."""
        standing = [known for number, known in [*self._standing.items()] if number in partitions]
        for phase in Phase:
            count = sum(known.get(phase.value, 0) for known in standing)
            yield Figure("sagas", "workflows that the coordinator keeps", count, labels={"state": phase.value})
        # One step each: the event loop's thread may change them meanwhile.
        parked = [us for number, since in [*self._parked.items()] if number in partitions for us in [*since.values()]]
        oldest_s = (self._clock_us() - min(parked)) / 1_000_000 if parked else 0.0
        yield Figure(
            "saga_oldest_parked_seconds", "since when a parked workflow waits for a person", max(0.0, oldest_s)
        )
        for outcome in _UNDOS.values():
            count = self._undos[outcome]
            yield Figure("saga_undos", "undos of effects", count, labels={"outcome": outcome}, counts=True)

    def _count(self, counted: MutableMapping[str, Any], before: Workflow | None, after: Workflow | None) -> None:
        was, now = _phase(before), _phase(after)
        if was is not now:
            for phase, one in ((was, -1), (now, 1)):
                if phase is not None:
                    _add(counted, phase.value, one)
        if after is None:
            return
        for effect_id, effect in after.effects.items():
            if effect.status in _UNDOS and effect.status is not _status(before, effect_id):
                self._undos[_UNDOS[effect.status]] += 1

    # Since when those that are parked are.

    def _move(
        self, partition: int, state: State, counted: MutableMapping[str, Any], id: str, since_us: int | None
    ) -> None:
        """Note since when a workflow is parked; None: it is not any more."""
        parked = self._parked.setdefault(partition, {})
        parked.pop(id, None)
        # So that one that comes for one that goes is seen too.
        counted["moved_us"] = self._clock_us()
        # Where an earlier release keeps all of them, and has not been looked at yet.
        if id in counted.get("since", ()):
            _without(counted, id)
        page = self._mapping(partition, state, _page(id), _is_times)
        if page is not None:
            page.pop(id, None)
            if since_us is not None:
                page[id] = parked[id] = since_us

    def _look(self, partition: int, state: State, counted: MutableMapping[str, Any]) -> None:
        for id, since_us in counted.pop("since", {}).items():
            self._move(partition, state, counted, id, since_us)
        keys = [f"{RESERVED}parked/{number}" for number in range(_PAGES)]
        pages = [page for key in keys if (page := self._mapping(partition, state, key, _is_times)) is not None]
        if len(pages) == _PAGES and sum(map(len, pages)) != counted.get(Phase.PARKED.value, 0):
            # An earlier release, which knows of no pages, may have let some go.
            for page in pages:
                for id in [id for id in page if not _is_parked(state, id)]:
                    del page[id]
            _set(counted, Phase.PARKED.value, sum(map(len, pages)))
        self._parked[partition] = {id: since_us for page in pages for id, since_us in page.items()}


def _page(id: str) -> str:
    return f"{RESERVED}parked/{crc32(id.encode()) % _PAGES}"


def _is_count(counted: Mapping[str, Any]) -> bool:
    return all(isinstance(counted.get(phase.value, 0), int) for phase in Phase) and _is_times(counted.get("since", {}))


def _is_times(page: object) -> bool:
    return isinstance(page, dict) and all(isinstance(us, int) for us in cast("dict[str, object]", page).values())


def _is_parked(state: State, id: str) -> bool:
    try:
        mapping = state.mapping(id)
        with workable(mapping, id):
            return kept(mapping).workflow.phase is Phase.PARKED
    except StateDamagedError:
        return True  # as far as anybody can tell


def _phase(workflow: Workflow | None) -> Phase | None:
    return None if workflow is None else workflow.phase


def _status(workflow: Workflow | None, id: str) -> Status | None:
    return workflow.effects[id].status if workflow is not None and id in workflow.effects else None


def _without(counted: MutableMapping[str, Any], id: str) -> None:
    del counted["since"][id]
    if not counted["since"]:
        del counted["since"]


def _add(counted: MutableMapping[str, Any], name: str, one: int) -> None:
    # Those that were kept before anybody counted are not missed when they go.
    _set(counted, name, max(0, counted.get(name, 0) + one))


def _set(counted: MutableMapping[str, Any], name: str, number: int) -> None:
    if number:
        counted[name] = number
    else:
        counted.pop(name, None)
