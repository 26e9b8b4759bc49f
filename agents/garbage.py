"""How often a worker's process looks for cyclic garbage: seldom, and not in what is there to stay."""

from __future__ import annotations

import gc

# An event in hand is some thirty objects, and a worker has thousands in hand. By the interpreter's own measure (700) it
# would look through them, and through every module, many times a second, and find nothing: events make no cycles.
_YOUNG, _MIDDLE, _OLD = 20_000, 20, 20


def settle() -> None:
    """Leave out what exists now from every later collection, and collect less often.

    For a process that only runs agents, once its modules are loaded: it is the whole process that is told. Of the
    time an event took, a fifth went into collections that found nothing.
    """
    gc.freeze()
    seldom()


def seldom() -> None:
    """Collect less often: a command that loads modules, answers and ends makes nothing that is worth looking for."""
    gc.set_threshold(_YOUNG, _MIDDLE, _OLD)
