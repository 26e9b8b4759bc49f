"""What names a schema by all that it says.

The fingerprint in a value's header names what decides how bytes are read. How
somebody else's bytes are read is decided by more: defaults, aliases, logical
types, constraints. Two readers may share a fingerprint and not be alike.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

import orjson

from antiphon.schemas.avro import schema_of
from antiphon.schemas.event import Event
from antiphon.schemas.store import AvroSchema

DIGEST_LENGTH = 32


def digest_of(schema: AvroSchema) -> str:
    """Return the digest: BLAKE2b of the schema's JSON with its keys sorted, 16 bytes, in hex."""
    return hashlib.blake2b(
        orjson.dumps(schema, option=orjson.OPT_SORT_KEYS), digest_size=DIGEST_LENGTH // 2
    ).hexdigest()


@lru_cache(maxsize=1_024)
def class_digest(event_class: type[Event]) -> str:
    """Return the digest of a class's schema; asked with every heartbeat."""
    return digest_of(schema_of(event_class))
