"""The event: one fact, as users declare it and as every handler gets it."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Callable
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict

from antiphon.schemas.defaults import default_of
from antiphon.schemas.envelope import Envelope
from antiphon.schemas.errors import EventDefinitionError
from antiphon.schemas.shape import records, shape_of

# What Kafka takes as the name of a topic; a namespace in front must fit too.
_LEGAL = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,199}")


@dataclasses.dataclass(frozen=True, slots=True)
class Declaration:
    """What an event class says about its events: the wire's name, where they go, and what they mean."""

    type: str
    topic: str
    key: str | None = None
    """The field whose value is the record's key; None: the correlation id."""
    fails: bool = False
    """An event of this class says that its workflow has failed."""


class Event(BaseModel):
    """Base of every event class.

    The fields are the event's data. What places it in its workflow is its
    envelope, which the mesh adds when the event is emitted or arrives; read it
    through `Context`, or with `envelope_of`.

    >>> class TicketOpened(Event):
    ...     ticket_id: str
    >>> TicketOpened.__event__
    Declaration(type='ticket.opened', topic='ticket.opened', key=None, fails=False)
    """

    # The envelope stands in a slot, not in a field: users' fields may have any
    # name, equality compares data alone, and a pydantic private attribute would
    # double the price of making an event.
    __slots__ = ("__envelope__",)

    # Arbitrary types are let through here so that they are refused below, by field and with a remedy.
    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True, arbitrary_types_allowed=True)
    __event__: ClassVar[Declaration]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Swallow the class line's own words; `__pydantic_init_subclass__` gets them once the fields are known."""
        super().__init_subclass__()

    @classmethod
    def __pydantic_init_subclass__(  # type: ignore[override]  # the class line takes these words and no others
        cls, *, type: str | None = None, topic: str | None = None, key: str | None = None, fails: bool = False
    ) -> None:
        name = type or event_type(cls.__name__)
        cls.__event__ = Declaration(name, topic or name, key, fails)
        if cls.__pydantic_complete__:
            cls.__pydantic_on_complete__()

    @classmethod
    def __pydantic_on_complete__(cls) -> None:
        """Refuse what cannot be declared. A class with open forward references comes here once they are known."""
        # pydantic also calls this before it calls `__pydantic_init_subclass__`, too early.
        if "__event__" in vars(cls):
            _check(cls)

    def sealed(self, envelope: Envelope) -> Self:
        """Return this event in *envelope*; a copy if it has one already, so nobody's event changes under him."""
        event = self if envelope_or_none(self) is None else self.model_copy()
        seal(event, envelope)
        return event


Event.__event__ = Declaration("event", "event")


def _check(cls: type[Event]) -> None:
    said = cls.__event__
    for word, name in (("type", said.type), ("topic", said.topic)):
        if not _LEGAL.fullmatch(name):
            raise EventDefinitionError(
                cls.__name__,
                f"{word} to be a legal Kafka topic name (A-Z, a-z, 0-9, '.', '_', '-', up to 200)",
                repr(name),
                f'Say {word}="..." in the class line',
            )
    if said.key is not None and said.key not in cls.model_fields:
        near = difflib.get_close_matches(said.key, cls.model_fields, n=1)
        fields = ", ".join(cls.model_fields) or "none"
        raise EventDefinitionError(
            cls.__name__,
            f"key to name one of its fields ({fields})",
            repr(said.key),
            f"Did you mean {near[0]!r}?" if near else "Name a field, or leave key out to use the correlation id",
        )
    for record in records(shape_of(cls)):
        for field in record.fields:
            default_of(record, field)


def envelope_of(event: Event) -> Envelope:
    """Return the envelope of an event that was emitted or has arrived; raises `ValueError` on one just made."""
    envelope = envelope_or_none(event)
    if envelope is None:
        message = f"expected an event that was published or received, got a {type(event).__name__} that was only made"
        raise ValueError(message)
    return envelope


def envelope_or_none(event: Event) -> Envelope | None:
    """Return the envelope of *event*, or None for one that was only made so far."""
    try:
        envelope: Envelope = _slot.__get__(
            event
        )  # straight from the slot: through pydantic's `__getattr__` an empty one costs 2 us
    except AttributeError:
        return None
    return envelope


_slot = Event.__dict__["__envelope__"]
seal: Callable[[Event, Envelope], None] = _slot.__set__
"""Put an event that nobody else has yet into its envelope; for all others there is `Event.sealed`."""


def event_type(name: str) -> str:
    """Return the event type of a class that does not say one.

    >>> event_type("OrderPlaced"), event_type("HTTPRequestSent")
    ('order.placed', 'http.request.sent')
    """
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", ".", name).lower()


def key_of(event: Event) -> str | None:
    """Return the record key that the event's class asks for; None means the correlation id."""
    field = event.__event__.key
    return None if field is None else str(getattr(event, field))
