"""Which code handles past events again: an agent as it is here, or a candidate for its place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from antiphon.bus.consumer import Consumer
from antiphon.replay.errors import CandidateError
from antiphon.replay.recording import Handling


class Wanted(NamedTuple):
    """What was asked for on one `--agent`."""

    name: str | None
    """The agent whose handlings are meant; None: those of whatever is found at the target."""
    target: str | None
    """Where its code is: `MOD:AGENT`, `FILE.py:AGENT`; None: it is looked for."""


def wanted(text: str) -> Wanted:
    """Read `NAME`, `NAME=TARGET` or `TARGET`.

    >>> wanted("triage"), wanted("triage=./triage_v2.py:triage")
    (Wanted(name='triage', target=None), Wanted(name='triage', target='./triage_v2.py:triage'))
    >>> wanted("support:triage")
    Wanted(name=None, target='support:triage')
    """
    name, equals, target = text.partition("=")
    if equals:
        return Wanted(name, target)
    return Wanted(None, text) if ":" in text or text.endswith(".py") or "/" in text else Wanted(text, None)


def check(consumers: Iterable[Consumer], chosen: Sequence[Handling]) -> None:
    """Raise `CandidateError` where one of *consumers* does not hear what it is to handle again."""
    for consumer in consumers:
        types = {handling.entry.event_type for handling in chosen if handling.agent == consumer.name}
        if deaf := sorted(types - consumer.hears.keys()):
            raise CandidateError(consumer.name, deaf, sorted(consumer.hears))
