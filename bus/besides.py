"""What a newer release keeps besides: passed over by whoever does not know it, and left where it stands.

In a rolling deployment an older release reads what a newer one has written, and writes it
back. Whatever is read into values with fields, and written again, is given back here what
these values have no field for.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any


def carry(before: Mapping[str, Any], written: MutableMapping[str, Any], known: frozenset[str]) -> None:
    """Put into what is *written* what stood *before* under names that are not *known* here.

    >>> carry({"type": "a", "mood": "glad"}, now := {"type": "b"}, frozenset({"type"}))
    >>> now
    {'type': 'b', 'mood': 'glad'}
    """
    if not before.keys() <= known:
        written.update((name, value) for name, value in before.items() if name not in known)
