"""What was asked for where one agent's code is to take the place of another's: in a replay, or for a share of workflows."""

from __future__ import annotations

from typing import NamedTuple


class Wanted(NamedTuple):
    """What was asked for on one `--agent` of a replay, or one `--canary`."""

    name: str | None
    """The agent whose place is meant; None: that of whatever is found at the target."""
    target: str | None
    """Where the code is: `MOD:AGENT`, `FILE.py:AGENT`; None: it is looked for."""


def wanted(text: str) -> Wanted:
    """Read `NAME`, `NAME=TARGET` or `TARGET`.

    >>> wanted("triage"), wanted("triage=./triage_v2.py:triage")
    (Wanted(name='triage', target=None), Wanted(name='triage', target='./triage_v2.py:triage'))
    >>> wanted("support:triage")
    Wanted(name=None, target='support:triage')
    """
    name, equals, target = text.partition("=")
    if equals:
        return Wanted(name, target)
    return Wanted(None, text) if ":" in text or text.endswith(".py") or "/" in text else Wanted(text, None)
