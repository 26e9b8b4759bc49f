"""Side effects in a replay: from their record, again, or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import orjson

from antiphon.replay.errors import UnrecordedEffectError


class Effects(StrEnum):
    """What `context.once` does when an event is handled again."""

    RECORDED = "recorded"
    """It returns what it returned. One that has no record is not run: its handling fails."""
    LIVE = "live"
    """It runs again."""
    FORBID = "forbid"
    """As recorded; the first one that has no record ends the replay."""


class Results(dict[str, Any]):
    """Results by name, that of no other one: whoever asks for it is refused before the side effect runs."""

    def __init__(self, agent: str, event_id: str, recorded: Mapping[str, bytes]) -> None:
        super().__init__({name: orjson.loads(result) for name, result in recorded.items()})
        self._whose = (agent, event_id)
        self.refused: UnrecordedEffectError | None = None
        """The first refusal: a handler may have caught it."""

    def __contains__(self, name: object) -> bool:
        """Say that it is there, or raise `UnrecordedEffectError`."""
        if not super().__contains__(name):
            error = UnrecordedEffectError(*self._whose, str(name))
            self.refused = self.refused or error
            raise error
        return True
