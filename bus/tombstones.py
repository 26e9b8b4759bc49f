"""What an undo leaves behind that comes before its action: the mark by which the action, when it comes, is passed over.

It stands in the agent's state under the events' key, written with what the
undo changed, and goes as that state does; under a key that is kept for ever
marks go one by one, when they are as old as state of a workflow may be.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

import orjson

from antiphon.bus.consumer import STATE_EXPIRES_S

UNDONE = "antiphon.undone"
"""Reserved part of a mapping: when which actions were undone, by the id of the event that asked for each."""

_OLDEST_US = round(STATE_EXPIRES_S * 1_000_000)


def mark(mapping: MutableMapping[str, Any], action: str, now_us: int) -> None:
    """Note that *action* has been undone, and need not be done when it comes."""
    marks = {id: since_us for id, since_us in mapping.get(UNDONE, {}).items() if now_us - since_us < _OLDEST_US}
    mapping[UNDONE] = {**marks, action: now_us}


def is_marked(value: bytes | None, action: str) -> bool:
    """Say whether *action* has been undone, by what stands under its key.

    >>> kept = {}
    >>> mark(kept, "charge", now_us=1)
    >>> is_marked(orjson.dumps(kept), "charge"), is_marked(orjson.dumps(kept), "another"), is_marked(None, "charge")
    (True, False, False)
    """
    return value is not None and _WRITTEN in value and action in orjson.loads(value).get(UNDONE, ())


_WRITTEN = f'"{UNDONE}"'.encode()
