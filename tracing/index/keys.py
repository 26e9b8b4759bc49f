"""Ids as an index keeps them: sixteen bytes for a UUID, so that they sort by time, and text for any other."""

from __future__ import annotations

import re
from functools import lru_cache

_LENGTH, _BYTES = 36, 16
_TEXT = b"\xff"
"""In front of an id that is no UUID. No UTF-8 begins so, and a UUID that does is kept as text too."""
# As much of a UUID as may stand at the beginning of one.
_BEGINNING = re.compile(
    r"[0-9a-f]{1,8}|[0-9a-f]{8}-([0-9a-f]{4}-){0,3}[0-9a-f]{0,4}|[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{5,12}"
)


@lru_cache(maxsize=65_536)
def key_of(id: str) -> bytes:
    """Return the bytes that stand for *id*. Different ids have different ones.

    >>> key_of("0199f2c1-0000-7000-8000-000000000000").hex(), key_of("order-7")
    ('0199f2c1000070008000000000000000', b'\\xfforder-7')
    """
    return _uuid(id) or _TEXT + id.encode("utf-8", "surrogatepass")


def _uuid(id: str) -> bytes | None:
    # By hand: every id that is read comes here, and a pattern costs twice as much.
    if len(id) != _LENGTH or not id[8] == id[13] == id[18] == id[23] == "-" or id != id.lower() or id[:2] == "ff":
        return None
    try:
        key = bytes.fromhex(id.replace("-", ""))
    except ValueError:
        return None
    return key if len(key) == _BYTES else None


def id_of(key: bytes) -> str:
    """Return the id that *key* stands for.

    >>> id_of(key_of("0199f2c1-0000-7000-8000-000000000000")), id_of(key_of("order-7"))
    ('0199f2c1-0000-7000-8000-000000000000', 'order-7')
    """
    if key[:1] == _TEXT:
        return key[1:].decode("utf-8", "surrogatepass")
    digits = key.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def ranges(beginning: str) -> list[tuple[bytes, bytes]]:
    """Return between which keys (the second one exclusive) those of ids that begin so lie.

    >>> [(low.hex(), high.hex()) for low, high in ranges("0199f2c1-0")][0]
    ('0199f2c100', '0199f2c110')
    """
    text = _TEXT + beginning.encode("utf-8", "surrogatepass")
    found = [(text, text + b"\xff")]
    if _BEGINNING.fullmatch(beginning):
        digits = beginning.replace("-", "")
        low = bytes.fromhex(digits + "0" * (len(digits) % 2))
        found.insert(0, (low, _after(digits)))
    return found


def _after(digits: str) -> bytes:
    """Return the first key above all that begin with *digits*."""
    above = int(digits, 16) + 1
    if above >> (4 * len(digits)):
        return _TEXT
    return bytes.fromhex(f"{above:0{len(digits)}x}" + "0" * (len(digits) % 2))
