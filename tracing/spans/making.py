"""From a stitched workflow to the spans of one trace: a pure function.

    invoke_workflow order.placed                        the workflow, from its first event to the last thing seen
    └─ send order.placed                                an event: made in a moment
       └─ process order.placed                          a delivery: one for each attempt
          └─ invoke_agent stock                         ... its handler
             ├─ chat m-1                                ... a model call that it told of
             └─ send stock.reserved                     ... an event that it emitted

What comes of a workflow depends on the workflow alone, ids included: whoever
makes its spans again makes the same, and one that has come further has the same
spans and more. Only the first one changes until the workflow has ended.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Any

from antiphon.bus.activity import Spent
from antiphon.bus.delivery import Outcome
from antiphon.bus.names import Names
from antiphon.tracing.delivered import DONE, Delivered
from antiphon.tracing.seen import AGENT_SOURCE, SeenEvent
from antiphon.tracing.spans import names as n
from antiphon.tracing.spans.ids import Context, context_in, span_id, trace_id
from antiphon.tracing.spans.providers import provider_of
from antiphon.tracing.spans.saying import OUTSIDE, SUMMARY, confidence, exception, failure, messages, messaging
from antiphon.tracing.spans.span import Kind, Moment, Service, Span, Value
from antiphon.tracing.workflow import Workflow

_NOT_CALLED = frozenset({Outcome.EXPIRED, Outcome.SKIPPED})
"""Outcomes of deliveries whose handler was not called."""
_NO_NAMESPACE = Names()


class Relation(StrEnum):
    """How the handling of an event hangs on the event: backends differ in what they can show.

    Service graphs are drawn from parents alone; links go one way in some, and are not shown in others.
    The other events of a join are always links: a span has one parent.
    """

    PARENT = "parent"
    LINK = "link"
    BOTH = "both"


def root_id(correlation_id: str) -> str:
    """Return the id of the span that is the whole workflow: the one that is complete last."""
    return span_id(n.INVOKE_WORKFLOW, correlation_id)


def spans_of(
    workflow: Workflow, *, names: Names = _NO_NAMESPACE, relation: Relation = Relation.BOTH, content: bool = False
) -> list[Span]:
    """Return the spans of *workflow*, the one that is all of it first; none where nothing of it was seen.

    *names* says what topics and groups are called on the cluster. With *content*
    the data of events goes along, without what is marked as not to be shown.
    """
    making = _Making(workflow, names, relation, content=content)
    found = {span.id: span for span in making.spans()}
    return [*found.values()]


class _Making:
    """What is looked up while the spans of one workflow are made."""

    def __init__(self, workflow: Workflow, names: Names, relation: Relation, *, content: bool) -> None:
        self._workflow = workflow
        self._names = names
        self._relation = relation
        self._content = content
        self._events = {event.id: event for event in workflow.events}
        self._place = {event.id: place for place, event in enumerate(workflow.events)}
        self._emitters: defaultdict[str, list[Delivered]] = defaultdict(list)
        for delivery in workflow.deliveries:
            for emitted in delivery.emitted:
                self._emitters[emitted.id].append(delivery)
        self._ranks = {id(delivery): span_id(*delivery.known_by) for delivery in workflow.deliveries}
        self._outer = _outer(workflow)
        self._trace = trace_id(workflow.correlation_id) if self._outer is None else self._outer.trace_id
        self._root = root_id(workflow.correlation_id)

    def spans(self) -> Iterator[Span]:
        begun_us, last_us = self._workflow.extent
        if begun_us is None or last_us is None:
            return
        yield self._whole(begun_us, last_us)
        for event in self._workflow.events:
            yield self._send(event)
        for delivery in self._workflow.deliveries:
            yield from self._delivery(delivery)

    # -- the workflow -------------------------------------------------------

    def _whole(self, begun_us: int, last_us: int) -> Span:
        workflow = self._workflow
        failed = failure(workflow)
        attributes: dict[str, Value] = {
            n.GEN_AI_OPERATION: n.INVOKE_WORKFLOW,
            n.GEN_AI_CONVERSATION: workflow.correlation_id,
            n.STATE: workflow.state.value,
            n.EVENTS: len(workflow.events),
        }
        if workflow.type is not None:
            attributes[n.GEN_AI_WORKFLOW] = workflow.type
        if workflow.warnings:
            attributes[n.WARNINGS] = tuple(sorted({warning.kind.value for warning in workflow.warnings}))
        if failed is not None:
            attributes[n.ERROR_TYPE] = failed[0]
        if workflow.replay_of is not None:
            attributes[n.REPLAY_OF] = workflow.replay_of
        first = self._events.get(workflow.correlation_id) or next(iter(workflow.events), None)
        return Span(
            context=Context(self._trace, self._root),
            parent=None if self._outer is None else self._outer.span_id,
            name=_named(n.INVOKE_WORKFLOW, workflow.type),
            kind=Kind.INTERNAL,
            service=Service(OUTSIDE) if first is None else self._sayer(first),
            start_us=begun_us,
            end_us=last_us,
            attributes=attributes,
            error=None if failed is None else failed[1],
        )

    # -- events -------------------------------------------------------------

    def _sent(self, event_id: str) -> Context:
        return Context(self._trace, span_id(n.SEND, self._workflow.correlation_id, event_id))

    def _emitter(self, event: SeenEvent) -> Delivered | None:
        """Return the delivery that emitted *event*: one of an event before it, so that no chain of parents closes."""
        place = self._place[event.id]
        before = [d for d in self._emitters[event.id] if self._place.get(d.event_id, place) < place]
        return next((d for d in before if d.event_id == event.envelope.parent_id), next(iter(before), None))

    def _sayer(self, event: SeenEvent) -> Service:
        emitter = self._emitter(event)
        if emitter is not None:
            return _service(emitter)
        return Service(event.envelope.source.removeprefix(AGENT_SOURCE).strip("/").rpartition("/")[2] or OUTSIDE)

    def _send(self, event: SeenEvent) -> Span:
        emitter = self._emitter(event)
        seen = [self._sent(id) for id in event.parents if self._place.get(id, len(self._place)) < self._place[event.id]]
        if emitter is not None:
            parent, links = self._handling(emitter), []
        elif seen:
            # Whoever said it left no activity: it hangs on what it answers.
            parent, *links = seen[0].span_id, *seen[1:]
        else:
            parent, links = self._root, []
        # What was published into the workflow from elsewhere has a trace of its own, which it came from.
        outer = None if event.parents else context_in(event.envelope.traceparent)
        if outer is not None and outer != self._outer:
            links.append(outer)
        return Span(
            context=self._sent(event.id),
            parent=parent,
            name=_named(n.SEND, self._names.topic(event.topic)),
            kind=Kind.PRODUCER,
            service=self._sayer(event),
            start_us=event.envelope.time_us,
            end_us=event.envelope.time_us,
            attributes=messaging(n.SEND, event, self._names),
            links=tuple(links),
        )

    # -- deliveries ---------------------------------------------------------

    def _handling(self, delivery: Delivered) -> str:
        """Return the id of the span below which stands what *delivery* emitted."""
        doing = n.PROCESS if delivery.outcome in _NOT_CALLED else n.INVOKE_AGENT
        return self._of(delivery, doing)

    def _of(self, delivery: Delivered, doing: str, *which: object) -> str:
        return span_id(doing, self._workflow.correlation_id, self._ranks[id(delivery)], *which)

    def _delivery(self, delivery: Delivered) -> Iterator[Span]:
        yield self._process(delivery)
        if delivery.outcome not in _NOT_CALLED:
            yield self._invoke(delivery)
            for call, spent in enumerate(delivery.usage):
                yield self._chat(delivery, call, spent)

    def _process(self, delivery: Delivered) -> Span:
        event = self._events.get(delivery.event_id)
        parent, links = self._root, list[Context]()
        attributes: dict[str, Value] = {
            n.MESSAGING_SYSTEM: n.KAFKA,
            n.MESSAGING_OPERATION: n.PROCESS,
            n.MESSAGING_OPERATION_TYPE: n.PROCESS,
            n.MESSAGING_ID: delivery.event_id,
            n.MESSAGING_CONVERSATION: self._workflow.correlation_id,
            n.EVENT_TYPE: delivery.event_type,
        }
        if event is not None:
            created = self._sent(event.id)
            attributes = messaging(n.PROCESS, event, self._names)
            parent = self._root if self._relation is Relation.LINK else created.span_id
            links += [] if self._relation is Relation.PARENT else [created]
        attributes |= {
            n.MESSAGING_GROUP: self._names.group(delivery.agent),
            n.ATTEMPT: delivery.attempt,
            n.OUTCOME: delivery.outcome,
            n.QUEUE_WAIT: delivery.queue_us / 1_000_000,
        }
        return self._done(
            delivery,
            n.PROCESS,
            _named(n.PROCESS, delivery.event_type if event is None else self._names.topic(event.topic)),
            Kind.CONSUMER,
            parent,
            attributes,
            links=(*links, *self._joined(delivery)),
            moments=exception(delivery) if delivery.outcome in _NOT_CALLED else (),
        )

    def _joined(self, delivery: Delivered) -> list[Context]:
        """Return the other events that a join answered: those that what it emitted names beside its own."""
        answers = [self._events[emitted.id] for emitted in delivery.emitted if emitted.id in self._events]
        causes = dict.fromkeys(id for answer in answers for id in answer.parents if id != delivery.event_id)
        return [self._sent(id) for id in causes if id in self._events]

    def _invoke(self, delivery: Delivered) -> Span:
        attributes: dict[str, Value] = {
            n.GEN_AI_OPERATION: n.INVOKE_AGENT,
            n.GEN_AI_AGENT: delivery.agent,
            n.GEN_AI_CONVERSATION: self._workflow.correlation_id,
        }
        if delivery.version:
            attributes[n.GEN_AI_AGENT_VERSION] = delivery.version
        if self._workflow.type is not None:
            attributes[n.GEN_AI_WORKFLOW] = self._workflow.type
        if self._content:
            heard, said = self._data([delivery.event_id]), self._data(emitted.id for emitted in delivery.emitted)
            attributes |= {n.GEN_AI_INPUT: messages("user", heard)} if heard else {}
            attributes |= {n.GEN_AI_OUTPUT: messages("assistant", said)} if said else {}
        name, parent = _named(n.INVOKE_AGENT, delivery.agent), self._of(delivery, n.PROCESS)
        moments = (*exception(delivery), *confidence(delivery))
        return self._done(delivery, n.INVOKE_AGENT, name, Kind.INTERNAL, parent, attributes, moments=moments)

    def _data(self, ids: Iterable[str]) -> list[Any]:
        events = (self._events[id] for id in ids if id in self._events)
        return [event.data for event in events if event.problem is None]

    def _done(
        self,
        delivery: Delivered,
        doing: str,
        name: str,
        kind: Kind,
        parent: str,
        attributes: dict[str, Value],
        *,
        links: tuple[Context, ...] = (),
        moments: tuple[Moment, ...] = (),
    ) -> Span:
        """Return a span that lasts as long as *delivery*, and failed where that failed."""
        error: str | None = None
        if delivery.outcome not in DONE:
            attributes[n.ERROR_TYPE] = delivery.outcome if delivery.error is None else delivery.error.type
            error = delivery.outcome if delivery.error is None else delivery.error.message[:SUMMARY]
        return Span(
            context=Context(self._trace, self._of(delivery, doing)),
            parent=parent,
            name=name,
            kind=kind,
            service=_service(delivery),
            start_us=delivery.started_us,
            end_us=delivery.ended_us,
            attributes=attributes,
            links=links,
            moments=moments,
            error=error,
        )

    def _chat(self, delivery: Delivered, call: int, spent: Spent) -> Span:
        """Return the span of a model call. Where nobody told when in its delivery it was, it has that one's bounds."""
        started_us, ended_us = delivery.started_us, delivery.ended_us
        if spent.started_us is not None and spent.duration_us is not None:
            started_us, ended_us = spent.started_us, spent.started_us + spent.duration_us
        provider, model = provider_of(spent.model)
        attributes: dict[str, Value] = {
            n.GEN_AI_OPERATION: n.CHAT,
            n.GEN_AI_MODEL: model,
            n.GEN_AI_AGENT: delivery.agent,
            n.GEN_AI_CONVERSATION: self._workflow.correlation_id,
            n.GEN_AI_INPUT_TOKENS: spent.input_tokens,
            n.GEN_AI_OUTPUT_TOKENS: spent.output_tokens,
        }
        if provider is not None:
            attributes[n.GEN_AI_PROVIDER] = provider
        if spent.cost:
            # Here and nowhere above: whoever adds up a trace counts each call once.
            attributes |= {
                n.GEN_AI_COST: spent.cost,
                n.GEN_AI_COST_CURRENCY: spent.currency,
                n.GEN_AI_COST_SOURCE: n.REPORTED,
            }
        return Span(
            context=Context(self._trace, self._of(delivery, n.CHAT, call)),
            parent=self._of(delivery, n.INVOKE_AGENT),
            name=_named(n.CHAT, model),
            kind=Kind.CLIENT,
            service=_service(delivery),
            start_us=started_us,
            end_us=ended_us,
            attributes=attributes,
        )


def _outer(workflow: Workflow) -> Context | None:
    """Return the span that the workflow was started in: as its root says, or else the first event that says."""
    said = {event.id: found for event in workflow.events if (found := context_in(event.envelope.traceparent))}
    return said.get(workflow.correlation_id) or next(iter(said.values()), None)


def _service(delivery: Delivered) -> Service:
    return Service(delivery.agent, delivery.version or None, delivery.instance or None)


def _named(doing: str, what: str | None) -> str:
    return doing if what is None else f"{doing} {what}"
