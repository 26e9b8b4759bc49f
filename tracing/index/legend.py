"""What the numbers in rows stand for, for whoever reads rows on their way into an index."""

from __future__ import annotations

from antiphon.tracing.index.database import Database
from antiphon.tracing.index.recurring import Numbers


class Legend:
    """Looks numbers up where they are given out; a number stands for the same for ever."""

    def __init__(self, numbers: Numbers, database: Database) -> None:
        self._numbers = numbers
        self._database = database
        self._names: dict[int, str] = {}
        self._topics: dict[int, str] = {}

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
