"""A saga's durable state: its runs by workflow, as JSON, and when each is to be looked at."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, NamedTuple

from antiphon.bus.besides import carry
from antiphon.bus.delivery import State
from antiphon.bus.intervention import SagaIntervened
from antiphon.bus.state import StateDamagedError
from antiphon.bus.verdict import saga_told
from antiphon.compensation.agenda import Agenda
from antiphon.compensation.definition import Definition
from antiphon.compensation.examined import workable
from antiphon.compensation.instance import Instance, Progress, Round, Said, Stage, Wake
from antiphon.compensation.workflow import Phase
from antiphon.schemas.codec import to_json
from antiphon.schemas.envelope import Envelope
from antiphon.schemas.event import Event
from antiphon.schemas.input import event_from_json

log = logging.getLogger(__name__)

_INHERITED = ("traceparent", "deadline_us", "budget", "tenant", "replay_of")
"""What of the start's envelope its commands have too."""


LINGER_US = 86_400_000_000
"""How long a run that has ended is kept, so that a start that comes again begins none, and what is added late is judged."""

ENDED_PHASES = frozenset({Phase.COMPLETED, Phase.COMPENSATED})


class Overdue(NamedTuple):
    """A time that has come: of which workflow, for which command."""

    workflow: str
    command: str
    tries: int


class Runs:
    """The runs of one saga on one partition, those of a workflow under its id."""

    def __init__(self, saga: Definition, state: State, *, now_us: int) -> None:
        self._saga = saga
        self._state = state
        self._now_us = now_us
        self._agenda = Agenda(state)
        heard: list[type[Event]] = [*saga.hears, saga_told(saga.name), SagaIntervened]
        self._classes = {said.__event__.type: said for said in heard}

    def of(self, workflow: str) -> Mapping[str, Any]:
        """Return what is kept of each run of a workflow, by the id of the event that started it."""
        runs: Mapping[str, Any] = self._state.mapping(workflow)
        return runs

    def inherited(self, workflow: str, id: str) -> dict[str, Any]:
        """Return what the commands of a run have of its start's envelope."""
        inherited: Mapping[str, Any] = self.of(workflow)[id]["inherited"]
        return {of: inherited[of] for of in _INHERITED if of in inherited}

    def misfit(self, kept: Mapping[str, Any]) -> str | None:
        """Say why a run cannot go on under any definition that is deployed; None where it can."""
        version = kept["version"]
        definition = self._saga.versions.get(version)
        if definition is None:
            return f"it began under version {version}, which is not deployed: deploy it, or give it as previous=[...]"
        heard = [
            kept["start"]["type"],
            *(step["answer"]["type"] for step in kept["steps"].values() if "answer" in step),
        ]
        gone = [f"step {name!r}" for name in kept["steps"] if name not in definition.steps]
        gone += [type for type in heard if type not in self._classes]
        if not gone:
            return None
        return (
            f"it began under another version {version}, with {' and '.join(gone)}, which this one has not: "
            "give this one a version= of its own, and that one as previous=[...]"
        )

    def read(self, kept: Mapping[str, Any]) -> Instance:
        """Return a run as the machine has it. It must be no `misfit`."""
        steps = {name: self._progress(step) for name, step in kept["steps"].items()}
        return Instance(
            version=kept["version"],
            start=self._said(kept["start"]),
            steps=steps,
            phase=Phase(kept["phase"]),
            undoing=kept["undoing"],
            reason=kept["reason"],
            ended=kept.get("ended", kept["phase"] == Phase.COMPLETED.value),
        )

    def write(self, workflow: str, run: Instance, *, start: Envelope | None = None) -> None:
        """Keep a run; with *start*, the envelope that its commands take after."""
        runs = self._state.mapping(workflow)
        known: dict[str, Any] = runs.get(run.id, {})
        inherited = known.get("inherited", {}) if start is None else _inherited(start)
        said = {one["id"]: one for one in _said_in(known)}
        kept: dict[str, Any] = {
            "version": run.version,
            "phase": run.phase.value,
            "undoing": run.undoing,
            "reason": run.reason,
            "start": _kept(run.start, said),
            "steps": {name: _kept_step(step, said) for name, step in run.steps.items()},
            "inherited": inherited,
            "due": known.get("due", {}),
        }
        if run.ended:
            kept["ended"] = True
        if run.phase in ENDED_PHASES:
            kept["ended_us"] = known.get("ended_us", self._now_us)
        _carry_through(known, kept)
        runs[run.id] = kept
        if run.phase in ENDED_PHASES and "ended_us" not in known:
            self._agenda.add(workflow, self._now_us + LINGER_US, now_us=self._now_us)

    def hold(self, workflow: str, id: str, heard: Said, parents: tuple[str, ...], problem: str) -> bool:
        """Keep what came for a run that cannot go on now; says whether it is the first."""
        run = self._state.mapping(workflow)[id]
        held: list[Any] = run.setdefault("held", [])
        held.append(_fresh(heard) | {"parents": [*parents]})
        run["phase"], run["reason"] = Phase.PARKED.value, problem
        return len(held) == 1

    def released(self, workflow: str) -> Iterator[tuple[Said, tuple[str, ...]]]:
        """Take out and yield what was held for runs of a workflow that can go on now, with what each follows from."""
        for run in self._state.mapping(workflow).values():
            if self.misfit(run) is None:
                for held in run.pop("held", ()):
                    yield self._said(held), tuple(held["parents"])

    def wake(self, workflow: str, id: str, wake: Wake) -> None:
        """Have a run come up among the `overdue` ones when its time has come; of one command the newest time counts."""
        due_us = self._now_us + round(wake.after_s * 1_000_000)
        self._state.mapping(workflow)[id]["due"][wake.command] = [due_us, wake.tries]
        self._agenda.add(workflow, due_us, now_us=self._now_us)

    def overdue(self) -> Iterator[Overdue]:
        """Take out and yield the times that have come; forget the runs that ended long ago."""
        for workflow in dict.fromkeys(self._agenda.due(self._now_us)):
            try:
                runs = self._state.mapping(workflow)
                with workable(runs, workflow, saga=True):
                    overdue = [*self._overdue(workflow, runs)]
            except StateDamagedError as error:
                # The others' time has come too.
                log.error("a workflow's runs cannot be read; they are looked at no more", exc_info=error)
                continue
            yield from overdue

    def _overdue(self, workflow: str, runs: MutableMapping[str, Any]) -> Iterator[Overdue]:
        for id, run in [*runs.items()]:
            if run.get("ended_us", self._now_us) + LINGER_US <= self._now_us:
                del runs[id]
                continue
            due: MutableMapping[str, Any] = run["due"]
            for command, (due_us, tries) in [*due.items()]:
                if due_us <= self._now_us:
                    del due[command]
                    yield Overdue(workflow, command, tries)

    def next_us(self, *, added: bool) -> int | None:
        """Return when a run is next due; with *added*, of those alone that were noted here."""
        return self._agenda.next_us(added=added)

    def _said(self, kept: Mapping[str, Any]) -> Said:
        event = event_from_json(self._classes[kept["type"]], json.dumps(kept["data"]), besides=True)
        return Said(kept["id"], event)

    def _progress(self, kept: Mapping[str, Any]) -> Progress:
        stage = Stage(kept["stage"])
        return Progress(
            stage=stage,
            command=kept.get("command", ""),
            parents=tuple(kept.get("parents", ())),
            made=kept.get("made", 0),
            tries=kept.get("tries", 0),
            answer=self._said(kept["answer"]) if "answer" in kept else None,
            answered=kept.get("answered", stage is Stage.DONE),
            rounds=tuple(self._round(one) for one in kept.get("rounds", ())),
            heard=tuple(kept.get("heard", ())),
            unknown=kept.get("unknown", False),
            unsure=kept.get("unsure", False),
            below=kept.get("below", ""),
            failed=tuple(kept.get("failed", ())),
            problem=kept.get("problem", ""),
        )

    def _round(self, kept: Mapping[str, Any]) -> Round:
        return Round(kept["command"], self._said(kept["answer"]) if "answer" in kept else None)


