"""What the numbers in rows stand for, for whoever reads rows on their way into an index."""

from __future__ import annotations

from collections.abc import Collection

from antiphon.tracing.index.database import Database
from antiphon.tracing.index.recurring import Numbers

_ASKED = 500
_REPLAYS = "SELECT workflow FROM replays WHERE workflow IN ({})"


class Legend:
    """Looks numbers up where they are given out; a number stands for the same for ever."""

    def __init__(self, numbers: Numbers, database: Database) -> None:
        self._numbers = numbers
        self._database = database
        self._names: dict[int, str] = {}
        self._topics: dict[int, str] = {}

    def replays(self, workflows: Collection[bytes]) -> set[bytes]:
        """Return those of *workflows* that a live replay began, as far as the index knows."""
        found: set[bytes] = set()
        asked = sorted(workflows)
        for start in range(0, len(asked), _ASKED):
            some = asked[start : start + _ASKED]
            found.update(row[0] for row in self._database.rows(_REPLAYS.format(", ".join("?" * len(some))), some))
        return found

    def name(self, number: int) -> str:
        """Return the text that recurs as *number*."""
        if number not in self._names:
            self._names = {no: name for name, no in self._numbers.items()}
        return self._names[number]

    def topic(self, source: int) -> str:
        """Return the plain name of the topic that is known as *source*."""
        if source not in self._topics:
            self._topics = dict(self._database.rows("SELECT no, topic FROM sources"))
        return self._topics[source]
