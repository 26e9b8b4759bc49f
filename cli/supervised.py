"""What a worker process and the one that supervises it say to each other.

The supervisor puts its `Order` into the environment of the process; the
process answers on the pipe that the order names, a line of JSON each time.
"""

from __future__ import annotations

import dataclasses
import json
import os
from typing import Any

VARIABLE = "_ANTIPHON_SUPERVISED"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Order:
    """What a worker process is told beside its command line."""

    pipe: int
    """The file descriptor to answer on."""
    introduces: bool
    """It says what runs here, for all."""
    metrics: bool
    """It is asked for its figures, by the supervisor alone."""

    def dump(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    def started(self, *, port: int | None) -> None:
        """Tell the supervisor that the start went well, and on which port this process answers."""
        try:
            os.write(self.pipe, json.dumps({"port": port}).encode() + b"\n")
        except OSError:
            # The supervisor is gone, and this process about to follow.
            return


def order() -> Order | None:
    """Return what the supervisor of this process has ordered; None where there is none. Programs started from here have none."""
    said = os.environ.pop(VARIABLE, None)
    if said is None:
        return None
    found = Order(**json.loads(said))
    os.set_inheritable(found.pipe, False)  # noqa: FBT003 - the standard library's
    return found


def read_started(lines: bytes) -> dict[str, Any] | None:
    """Return the last thing that a process has said on its pipe.

    >>> read_started(b'{"port": 4711}\\n'), read_started(b"")
    ({'port': 4711}, None)
    """
    said = lines.splitlines()
    found: dict[str, Any] | None = json.loads(said[-1]) if said else None
    return found
