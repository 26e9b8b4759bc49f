"""What can be wrong with running something again.

    ReplayError                 the common base
    ├── LetterGoneError         a letter lacks a part of its event, and the event is gone
    ├── LetterEditError         an edited event does not fit its schema, or cannot be read at all
    ├── CandidateError          an agent does not hear what it is to handle again
    ├── UnrecordedEffectError   a side effect that was not recorded would run in a replay
    ├── OutsideSandboxError     a worker of a sandbox would write somewhere else
    ├── NoReportError           a file is no report of a replay
    └── BundleError             a file is no bundle, or not as it was written

None of them comes after something was written, but for what stood in a sandbox.
"""

from __future__ import annotations

from collections.abc import Sequence


class ReplayError(Exception):
    """Base of everything that goes wrong in running again."""


class LetterGoneError(ReplayError):
    """A letter lacks a part of its event, which was too large for it, and the event is gone from where it stood."""

    def __init__(self, place: str, left_out: Sequence[str], origin: str) -> None:
        self.place = place
        self.left_out = tuple(left_out)
        self.origin = origin
        super().__init__(
            f"expected the {' and the '.join(left_out)} of the event in {place} at {origin}, as they did not fit into the "
            "letter; got nothing there any more. Publish the event again from its source, and discard the letter"
        )


class LetterEditError(ReplayError):
    """An edited event cannot go back: its data does not fit its schema, or could not be read to begin with."""

    def __init__(self, place: str, problems: Sequence[str], remedy: str) -> None:
        self.place = place
        self.problems = tuple(problems)
        self.remedy = remedy
        super().__init__("\n".join([f"the letter {place} stays: its event does not fit", *problems, remedy]))


class CandidateError(ReplayError):
    """An agent does not hear what it is to handle again."""

    def __init__(self, agent: str, types: Sequence[str], hears: Sequence[str]) -> None:
        self.agent = agent
        self.types = tuple(types)
        self.hears = tuple(hears)
        super().__init__(
            f"expected {agent} to hear {', '.join(types)}, as it did then, got one that hears {', '.join(hears)}. "
            "Compare it on other events (--type), or let it hear them"
        )


class UnrecordedEffectError(ReplayError):
    """A side effect that was not recorded would run in a replay; it did not."""

    def __init__(self, agent: str, event_id: str, name: str) -> None:
        self.agent = agent
        self.event_id = event_id
        self.name = name
        super().__init__(
            f"expected side effects that were recorded for {event_id}, got {name!r} of {agent}, which was not, or was too "
            "large to keep. It did not run; --effects live runs all of them again"
        )


class OutsideSandboxError(ReplayError):
    """A worker of a sandbox would write somewhere else; nothing of it was written."""

    def __init__(self, name: str, inside: str) -> None:
        self.name = name
        self.inside = inside
        super().__init__(
            f"expected the workers of a replay to write under {inside} alone, got {name!r}. Nothing was written there; "
            "this is a fault of antiphon, please report it"
        )


class NoReportError(ReplayError):
    """A file is no report of a replay."""

    def __init__(self, path: str, got: str) -> None:
        self.path = path
        self.got = got
        super().__init__(
            f"expected a report or a bundle in {path}, got {got}. Make one: antiphon replay run ... --json > {path}, "
            "or antiphon trace ID --bundle F.antiphon"
        )


class BundleError(ReplayError):
    """A file is no bundle, or not as it was written."""

    def __init__(self, path: str, expected: str, got: str) -> None:
        self.path = path
        self.expected = expected
        self.got = got
        super().__init__(f"expected {expected} in {path}, got {got}. Make it again: antiphon trace ID --bundle {path}")
