"""What must not be seen of an address: who logs in, and with what."""

from __future__ import annotations

import re

# A login ends at the last @: a password may hold one, or a slash, that nobody escaped.
_LOGIN = re.compile(r"(?<=://)\S+(?=@)")
_IN_QUERY = re.compile(r"(?<=password=)[^&\s]*", re.IGNORECASE)


def without_login(address: str) -> str:
    """Return *address* as others may read it.

    >>> without_login("postgresql://me:p@s/s@db.example/mesh?sslpassword=x&schema=a")
    'postgresql://***@db.example/mesh?sslpassword=***&schema=a'
    """
    return _IN_QUERY.sub("***", _LOGIN.sub("***", address))
