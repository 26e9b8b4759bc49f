"""Whether code that is to handle past events again hears them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from antiphon.bus.consumer import Consumer
from antiphon.replay.errors import CandidateError
from antiphon.replay.recording import Handling


def check(consumers: Iterable[Consumer], chosen: Sequence[Handling]) -> None:
    """Raise `CandidateError` where one of *consumers* does not hear what it is to handle again."""
    for consumer in consumers:
        types = {handling.entry.event_type for handling in chosen if handling.agent == consumer.name}
        if deaf := sorted(types - consumer.hears.keys()):
            raise CandidateError(consumer.name, deaf, sorted(consumer.hears))
