"""What can be wrong with an index. It is a copy: nothing is lost with it, the topics have the truth.

BusError
└── IndexFileError          an index that cannot be read or written
    ├── NoIndexError        there is none at the place
    ├── IndexVersionError   a newer release wrote it
    ├── IndexDamagedError   its file is not as it was written
    ├── IndexBusyError      another tracer writes to it
    ├── IndexAwayError      its server does not answer
    └── IndexFullError      its disk, or the room it was given, is full
"""

from __future__ import annotations

from antiphon.bus.errors import BusError


class IndexFileError(BusError):
    """An index that cannot be read or written."""

    def __init__(self, path: str, reason: str, remedy: str) -> None:
        self.path = path
        self.reason = reason
        self.remedy = remedy
        super().__init__(f"expected an index at {path}: {reason}\n{remedy}")


class NoIndexError(IndexFileError):
    """There is none at the place."""

    def __init__(self, path: str) -> None:
        super().__init__(path, "there is none", "antiphon tracer run makes it, and keeps it up to date")


class IndexVersionError(IndexFileError):
    """A newer release wrote it."""

    def __init__(self, path: str, *, expected: int, got: int) -> None:
        self.expected = expected
        self.got = got
        super().__init__(
            path,
            f"expected form {expected} or older, got form {got}, of a newer release",
            "use that release, or 'antiphon tracer rebuild' with this one",
        )


class IndexDamagedError(IndexFileError):
    """Its file is not as it was written."""

    def __init__(self, path: str, reason: str, remedy: str | None = None) -> None:
        remedy = remedy or "antiphon tracer rebuild makes it again from the topics; nothing is lost"
        super().__init__(path, reason, remedy)


class IndexBusyError(IndexFileError):
    """Another tracer writes to it."""

    def __init__(self, path: str, reason: str = "another tracer writes to it") -> None:
        super().__init__(path, reason, "stop that one, or give this one another --index")


class IndexAwayError(IndexFileError):
    """Its server does not answer."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason, "see to the server, its address and its password: ANTIPHON_INDEX")


class IndexFullError(IndexFileError):
    """Its disk, or the room it was given, is full."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason, "give it room, or keep less: --keep, --max-size")
