"""Everything that reads bytes from outside: what it is given, how it reads, and the errors that it is known to raise.

A reader goes as far as the mesh does with what it has read: headers are handed
on, a heartbeat is asked who hears what, activity is stitched, indexed and judged.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from corpus import Corpus
from ground import Ground, Reader
from spoilt_events import Events, Typed
from spoilt_files import Files
from spoilt_letters import Letters
from spoilt_schemas import Schemas
from spoilt_state import Restored
from spoilt_telling import Telling


class World:
    """The readers over one corpus."""

    def __init__(self, corpus: Corpus, folder: Path) -> None:
        self.corpus = corpus
        ground = Ground(corpus, folder)
        self._schemas, self._telling = Schemas(ground), Telling(ground)
        # In this order: a seed and a number choose among them.
        self._parts = (
            Events(ground),
            self._schemas,
            Files(ground),
            self._telling,
            Restored(ground),
            Letters(ground),
            Typed(ground),
        )

    def close(self) -> None:
        self._schemas.close()
        self._telling.close()

    def readers(self) -> Sequence[Reader]:
        """Return the table."""
        return [reader for part in self._parts for reader in part.readers()]


def drawn(seed: int, number: int) -> random.Random:
    """Return what draws the case of a number: each comes again by itself."""
    return random.Random(f"{seed}:{number}")
