"""The names by which schemas are known: what decides how bytes are read, and its fingerprint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fastavro.schema import fingerprint as _fingerprint
from fastavro.schema import to_parsing_canonical_form


def canonical_form(schema: Mapping[str, Any]) -> str:
    """Return Avro's Parsing Canonical Form: what decides how bytes are read, and nothing else.

    Logical types, defaults and docs are not part of it.
    """
    # Through JSON, because fastavro trusts its own mark on a schema it has parsed before.
    return str(to_parsing_canonical_form(json.loads(json.dumps(schema))))


def fingerprint(schema: Mapping[str, Any]) -> bytes:
    """Return the CRC-64-AVRO of *schema*'s canonical form: the eight bytes that stand in a value's header."""
    return bytes.fromhex(_fingerprint(canonical_form(schema), "CRC-64-AVRO"))
