"""When to look at which workflow again: due times that live in the coordinator's own state.

Ids stand in slots, by the time they are due, a slot in pages of few ids, so
that noting one more rewrites one page whatever the number of those that wait.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator

from antiphon.bus.delivery import State
from antiphon.bus.state import StateDamagedError

RESERVED = "antiphon:"
"""What keys of the coordinator's state begin with that are no workflow's."""

_INDEX = f"{RESERVED}agenda"
_PAGE = 100
_MOST_PAGES = 100_000
"""Of one slot. A number beyond that nobody has written here."""
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
        with _legible():
            index = self._state.mapping(_INDEX)
            last = _checked(index.setdefault(slot, 0))
            page = self._state.mapping(_page(slot, last))
            if len(page.get("ids", ())) >= _PAGE:
                last = index[slot] = last + 1
                page = self._state.mapping(_page(slot, last))
            page.setdefault("ids", []).append(id)
        self._added_us = min(int(slot), self._added_us or int(slot))

    def due(self, now_us: int, *, most: int | None = None) -> list[str]:
        """Take out and return the ids whose time has come, the earliest first; no further page after *most* ids."""
        found: list[str] = []
        with _legible():
            index = self._state.mapping(_INDEX)
            for slot in sorted((slot for slot in index if int(slot) <= now_us), key=int):
                for number in range(_checked(index[slot]), -1, -1):
                    if most is not None and len(found) >= most:
                        return found
                    page = self._state.mapping(_page(slot, number))
                    # What is no id is nobody's: whoever looks there would find nothing.
                    found += [id for id in page.get("ids", ()) if isinstance(id, str)]
                    page.clear()
                    index[slot] = number - 1
                del index[slot]
        return found

    def next_us(self, *, added: bool) -> int | None:
        """Return when the next id is due; with *added* of those alone that were added here, which costs no look at the state."""
        if added:
            return self._added_us
        with _legible():
            return min(map(int, self._state.mapping(_INDEX)), default=None)


@contextlib.contextmanager
def _legible() -> Generator[None]:
    """Work with the agenda; raises `StateDamagedError` where it is not as it is written here."""
    try:
        yield
    except (TypeError, ValueError, AttributeError) as error:
        raise StateDamagedError(_INDEX, f"an agenda that cannot be read ({error})") from error


def _checked(number: int) -> int:
    if not -1 <= number <= _MOST_PAGES:
        message = f"expected a number of pages, got {number}"
        raise ValueError(message)
    return number


def _page(slot: str, number: int) -> str:
    return f"{_INDEX}/{slot}/{number}"
