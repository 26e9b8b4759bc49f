"""The claim check: values too large for a record are kept elsewhere, and claimed by what they are.

    large value ──put──▶ ClaimStore          before the event's transaction
         │                    │
         └──▶ ce_dataref ──▶ get ──▶ checked against its hash and length ──▶ decoded

Content is named by its SHA-256. So putting it twice, or by two processes at
once, keeps it once; it never changes; and what was put for a transaction that
came to nothing does no harm.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Protocol, TypeVar

from antiphon.bus.claim import DATAREF, LIMIT, SCHEME, Claim, reference_in
from antiphon.bus.errors import (
    ClaimChangedError,
    ClaimMissingError,
    ClaimStoreError,
    NoClaimStoreError,
    TooLargeError,
)
from antiphon.bus.record import Outgoing, Record

log = logging.getLogger(__name__)
T = TypeVar("T")
U = TypeVar("U")

HEADROOM = 90_000
"""Bytes that a record may have beyond the limit: its headers."""
_UNDO_ROOM = 100_000
_REMEDY = (
    "Set ANTIPHON_CLAIMS to a folder that all agents share, or to s3://bucket/prefix, and larger ones go by reference; "
    "or put less into one event. Where brokers and clients take larger records, raise ANTIPHON_CLAIM_THRESHOLD"
)
_RETRY_S = 1.0


class ClaimStore(Protocol):
    """Where large values are kept. Its methods block, and are called from several threads at once.

    Every agent that reads an event must reach the store that its writer put it
    into. Nothing here deletes: content may go once no topic holds an event that
    names it, so the longest retention after it was last put.
    """

    def put(self, content: bytes) -> Claim:
        """Keep *content*, durably, and return what it is claimed by. Putting it again does no harm.

        Raises `ClaimStoreError` where it cannot be kept now.
        """
        ...

    def get(self, claim: Claim) -> bytes:
        """Return what is kept under *claim*; the caller checks it.

        Raises `ClaimMissingError` where there is nothing, `ClaimStoreError`
        where nobody can say now.
        """
        ...


class MemoryClaims:
    """A store that is gone with its process, for tests."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}

    def put(self, content: bytes) -> Claim:
        claim = Claim.of(content)
        self.contents[claim.digest] = content
        return claim

    def get(self, claim: Claim) -> bytes:
        try:
            return self.contents[claim.digest]
        except KeyError:
            raise ClaimMissingError(str(claim), "memory") from None


class OverlaidClaims:
    """A store that keeps in memory what is put into it, and has besides what *behind* has, which it never changes."""

    def __init__(self, behind: ClaimStore | None) -> None:
        self._own = MemoryClaims()
        self._behind = behind

    def put(self, content: bytes) -> Claim:
        return self._own.put(content)

    def get(self, claim: Claim) -> bytes:
        if self._behind is None or claim.digest in self._own.contents:
            return self._own.get(claim)
        return self._behind.get(claim)


