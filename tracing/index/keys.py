"""Ids as an index keeps them: sixteen bytes for a UUID, so that they sort by time, and text for any other."""

from __future__ import annotations

import re
from binascii import unhexlify
from collections.abc import Sequence

_LENGTH, _BYTES = 36, 16
_DIGITS = b"0123456789abcdef-"
_MOST = 200_000
_TEXT = b"\xff"
"""In front of an id that is no UUID. No UTF-8 begins so, and a UUID that does is kept as text too."""
# As much of a UUID as may stand at the beginning of one.
_BEGINNING = re.compile(
    r"[0-9a-f]{1,8}|[0-9a-f]{8}-([0-9a-f]{4}-){0,3}[0-9a-f]{0,4}|[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{5,12}"
)


def key_of(id: str) -> bytes:
    """Return the bytes that stand for *id*. Different ids have different ones.

    >>> key_of("0199f2c1-0000-7000-8000-000000000000").hex(), key_of("order-7")
    ('0199f2c1000070008000000000000000', b'\\xfforder-7')
    """
    text = id.encode("utf-8", "surrogatepass")
    return _uuid(text) or _TEXT + text


def _uuid(id: bytes) -> bytes | None:
    # By hand: every id that is read comes here, and a pattern costs three times as much.
    if len(id) != _LENGTH or id[8:24:5] != b"----" or id.translate(None, _DIGITS) or id[:2] == b"ff":
        return None
    digits = id.translate(None, b"-")
    return unhexlify(digits) if len(digits) == 2 * _BYTES else None


class Keys(dict[bytes, bytes]):
    """Ids, as headers have them, with their keys; those asked for lately are kept."""

    def learn(self, ids: Sequence[bytes]) -> None:
        """Find the keys of many *ids* together, where all are UUIDs; otherwise each is found when it is asked for."""
        if len(self) + len(ids) > _MOST:
            self.clear()
        fresh = [id for id in ids if id not in self]
        together = b"".join(fresh)
        digits = together.translate(None, b"-")
        if (
            len(together) != _LENGTH * len(fresh)
            or len(digits) != 2 * _BYTES * len(fresh)
            or any(together[at::_LENGTH].strip(b"-") for at in (8, 13, 18, 23))
            or digits.translate(None, _DIGITS)
        ):
            return
        keys = unhexlify(digits)
        if _TEXT not in keys[::_BYTES]:
            self.update(zip(fresh, [keys[at : at + _BYTES] for at in range(0, len(keys), _BYTES)], strict=True))

    def __missing__(self, id: bytes) -> bytes:
        """Raises `ValueError` where *id* is empty, or no text."""
        key = _uuid(id)
        if key is None:
            if not id:
                raise ValueError
            key = key_of(id.decode())
        if len(self) >= _MOST:
            self.clear()
        self[id] = key
        return key


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
