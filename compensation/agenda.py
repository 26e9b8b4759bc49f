"""When to look at which workflow again: due times that live in the coordinator's own state.

Ids stand in slots, by the time they are due, a slot in pages of few ids, so
that noting one more rewrites one page whatever the number of those that wait.
"""

from __future__ import annotations

from antiphon.bus.delivery import State

RESERVED = "antiphon:"
"""What keys of the coordinator's state begin with that are no workflow's."""

_INDEX = f"{RESERVED}agenda"
_PAGE = 100
_FINEST_US = 1 << 17
_SLOTS = 64


class Agenda:
    """One partition's due times. An id is due once for each time it was added."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._added_us: int | None = None

    def add(self, id: str, due_us: int, *, now_us: int) -> None:
        """Have *id* come up at *due_us*, or by up to a sixty-fourth of the time until then (at least 0.13 s) later."""
        # Times to come are rounded up to a step that grows with their distance, so slots stay few.
        step = max(_FINEST_US, 1 << max(0, (due_us - now_us) // _SLOTS).bit_length())
        slot = str(-(-due_us // step) * step)
        index = self._state.mapping(_INDEX)
        last = index.setdefault(slot, 0)
        page = self._state.mapping(_page(slot, last))
        if len(page.get("ids", ())) >= _PAGE:
            last = index[slot] = last + 1
            page = self._state.mapping(_page(slot, last))
        page.setdefault("ids", []).append(id)
        self._added_us = min(int(slot), self._added_us or int(slot))

    def due(self, now_us: int, *, most: int | None = None) -> list[str]:
        """Take out and return the ids whose time has come, the earliest first; no further page after *most* ids."""
        index = self._state.mapping(_INDEX)
        found: list[str] = []
        for slot in sorted((slot for slot in index if int(slot) <= now_us), key=int):
            for number in range(index[slot], -1, -1):
                if most is not None and len(found) >= most:
                    return found
                page = self._state.mapping(_page(slot, number))
                found += page.get("ids", ())
                page.clear()
                index[slot] = number - 1
            del index[slot]
        return found

    def next_us(self, *, added: bool) -> int | None:
        """Return when the next id is due; with *added* of those alone that were added here, which costs no look at the state."""
        if added:
            return self._added_us
        return min(map(int, self._state.mapping(_INDEX)), default=None)


def _page(slot: str, number: int) -> str:
    return f"{_INDEX}/{slot}/{number}"
