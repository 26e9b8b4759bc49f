"""A mesh as values: what may happen next in it, and how it is after that.

The agents' handlers, the sagas' and the coordinator's run as they are; the log, offsets, transactions
and time are a model: one step is one delivery, and what came of it is there
whole or not at all. So a step costs a call and little more, any position can be
gone back to, and two ways to one position are known to be the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import orjson

from antiphon.bus.activity import Activity
from antiphon.bus.alarms import TimeCame
from antiphon.bus.delivery import Outcome
from antiphon.bus.intervention import Act, SagaIntervened
from antiphon.bus.names import COORDINATOR
from antiphon.bus.undo import UndoRequested
from antiphon.bus.verdict import SagaFailed, SagaTold
from antiphon.compensation.kept import NOTHING, kept
from antiphon.compensation.workflow import Phase, Workflow
from antiphon.schemas.envelope import Envelope
from antiphon.schemas.event import Event, envelope_of, key_of
from antiphon.testing.chaos import SimulatedError
from antiphon.testing.model.choosing import OPERATOR, TIME, TOO_EARLY, Choice, Mishap
from antiphon.testing.model.crew import Crew, Ran
from antiphon.testing.model.keeping import changed, crashed, with_value
from antiphon.testing.model.position import WORKFLOW, Due, Known, Position, Step, by_lane, is_due, parents_of
from antiphon.testing.model.telling import entry_of, sentence
from antiphon.testing.model.undoing import asked, is_judged, undone
from antiphon.testing.outside import Outside
from antiphon.testing.story import START_US


class Model:
    """Agents, sagas, the coordinator, and what they change outside; `options` and `after` play them.

    Raises `NotModelledError`.
    """

    def __init__(
        self,
        agents: Iterable[object],
        *,
        outside: Outside,
        mishaps: Collection[Mishap] = (),
        repeats: int = 1,
        repeatable: bool = True,
    ) -> None:
        self.crew = Crew(agents, outside)
        self._outside = outside
        self._mishaps = frozenset(mishaps)
        self._repeats = repeats
        self._repeatable = repeatable

    # What there is.

    def published(self, position: Position, event: Event, number: int) -> Position:
        """Have *event* come from outside; the first is the workflow's root."""
        id = WORKFLOW if number == 0 else f"{WORKFLOW[:-1]}{number:x}"
        sealed = _from_outside(event, id)
        events, due = self._put(position, [sealed])
        return dataclasses.replace(
            position,
            events=events,
            due=due,
            outside=position.outside or self._outside.taken(),
            alarms=position.alarms or dict.fromkeys(self.crew.sagas),
            history=Step(position.history, -1, f"{event.__event__.type} is published", None, [sealed]),
        )

    def kept(self, position: Position) -> Workflow:
        """Return what the coordinator keeps of the workflow."""
        value = position.states.get((COORDINATOR, WORKFLOW))
        return NOTHING if value is None else kept(orjson.loads(value)).workflow

    def phases(self, position: Position) -> Mapping[tuple[str, str], Phase]:
        """Return how each run of each saga stands, by saga and the event that started it."""
        return {
            (saga, start): Phase(run["phase"]) for saga in self.crew.sagas for start, run in position.runs(saga).items()
        }

    # What may happen.

    def options(self, position: Position) -> list[Choice]:
        """Return what may happen next, first what goes well; nothing where all is done."""
        if position.problem:
            return []
        if (place := self._of_coordinator(position)) is not None:
            return [Choice(place)]
        found: list[Choice] = []
        lane: object = None
        for place, due in enumerate(position.due):
            if due.lane != lane:
                lane = due.lane
                found += [Choice(place, mishap) for mishap in self._may_happen(position, due)]
        saga = self.next_woken(position)
        if found:
            may_be_late = saga is not None and Mishap.LATE in self._mishaps and not _hears(position, saga)
            return [*found, TOO_EARLY] if may_be_late else found
        if saga is not None:
            return [TIME]
        return [OPERATOR] if self._is_parked(position) else []

    def _of_coordinator(self, position: Position) -> int | None:
        """Return what the coordinator handles before all else, where whether it is slow makes no difference.

        It hears activity alone, in order, and nobody else sees what it keeps: what it
        says may lie as long as it likes, and nothing that happens meanwhile would have
        it say something else.
        """
        if not self.crew.sagas:
            return None
        its = [place for place, due in enumerate(position.due) if due.agent == COORDINATOR]
        only_activity = all(isinstance(position.due[place].event, Activity) for place in its)
        return its[0] if its and only_activity else None

    def _may_happen(self, position: Position, due: Due) -> Iterator[Mishap | None]:
        yield None
        # The coordinator's crash changes nothing: all it has is its state and what it hears.
        if due.agent == COORDINATOR or due.again:
            return
        possible = {Mishap.REPEAT} if position.repeats < self._repeats else set[Mishap]()
        if due.thrown is None:
            possible |= {Mishap.CRASH, Mishap.GIVE_UP, Mishap.TIME_OUT}
        if self._is_aftermath(position, due.event):
            possible -= {Mishap.TIME_OUT}
        if due.agent in self.crew.sagas:
            # It does nothing outside either, and handles what it hears.
            possible -= {Mishap.CRASH, Mishap.GIVE_UP}
            if isinstance(due.event, SagaTold | SagaIntervened):
                possible.clear()
        if isinstance(due.event, UndoRequested) and due.event.event_id in position.given_up:
            possible -= {Mishap.GIVE_UP}
        if self.crew.sagas and position.words:
            # Somebody has mended what failed. A saga would have it tried as often as it is told to.
            possible -= {Mishap.GIVE_UP}
        yield from (mishap for mishap in Mishap if mishap in possible & self._mishaps)

    def next_woken(self, position: Position) -> str | None:
        """Return the saga whose time comes next, of those that wait for one; None where none does."""
        named = [
            (due_us, saga) for saga, due_us in position.alarms.items() if due_us is not None and position.waits(saga)
        ]
        return min(named)[1] if named else None

    def _is_parked(self, position: Position) -> bool:
        """Say whether something waits for a person, who has not had it tried again yet."""
        phases = {self.kept(position).phase, *self.phases(position).values()}
        return Phase.PARKED in phases and (position.words == 0 or not position.given_up <= position.retried)

    # What comes of it.

    async def after(self, position: Position, choice: Choice, number: int = -1) -> Position:
        """Return the position after *choice*, the *number*-th of the options."""
        position = dataclasses.replace(
            position, steps=position.steps + 1, mishaps=position.mishaps + (choice.mishap is not None)
        )
        if choice == OPERATOR:
            return self._intervened(position, number)
        if choice in (TIME, TOO_EARLY):
            return await self._woken(position, choice, number)
        due = position.due[choice.lane]
        rest = (*position.due[: choice.lane], *position.due[choice.lane + 1 :])
        left = dataclasses.replace(position, due=rest)
        if choice.mishap is Mishap.GIVE_UP:
            ran = Ran(error=SimulatedError("given up"))
            return self._ended(left, due, choice, number, ran, Outcome.DEAD_LETTERED)
        if choice.mishap is Mishap.TIME_OUT:
            return self._ended(left, due, choice, number, Ran(), Outcome.EXPIRED)
        ran = await self.crew.call(position, due)
        left = dataclasses.replace(left, outside=self._outside.taken())
        if due.thrown is not None and self._repeatable and ran.differs(due.thrown):
            problem = (
                f"{due.agent} answers {due.event.__event__.type} otherwise after a crash, though its state was the same: "
                "it keeps something outside of its state"
            )
            left = dataclasses.replace(left, problem=problem)
        if choice.mishap is Mishap.CRASH:
            return crashed(left, due, number, ran)
        outcome = Outcome.COMPLETED if ran.error is None else Outcome.DEAD_LETTERED
        return self._ended(left, due, choice, number, ran, Outcome.SKIPPED if ran.passed_over else outcome)

    def _ended(self, position: Position, due: Due, choice: Choice, number: int, ran: Ran, outcome: Outcome) -> Position:
        """Put all that came of a delivery where it belongs: in one, as a transaction does."""
        envelope = envelope_of(due.event)
        entry: Activity | None = None
        failed = position.failed
        if due.agent != COORDINATOR:
            entry = entry_of(self.crew.consumers[due.agent], due, ran, outcome)
            failed = failed or self._fails(position, due, ran, outcome)
        events, pending = self._put(position, ran.emitted, by=due.agent, again=due.again)
        if choice.mishap is Mishap.REPEAT:
            pending = by_lane((*pending, Due(due.agent, due.event, again=True)))
            position = dataclasses.replace(position, repeats=position.repeats + 1)
        if entry is not None:
            pending = by_lane((*pending, Due(COORDINATOR, entry)))
        after = dataclasses.replace(
            changed(position, due.agent, ran),
            due=pending,
            events=events,
            remembered=with_value(position.remembered, (due.agent, envelope.id), None),
            failed=failed,
            history=Step(position.history, number, sentence(due, choice.mishap, ran, outcome), entry, ran.emitted),
        )
        return asked(after, ran.emitted) if due.agent == COORDINATOR else undone(after, due, outcome)

    async def _woken(self, position: Position, choice: Choice, number: int) -> Position:
        """Let time go on to the next alarm at which something is due, and have the saga look."""
        ran, saga, due = Ran(), self.next_woken(position), None
        while saga is not None and not ran.emitted and ran.error is None:
            due = Due(saga, _from_outside(TimeCame(), f"{WORKFLOW[:-4]}ffff"))
            now_us = max(position.now_us, position.alarms[saga] or 0)
            position = dataclasses.replace(position, now_us=now_us, alarms={**position.alarms, saga: None})
            ran = await self.crew.call(position, due)
            position = changed(position, saga, ran)
            saga = self.next_woken(position)
        assert due is not None  # noqa: S101 - or there was no such choice
        events, pending = self._put(position, ran.emitted, by=due.agent)
        return dataclasses.replace(
            position,
            events=events,
            due=pending,
            history=Step(position.history, number, sentence(due, choice.mishap), None, ran.emitted),
            problem=f"{due.agent} cannot look at what is due: {ran.error!r}" if ran.error else "",
        )

    def _intervened(self, position: Position, number: int) -> Position:
        said = SagaIntervened(act=Act.RETRY, actor="explorer", reason="to see whether it works now")
        sealed = _from_outside(said, f"{WORKFLOW[:-3]}f{position.words:02x}")
        events, due = self._put(position, [sealed])
        step = Step(position.history, number, "an operator has tried again what was given up", None, [sealed])
        return dataclasses.replace(
            position, events=events, due=due, retried=position.given_up, words=position.words + 1, history=step
        )

    def _put(
        self, position: Position, emitted: Sequence[Event], *, by: str = "", again: bool = False
    ) -> tuple[Mapping[str, Known], tuple[Due, ...]]:
        """Put *emitted* on their topics: what is known then, and who has to handle what."""
        if not emitted:
            return position.events, position.due
        events, due = {**position.events}, [*position.due]
        for event in emitted:
            id, known = envelope_of(event).id, events.get(envelope_of(event).id)
            undo = isinstance(event, UndoRequested)
            aftermath = undo or any(events[id].aftermath for id in parents_of(event) if id in events)
            # Whichever failure the coordinator names as the reason, it asks for the same.
            value = event.event_id if isinstance(event, UndoRequested) else event.model_dump_json()
            events[id] = Known(
                event,
                value.encode(),
                aftermath,
                undoable=not aftermath and self.crew.can_undo(event),
                late=again if known is None else known.late,
                by=by if self.crew.asks(by, event) else "",
            )
            # A saga may ask a second time by the same command.
            repeats = again or (known is not None and not undo)
            due += [Due(agent, event, again=repeats) for agent in self.crew.hearers(event)]
        return events, by_lane(due)

    def _is_aftermath(self, position: Position, event: Event) -> bool:
        return isinstance(event, UndoRequested) or position.events[envelope_of(event).id].aftermath

    def _fails(self, position: Position, due: Due, ran: Ran, outcome: Outcome) -> bool:
        """Say whether the whole workflow fails by a delivery."""
        if self._is_aftermath(position, due.event):
            return False
        if outcome is Outcome.EXPIRED:
            return True
        says_so = any(
            event.__event__.fails and not isinstance(event, SagaFailed) for event in (*ran.emitted, due.event)
        )
        is_well = outcome in (Outcome.COMPLETED, Outcome.SKIPPED)
        return (says_so or not is_well) and not is_judged(position, envelope_of(due.event).id)


def _hears(position: Position, saga: str) -> bool:
    """Say whether a saga has something to handle that it handles before it looks: all that was there when the time came.

    What the coordinator tells or asks may come as late as it likes.
    """
    return any(
        due.agent == saga
        and not isinstance(due.event, UndoRequested)
        and (is_due(due.event) or not isinstance(due.event, SagaTold))
        for due in position.due
    )


def _from_outside(event: Event, id: str) -> Event:
    envelope = Envelope.root(event.__event__.type, source="/apps/test", id=id, correlation_id=WORKFLOW)
    return event.sealed(dataclasses.replace(envelope, time_us=START_US, key=key_of(event)))
