"""One handling that was run again, in whatever mode, beside what was recorded of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from antiphon.bus.activity import Spent
from antiphon.bus.delivery import Usage
from antiphon.replay.compare import Difference, Raised
from antiphon.replay.recording import Handling


@dataclasses.dataclass(slots=True, kw_only=True)
class Compared:
    """One handling that was run again, or could not be. A value: nobody changes one."""

    handling: Handling
    differences: Sequence[Difference] = ()
    skipped: str | None = None
    """Why it could not be run."""
    state_known: bool = True
    """False: it ran on the state that the replay itself had come to, or on none."""
    raised: Raised | None = None
    traceback: str = ""
    duration_us: int = 0
    usage: Sequence[Usage | Spent] = ()
    confidence: float | None = None
