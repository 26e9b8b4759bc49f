"""Sandboxes that nobody uses any more: what a replay could not remove, as it was killed."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from antiphon.bus.names import AGENTS, Names, sandbox_namespace, sandbox_of
from antiphon.bus.port import Bus
from antiphon.schemas.envelope import now_us

SILENT_S = 60.0
"""Workers say every few seconds that they are there; where none did for so long, none is."""
_DIGITS = 12


class Leftover(NamedTuple):
    """A sandbox that was not removed."""

    namespace: str
    """Under which its topics and groups stand."""
    topics: int
    begun_ms: int


def new_id() -> str:
    """Make the id of a sandbox: when it began, in milliseconds, and what no other one has; sixteen digits."""
    return f"{now_us() // 1_000:0{_DIGITS}x}{secrets.token_hex(2)}"


def sandboxes(topics: Iterable[str], names: Names) -> list[Leftover]:
    """Return the sandboxes of this mesh that have any of *topics*, the oldest first.

    >>> sandboxes(["replay.0199f2c100000001.ticket.opened", "replay.started", "ticket.opened"], Names())
    [Leftover(namespace='replay.0199f2c100000001', topics=1, begun_ms=1760714358784)]
    """
    found: dict[str, int] = {}
    for topic in topics:
        inside = topic.startswith(names.topic(""))
        id = sandbox_of(names.plain(topic)) if inside else None
        if id is not None:
            found[id] = found.get(id, 0) + 1
    return [
        Leftover(names.topic(sandbox_namespace(id)), count, int(id[:_DIGITS], 16))
        for id, count in sorted(found.items())
    ]


async def leftovers(bus: Bus, names: Names, *, silent_s: float = SILENT_S) -> list[Leftover]:
    """Return the sandboxes in which nobody has worked for *silent_s*. Joins no group. Raises `BusError`."""
    before_ms = now_us() // 1_000 - int(silent_s * 1_000)
    old = [one for one in sandboxes(await bus.topics(), names) if one.begun_ms < before_ms]
    return [one for one in old if not await _is_used(bus, one, before_ms)]


async def _is_used(bus: Bus, sandbox: Leftover, since_ms: int) -> bool:
    bounds = await bus.bounds([Names(sandbox.namespace).topic(AGENTS)])
    latest = await bus.offsets_at(bounds, since_ms)
    return any(latest[place] < end for place, (_, end) in bounds.items())


async def remove_leftovers(bus: Bus, names: Names, *, silent_s: float = SILENT_S) -> Sequence[Leftover]:
    """Remove the sandboxes that nobody uses, and return them."""
    found = await leftovers(bus, names, silent_s=silent_s)
    for one in found:
        await bus.remove(one.namespace)
    return found
