"""Whether a workflow has failed, and why, as the coordinator's state says it: for who waits for an answer."""

from __future__ import annotations

from collections.abc import Mapping

import orjson


def reason_in(value: bytes | None, correlation_id: str) -> str | None:
    """Return why the workflow failed whose *value* the coordinator keeps; None where it did not, as a whole.

    >>> reason_in(b'{"workflow": {"failure": {"event_id": "e", "reason": "no seats"}}}', "w")
    'no seats'
    >>> reason_in(b'{"workflow": {"failure": {"event_id": "e", "reason": "no seats", "scope": "an inner saga"}}}', "w")
    >>> reason_in(b'{"workflow": {}}', "w")
    """
    if value is None:
        return None
    failure: Mapping[str, str | None] = orjson.loads(value).get("workflow", {}).get("failure") or {}
    return failure.get("reason") if failure.get("scope") in (None, correlation_id) else None
