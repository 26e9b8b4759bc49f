"""What is said of a delivery: the entry of the activity record that the coordinator hears, and a sentence for people."""

from __future__ import annotations

from antiphon.bus.activity import Activity, Emitted, Failure, Handled
from antiphon.bus.alarms import TimeCame
from antiphon.bus.consumer import Consumer
from antiphon.bus.delivery import Outcome
from antiphon.bus.names import COORDINATOR
from antiphon.bus.undo import UndoRequested
from antiphon.bus.verdict import SagaTold
from antiphon.schemas.envelope import Envelope
from antiphon.schemas.event import Event, envelope_of
from antiphon.testing.model.choosing import Mishap
from antiphon.testing.model.crew import Ran
from antiphon.testing.model.position import WORKFLOW, Due
from antiphon.testing.story import START_US


def entry_of(consumer: Consumer, due: Due, ran: Ran, outcome: Outcome) -> Activity:
    """Return what stands on the activity topic of a delivery."""
    envelope = envelope_of(due.event)
    error = ran.error
    handled = Handled(
        event_id=envelope.id,
        event_type=envelope.type,
        correlation_id=envelope.correlation_id,
        key=envelope.key,
        topic=due.event.__event__.topic,
        partition=0,
        offset=0,
        attempt=ran.attempts,
        outcome=outcome,
        started_us=START_US,
        duration_us=0,
        queue_us=0,
        emitted=[_emitted(consumer, event) for event in ran.emitted],
        causes=[*ran.causes],
        error=None if error is None else Failure(type=type(error).__name__, message=str(error)),
        # Nobody's deadline is played; of one that has passed, the coordinator hears with what found that.
        deadline_us=START_US if outcome is Outcome.EXPIRED else None,
    )
    failing = [type for type, event_class in consumer.hears.items() if event_class.__event__.fails]
    activity = Activity(agent=due.agent, version="0", instance="model", failing=failing, deliveries=[handled])
    # Two that say the same have one id, others have not.
    said = [envelope.id, due.agent, outcome.value, *(event.__event__.type for event in ran.emitted)]
    told = Envelope(
        id="/".join(said),
        type=Activity.__event__.type,
        source="/model",
        time_us=START_US,
        correlation_id=WORKFLOW,
    )
    return activity.sealed(told)


def _emitted(consumer: Consumer, event: Event) -> Emitted:
    declared = event.__event__
    return Emitted(
        id=envelope_of(event).id,
        type=declared.type,
        fails=declared.fails,
        undo=event.model_dump_json().encode() if declared.type in consumer.undoes else None,
        told=event.model_dump_json().encode() if declared.type in consumer.tells else None,
    )


def sentence(due: Due, mishap: Mishap | None, ran: Ran | None = None, outcome: Outcome | None = None) -> str:
    """Say what happened to a delivery."""
    if due.agent == COORDINATOR:
        return _of_coordinator(due, ran)
    what = _named(due.event)
    said = f"{due.agent} handles {what}{' again' if due.again or due.thrown else ''}"
    if isinstance(due.event, TimeCame):
        said = f"a time comes that {due.agent} has named"
    match mishap:
        case Mishap.CRASH:
            return f"{said}, and {mishap}"
        case Mishap.GIVE_UP | Mishap.TIME_OUT:
            return f"{due.agent} is handed {what}, and {mishap}"
        case _:
            pass
    if outcome is Outcome.SKIPPED:
        return f"{due.agent} passes {what} over, which was undone before it came"
    if ran is not None and ran.error is not None and outcome is not Outcome.COMPLETED:
        said += f", and gives it up: {type(ran.error).__name__}: {ran.error}"
    elif ran is not None and ran.emitted:
        said += f": {', '.join(_named(one) for one in ran.emitted)}"
    return said if mishap is None else f"{said}, {mishap}"


def _of_coordinator(due: Due, ran: Ran | None) -> str:
    emitted = ran.emitted if ran else ()
    heard = due.event.agent if isinstance(due.event, Activity) else "the operator"
    asks = [one.event_type for one in emitted if isinstance(one, UndoRequested)]
    tells = [f"{one.saga} {one.what}" for one in emitted if isinstance(one, SagaTold)]
    said = f"the coordinator hears of {heard}"
    if asks:
        said += f", and asks to undo {', '.join(asks)}"
    return f"{said}, and tells {', '.join(tells)}" if tells else said


def _named(event: Event) -> str:
    match event:
        case UndoRequested(event_type=type):
            return f"undo {type}"
        case SagaTold(what=what):
            return f"{event.__event__.type} ({what})"
        case _:
            return event.__event__.type
