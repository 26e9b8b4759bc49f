"""The last words of a command: `antiphon run ...`, in a process that kills itself around its first commits.

    python mortal.py python -m antiphon.cli run compensation

Before each it does, with all done that it would commit, and when it is back, as soon as that is committed; until it has
died `DEATHS` times. How often that was, stands in a file in the folder `MORTAL_FOLDER`.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from antiphon.bus.kafka.member import KafkaMember
from antiphon.bus.port import Transaction
from antiphon.cli.main import main

DEATHS = 4

_commit = KafkaMember.commit


def deaths(folder: Path, name: str) -> int:
    """Return how often the worker of that name has died so far."""
    path = folder / f"deaths of {name}"
    return len(path.read_bytes()) if path.exists() else 0


def _dies(*, committed: bool) -> None:
    folder, name = Path(os.environ["MORTAL_FOLDER"]), sys.argv[-1].rpartition(":")[2]
    died = deaths(folder, name)
    if died < DEATHS and (died % 2 == 1) is committed:
        with (folder / f"deaths of {name}").open("ab") as file:
            file.write(b".")
        os.kill(os.getpid(), signal.SIGKILL)


async def _dying(self: KafkaMember, transaction: Transaction) -> None:
    if transaction.offsets:
        _dies(committed=False)
    await _commit(self, transaction)
    if transaction.offsets:
        _dies(committed=True)


if __name__ == "__main__":
    KafkaMember.commit = _dying  # type: ignore[method-assign]
    sys.argv = ["antiphon", *sys.argv[4:]]
    main()
