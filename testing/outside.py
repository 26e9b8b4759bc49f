"""What handlers change outside of Kafka, in a test: fakes that can be put back to how they were."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any


class NotRestorableError(TypeError):
    """A fake holds something that cannot be put back to how it was."""

    def __init__(self, fake: object, reason: str) -> None:
        self.fake = fake
        super().__init__(
            f"expected a fake that can be put back to how it was (a dict, list or set, or an object whose attributes pickle "
            f"can copy), got a {type(fake).__name__}: {reason}. Keep plain data in it, and what has sockets, locks or "
            "files elsewhere."
        )


class Outside:
    """The fakes of one test. Handlers keep hold of the same objects; what is in them is put back.

    Raises `NotRestorableError`.
    """

    def __init__(self, fakes: Sequence[object]) -> None:
        self._fakes = fakes
        for fake in fakes:
            if not _is_collection(fake) and not hasattr(fake, "__dict__"):
                raise NotRestorableError(fake, "it has no attributes")
            try:
                pickle.dumps(_inside(fake))
            except Exception as error:
                raise NotRestorableError(fake, str(error)) from error

    def taken(self) -> bytes:
        """Return how everything is now. Two that are equal are the same; two that differ may be."""
        # All in one, so that what several of them share stays shared.
        return pickle.dumps([_inside(fake) for fake in self._fakes])

    def put_back(self, taken: bytes) -> None:
        """Make everything as it was when *taken* was."""
        insides: list[Any] = pickle.loads(taken)  # noqa: S301 - this process wrote it
        for fake, inside in zip(self._fakes, insides, strict=True):
            _fill(fake, inside)


def _is_collection(fake: object) -> bool:
    return isinstance(fake, dict | list | set)


def _inside(fake: object) -> object:
    return fake if _is_collection(fake) else vars(fake)


def _fill(fake: object, inside: Any) -> None:
    place: Any = _inside(fake)
    place.clear()
    (place.extend if isinstance(fake, list) else place.update)(inside)