class FileClaims:
    """A store in *folder*, which all agents share: one machine's, or one that is mounted everywhere.

    A file for each content, `<folder>/<first two digits>/<hash>`. It appears
    whole or not at all, whoever else writes the same at that moment. Its time is
    that of the last `put`, so files older than the longest retention may go.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)

    def put(self, content: bytes) -> Claim:
        claim = Claim.of(content)
        path = self._path(claim)
        try:
            # What is there is looked at: a file that was damaged is mended by putting it again.
            if path.is_file() and path.read_bytes() == content:
                os.utime(path)
            else:
                self._write(path, content)
        except OSError as error:
            raise ClaimStoreError(str(self._folder), str(error)) from error
        return claim

    def get(self, claim: Claim) -> bytes:
        path = self._path(claim)
        try:
            # Before it is read: nobody promised that a file somebody changed fits into memory.
            if (length := path.stat().st_size) != claim.length:
                raise ClaimChangedError(str(claim), f"{length} bytes")
            return path.read_bytes()
        except FileNotFoundError:
            if not self._folder.is_dir():
                # Not mounted, or misspelt: no reason to set events aside.
                raise ClaimStoreError(str(self._folder), "there is no such folder") from None
            raise ClaimMissingError(str(claim), str(self._folder)) from None
        except OSError as error:
            raise ClaimStoreError(str(self._folder), str(error)) from error

    def _path(self, claim: Claim) -> Path:
        return self._folder / claim.digest[:2] / claim.digest

    def _write(self, path: Path, content: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
        try:
            with temporary.open("xb") as file:
                file.write(content)
                file.flush()
                # The event that names it will be durable, so this must be first.
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        for folder in (path.parent, self._folder):
            _sync(folder)


def _sync(folder: Path) -> None:
    with contextlib.suppress(OSError):  # not every file system lets a folder be synced
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


class Claims:
    """What becomes of values over *limit* bytes: kept in *store* and claimed, or without one refused."""

    def __init__(self, store: ClaimStore | None = None, *, limit: int = LIMIT) -> None:
        self._store = store
        self.limit = limit
        # Without a store all of a delivery's undo values stand in its activity, and in base64 in the coordinator's
        # state, which must fit too.
        self.undo_room = limit * 2 // 3 if store is None else min(_UNDO_ROOM, limit * 2 // 3)
        """Bytes of values in one delivery's activity, for undoing."""

    def apart(self) -> Claims:
        """Return claims that read what is kept here, and keep what is new for themselves, in memory."""
        return Claims(OverlaidClaims(self._store), limit=self.limit)

    def claim(self, type: str, value: bytes) -> Claim:
        """Return what *value*, too large for a record, is claimed by once it was `keep`ed.

        Raises `TooLargeError` where there is no store.
        """
        return self._claim(type, value, len(value), self.limit)

    def claim_undo(self, type: str, value: bytes, total: int) -> Claim:
        """Return what *value* is claimed by; with it, values for undoing come to *total* bytes, more than there is room for."""
        return self._claim(f"{type}, kept for undoing with all that was emitted at once", value, total, self.undo_room)

    def _claim(self, what: str, value: bytes, size: int, limit: int) -> Claim:
        if self._store is None:
            raise TooLargeError(what, size, limit, _REMEDY)
        return Claim.of(value)

    def outgoing(self, type: str, record: Outgoing) -> Outgoing:
        """Return *record*, whose key and value are over the limit, with a claim for its value, which is to be kept.

        Raises `TooLargeError`.
        """
        key, value = record.key or b"", record.value or b""
        if len(key) > self.limit:
            raise TooLargeError(f"the key of {type}", len(key), self.limit, "Use a shorter key, a hash for example")
        header = (DATAREF, bytes(self.claim(type, value)))
        return Outgoing(record.topic, record.key, b"", [*record.headers, header], record.partition)

    async def keep(self, values: Iterable[bytes]) -> None:
        """Put *values* into the store, durably; raises `ClaimStoreError`."""
        for value in values:
            assert self._store is not None  # noqa: S101 - `claim` has let it through
            await asyncio.to_thread(self._store.put, value)

    async def value_of(self, record: Record) -> bytes:
        """Return *record*'s value, from the store where a claim stands for it. Raises `ClaimError`, `ClaimStoreError`."""
        reference = reference_in(record)
        return record.value or b"" if reference is None else await self._fetch(reference)

    async def resolve(self, value: bytes) -> bytes:
        """Return *value*, or what it claims: no value of an event begins as a claim does."""
        return await self._fetch(value) if value.startswith(SCHEME) else value

    def fitting(self, changed: Mapping[str, bytes | None]) -> Mapping[str, bytes | None]:
        """Return *changed* state; raises `TooLargeError` where what is to stand under a key does not fit into a record."""
        for key, value in changed.items():
            if value is not None and len(value) + len(key) > self.limit:
                raise TooLargeError(
                    f"the state under {key[:80]!r}",
                    len(value),
                    self.limit,
                    "Keep less under one key, or a reference to it. What joins wait for is kept there too: with "
                    "ANTIPHON_CLAIMS and a lower ANTIPHON_CLAIM_THRESHOLD it is kept by reference",
                )
        return changed

    async def _fetch(self, reference: bytes) -> bytes:
        claim = Claim.parse(reference)
        store = self._store
        if store is None:
            raise NoClaimStoreError(str(claim))

        def checked() -> bytes:
            content = store.get(claim)
            claim.check(content)
            return content

        # The hash as well: of some megabytes it takes longer than most handlers.
        return await asyncio.to_thread(checked)


async def insisting(work: Callable[[T], Awaitable[U]], argument: T) -> U:
    """Do *work* until the store can be reached: an event must not be set aside because a disk is away."""
    while True:
        try:
            return await work(argument)
        except ClaimStoreError as error:
            log.warning("the store of large values does not answer; trying again", extra={"reason": str(error)})
        await asyncio.sleep(_RETRY_S)
