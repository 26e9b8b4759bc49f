"""What goes into one request: several small workflows, or a part of a large one, never more than an endpoint takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

from antiphon.tracing.otlp.deciding import Act, Decision
from antiphon.tracing.otlp.ledger import Waiting
from antiphon.tracing.spans.span import Span

_ROOM = 1 << 20
"""Bytes of one request, about: what collectors take by default is four times that."""
_PLAIN = 1_024
"""What a span takes beside its texts: a generous guess, so a request holds a thousand at most."""


@dataclasses.dataclass(frozen=True)
class Parcel:
    """What is to be sent of one workflow."""

    waiting: Waiting
    decision: Decision
    spans: Sequence[Span]


def requests(parcels: Iterable[Parcel]) -> Iterator[Sequence[Parcel]]:
    """Yield what goes into one request each: several small workflows, or a part of a large one."""
    held: list[Parcel] = []
    room = _ROOM
    for parcel in parcels:
        parts = [*_parts(parcel.spans)]
        for part in parts:
            size = sum(map(_size, part))
            if size > room and held:
                yield held
                held, room = [], _ROOM
            # What is left to do about a workflow is known when its last part is sent.
            decision = parcel.decision if part is parts[-1] else Decision(Act.LOOK_AGAIN)
            held.append(Parcel(parcel.waiting, decision, part))
            room -= size
    if held:
        yield held


def _parts(spans: Sequence[Span]) -> Iterator[Sequence[Span]]:
    """Cut *spans* where one request could not hold them; one that could not alone goes alone."""
    start, room = 0, _ROOM
    for end, span in enumerate(spans):
        size = _size(span)
        if size > room and end > start:
            yield spans[start:end]
            start, room = end, _ROOM
        room -= size
    yield spans[start:]


def _size(span: Span) -> int:
    """Return about how many bytes a span takes: the data of events and tracebacks may be long."""
    texts = [span.attributes, *(moment.attributes for moment in span.moments)]
    return _PLAIN + sum(len(it) for attributes in texts for it in attributes.values() if isinstance(it, str))
