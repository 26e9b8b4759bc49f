"""What an agent was given and what activity says became of it: every delivery ends once."""

from __future__ import annotations

from collections import defaultdict

from books import Anomaly, Findings, Marks

from antiphon.bus.delivery import Outcome

_FINAL = frozenset({Outcome.COMPLETED.value, Outcome.DEAD_LETTERED.value, Outcome.EXPIRED.value})


class Deliveries:
    """The deliveries of one agent, by where their events stand; a bit each."""

    def __init__(self, agent: str, findings: Findings) -> None:
        self._agent = agent
        self._findings = findings
        self._there: defaultdict[int, Marks] = defaultdict(Marks)
        self._ended: defaultdict[int, Marks] = defaultdict(Marks)
        self.repeated: set[tuple[int, int]] = set()
        """Where events stand that ended more than once."""

    def there(self, partition: int, offset: int) -> None:
        """Note that an event of the agent's input stands there."""
        self._there[partition].add(offset)

    def ended(self, partition: int, offset: int, outcome: str, where: str) -> bool:
        """Note that activity tells an outcome of the event that stands there; says whether it is the first last word on it."""
        if outcome not in _FINAL:
            return False
        what = f"{self._agent} {outcome} {partition}@{offset}, {where}"
        if outcome != Outcome.COMPLETED.value:
            self._findings.add(Anomaly.UNEXPECTED, what)
        if not self._ended[partition].add(offset):
            self._findings.add(Anomaly.DUPLICATE, what)
            self.repeated.add((partition, offset))
            return False
        return True

    def close(self) -> None:
        """Nothing more will come: compare."""
        for partition in sorted(self._there.keys() | self._ended.keys()):
            there, ended = self._there[partition], self._ended[partition]
            for offset in there.without(ended):
                self._findings.add(Anomaly.LOST_WRITE, f"the end of {self._agent}'s {partition}@{offset}, activity")
            for offset in ended.without(there):
                self._findings.add(Anomaly.UNEXPECTED, f"the end of {self._agent}'s {partition}@{offset}, activity")
