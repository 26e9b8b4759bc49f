"""Reading what the coordinator keeps, from outside: no group, nobody's offsets."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from antiphon.bus.intervention import Act, SagaIntervened
from antiphon.bus.names import COORDINATOR, Names
from antiphon.bus.port import Bus
from antiphon.bus.state import StateDamagedError, mapping_in
from antiphon.compensation import locks
from antiphon.compensation.agenda import RESERVED
from antiphon.compensation.examined import workable
from antiphon.compensation.kept import NOTHING, kept
from antiphon.compensation.locks import PREFIX, Lock
from antiphon.compensation.waiting import is_open
from antiphon.compensation.workflow import Mesh, Phase, Status, Workflow
from antiphon.schemas.envelope import format_time

log = logging.getLogger(__name__)
T = TypeVar("T")


class Seen(NamedTuple):
    """One workflow as the coordinator keeps it, and the runs of sagas in it."""

    kept: Workflow
    runs: Sequence[tuple[str, Mapping[str, Any]]] = ()
    """Each run with its saga's name, the outermost first."""

    @property
    def phase(self) -> Phase:
        """How the workflow stands; a run that waits for a person is never overlooked."""
        parked = any(run["phase"] == Phase.PARKED.value for _, run in self.runs)
        return Phase.PARKED if parked else self.kept.phase


async def read_kept(bus: Bus, names: Names, partitions: Iterable[int]) -> dict[str, Workflow]:
    """Return the workflows that the coordinator keeps on *partitions*, by id. Costs those partitions of its state."""
    values = await _kept(bus, names.state(COORDINATOR), partitions)
    return dict(_readable(values, lambda mapping: kept(mapping).workflow))


async def read_workflows(bus: Bus, names: Names, sagas: Iterable[str], partitions: Sequence[int]) -> dict[str, Seen]:
    """Return the workflows that the coordinator or one of *sagas* keeps on *partitions*, by id."""
    found = {id: Seen(workflow) for id, workflow in (await read_kept(bus, names, partitions)).items()}
    for name in sagas:
        values = await _kept(bus, names.state(name), partitions)
        for id, mapping in _readable(values, _runs, saga=True):
            seen = found.get(id, Seen(NOTHING))
            runs = [(name, run) for run in mapping.values()]
            # A nested one is started by a command, later than the outermost.
            found[id] = Seen(seen.kept, sorted([*seen.runs, *runs], key=lambda run: run[1]["start"]["id"] != id))
    return found


async def read_locks(bus: Bus, names: Names, partitions: Iterable[int]) -> dict[str, Lock]:
    """Return who holds what, by entity, of those that are kept on *partitions*. Costs these of the coordinator's state."""
    values = await _kept(bus, names.state(COORDINATOR), partitions, PREFIX)
    return {id.removeprefix(PREFIX): lock for id, lock in _readable(values, locks.read)}


def _runs(mapping: dict[str, Any]) -> dict[str, Any]:
    """Return the runs, once all of each has been found that is shown."""
    for name, run in mapping.items():
        _run(name, run)
        _ = run["start"]["id"]
    return mapping


def _readable(
    values: Mapping[str, bytes], read: Callable[[dict[str, Any]], T], *, saga: bool = False
) -> Iterator[tuple[str, T]]:
    """Yield what stands under each key; what is not as it is written is told of, and hides nothing else."""
    for id, value in values.items():
        try:
            mapping = mapping_in(id, value)
            # What a newer release keeps besides is passed over: only what cannot be read is examined.
            with workable(mapping, id, saga=saga):
                found = read(mapping)
            yield id, found
        except StateDamagedError as error:
            log.warning("state cannot be read, and is not shown", extra={"reason": str(error)})


async def _kept(bus: Bus, topic: str, partitions: Iterable[int], prefix: str = "") -> dict[str, bytes]:
    """Return what stands under each workflow's id, or under keys of the coordinator's own that begin with *prefix*."""
    wanted = set(partitions)
    bounds = await bus.bounds([topic])
    places = {place: ends for place, ends in bounds.items() if place.partition in wanted and ends[0] < ends[1]}
    values: dict[str, bytes] = {}
    if places:
        start = {place: first for place, (first, _) in places.items()}
        async for record in bus.read(start, {place: end for place, (_, end) in places.items()}):
            id = (record.key or b"").decode(errors="replace")
            values.pop(id, None)
            if record.value is not None and (id.startswith(prefix) if prefix else not id.startswith(RESERVED)):
                values[id] = record.value
    return values


def overruled(said: SagaIntervened, now: Seen) -> str | None:
    """Return what stands there instead, where somebody else's word or what happened meanwhile came before *said*."""
    why = f"{said.actor}: {said.reason}"
    problems = [effect.problem for effect in now.kept.effects.values() if effect.status is Status.SKIPPED]
    problems += [step.get("problem", "") for _, run in now.runs for step in run["steps"].values()]
    reasons = [now.kept.failure.reason] if now.kept.failure else [run["reason"] for _, run in now.runs if run["reason"]]
    match said.act:
        case Act.CANCEL if reasons and f"cancelled by {why}" not in reasons:
            return reasons[0]
        case Act.SKIP if now.phase is not Phase.PARKED and f"skipped by {why}" not in problems:
            return next((problem for problem in problems if problem), f"it is {now.phase.value}")
        case _:
            return None


def document(id: str, seen: Seen, mesh: Mesh, locks: Mapping[str, Lock]) -> dict[str, Any]:
    """Return a workflow's undoing as JSON says it, its keys in the promised order; *locks* are all there are, by entity."""
    workflow = seen.kept
    return {
        "correlation_id": id,
        "saga": seen.runs[0][0] if seen.runs else None,
        "state": seen.phase.value,
        "steps": [
            {
                "event_id": event_id,
                "type": effect.type,
                "agent": effect.agent,
                "status": effect.status.value,
                "attempts": effect.attempts,
                "late": effect.late,
                "problem": effect.problem or None,
            }
            for event_id, effect in workflow.effects.items()
        ],
        "outstanding": [
            {"event_id": event_id, "agent": agent}
            for event_id, node in workflow.events.items()
            if is_open(node, mesh)
            for agent in mesh.hearers(node.type, None)
            if agent not in node.done
        ],
        "reason": _reason(seen),
        "runs": [_run(name, run) for name, run in seen.runs],
        "deadline": None if workflow.deadline_us is None else format_time(workflow.deadline_us),
        "locks": [*_locks(id, locks)],
    }


def _reason(seen: Seen) -> str | None:
    """Return why it waits for a person, or is undone."""
    failure = seen.kept.failure
    reasons = [seen.kept.halted, failure.reason if failure else "", *(run["reason"] for _, run in seen.runs)]
    return next((reason for reason in reasons if reason), None)


def _locks(id: str, locks: Mapping[str, Lock]) -> Iterator[dict[str, Any]]:
    for entity, lock in sorted(locks.items()):
        if lock.holder == id:
            yield {"entity": entity, "state": "held", "since": format_time(lock.since_us), "holder": id}
        for one in lock.waiting:
            if one.workflow == id:
                since = format_time(one.since_us)
                yield {"entity": entity, "state": "waiting", "since": since, "holder": lock.holder}


def _run(name: str, run: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "saga": name,
        "version": run["version"],
        "state": run["phase"],
        "reason": run["reason"] or None,
        "steps": [
            {
                "step": step,
                "status": progress["stage"],
                "command": progress.get("command"),
                "attempts": progress.get("tries", 0),
                "problem": progress.get("problem"),
            }
            for step, progress in run["steps"].items()
        ],
    }