def _inherited(start: Envelope) -> dict[str, Any]:
    return {of: value for of in _INHERITED if (value := getattr(start, of)) is not None}


def _said_in(run: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the events of a run, as they are kept."""
    if not run:
        return
    yield run["start"]
    for step in run["steps"].values():
        for part in (step, *step.get("rounds", ())):
            if "answer" in part:
                yield part["answer"]


def _carry_through(before: Mapping[str, Any], written: dict[str, Any]) -> None:
    """Put into what is *written* of a run what a newer release had said *before* besides, wherever there is still a place for it."""
    if not before:
        return
    carry(before, written, _RUN)
    steps = before["steps"]
    for name, step in written["steps"].items():
        if name not in steps:
            continue
        was = steps[name]
        carry(was, step, _STEP)
        if "rounds" in step and "rounds" in was:
            rounds = {one["command"]: one for one in was["rounds"]}
            for one in step["rounds"]:
                carry(rounds.get(one["command"], _NONE), one, _ROUND)


def _kept(said: Said, before: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an event as JSON: as it was kept *before*, by its id, since it does not change, and a newer release's class may know more of it."""
    return before.get(said.id) or _fresh(said)


def _fresh(said: Said) -> dict[str, Any]:
    event: Event = said.event
    return {"id": said.id, "type": event.__event__.type, "data": to_json(event)}


def _kept_step(step: Progress, before: Mapping[str, Any]) -> dict[str, Any]:
    """Return a step as JSON; what is as in one that was just begun is left out."""
    said: dict[str, Any] = {
        "command": step.command,
        "parents": [*step.parents],
        "made": step.made,
        "tries": step.tries,
        "answer": None if step.answer is None else _kept(step.answer, before),
        "rounds": [_kept_round(one, before) for one in step.rounds],
        "heard": [*step.heard],
        "unknown": step.unknown,
        "unsure": step.unsure,
        "below": step.below,
        "failed": [*step.failed],
        "problem": step.problem,
    }
    kept = {"stage": step.stage.value} | {name: value for name, value in said.items() if value}
    # Of one that is done it goes without saying.
    return kept if step.answered is (step.stage is Stage.DONE) else kept | {"answered": step.answered}


def _kept_round(one: Round, before: Mapping[str, Any]) -> dict[str, Any]:
    return {"command": one.command} | ({} if one.answer is None else {"answer": _kept(one.answer, before)})


_RUN = frozenset(
    ("version", "phase", "undoing", "reason", "start", "steps", "inherited", "due", "held", "ended", "ended_us")
)
_STEP = frozenset(field.name for field in dataclasses.fields(Progress))
_ROUND = frozenset(Round._fields)
_NONE: Mapping[str, Any] = {}
