"""Where large values are kept, and how they are named."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from antiphon.bus.claim import Claim
from antiphon.bus.claims import Claims, ClaimStore, FileClaims, MemoryClaims
from antiphon.bus.errors import (
    ClaimChangedError,
    ClaimMissingError,
    ClaimStoreError,
    NoClaimStoreError,
    SettingsError,
    TooLargeError,
    UnknownReferenceError,
)
from antiphon.bus.settings import load

CONTENT = b"\xc3\x01" + b"x" * 3_000


def on_disk(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.fixture(params=["memory", "files"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ClaimStore:
    """Each store there is."""
    return MemoryClaims() if request.param == "memory" else FileClaims(tmp_path / "not" / "there")


def test_what_is_put_is_got(store: ClaimStore) -> None:
    """By a claim that follows from the content alone, however often it is put."""
    claim = store.put(CONTENT)
    assert (claim, store.put(CONTENT), store.get(claim)) == (Claim.of(CONTENT), claim, CONTENT)
    with pytest.raises(ClaimMissingError, match=r"expected claim:sha256:\w{64}\?length=5 in .*, got nothing"):
        store.get(Claim.of(b"never"))


@pytest.mark.parametrize(
    "reference",
    [
        b"https://example.com/large",
        b"claim:sha256:../../etc/passwd?length=1",
        b"claim:sha256:" + b"AB" * 32 + b"?length=1",
        b"claim:sha256:" + b"ab" * 32,
        b"claim:sha256:" + b"ab" * 32 + b"?length=-1",
        b"\xff",
    ],
)
def test_other_references_are_refused(reference: bytes) -> None:
    """A name that is not a hash never becomes a path."""
    with pytest.raises(UnknownReferenceError, match=r"expected ce_dataref to be claim:sha256:"):
        Claim.parse(reference)


def test_a_reference_is_read_as_it_was_written() -> None:
    """The text on the wire is all there is to know."""
    claim = Claim.of(CONTENT)
    assert Claim.parse(bytes(claim)) == claim


async def test_content_is_checked(tmp_path: Path) -> None:
    """Another length, another hash: both are noticed before anything is decoded."""
    claims, reference = Claims(FileClaims(tmp_path)), bytes(FileClaims(tmp_path).put(CONTENT))
    [file] = on_disk(tmp_path)
    file.write_bytes(CONTENT[:-1] + b"y")
    with pytest.raises(ClaimChangedError, match="it was changed or damaged"):
        await claims.resolve(reference)
    file.write_bytes(CONTENT + b"y")
    with pytest.raises(ClaimChangedError, match="got 3003 bytes"):
        await claims.resolve(reference)


async def test_putting_again_mends(tmp_path: Path) -> None:
    """What was damaged is whole again once somebody puts it, and nothing else is left in the folder."""
    store = FileClaims(tmp_path)
    claim = store.put(CONTENT)
    [file] = on_disk(tmp_path)
    file.write_bytes(b"")
    store.put(CONTENT)
    assert store.get(claim) == CONTENT
    assert on_disk(tmp_path) == [file]


def test_putting_again_keeps_it_young(tmp_path: Path) -> None:
    """Whoever deletes what is old does not delete what was used again."""
    store = FileClaims(tmp_path)
    store.put(CONTENT)
    [file] = on_disk(tmp_path)
    os.utime(file, (1, 1))
    store.put(CONTENT)
    assert file.stat().st_mtime > 1


def test_many_may_put_the_same_at_once(tmp_path: Path) -> None:
    """None sees half a file, none fails, and one file is left."""
    content = CONTENT * 1_000
    got: list[bytes] = []

    def put() -> None:
        store = FileClaims(tmp_path)
        got.append(store.get(store.put(content)))

    threads = [threading.Thread(target=put) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [content] * 8
    assert len(on_disk(tmp_path)) == 1


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    """Nothing is lost by it, so it is another kind of error: it may be better later."""
    (tmp_path / "file").touch()
    with pytest.raises(ClaimStoreError, match="See to the folder that ANTIPHON_CLAIMS names"):
        FileClaims(tmp_path / "file").put(CONTENT)
    with pytest.raises(ClaimStoreError, match="there is no such folder"):
        FileClaims(tmp_path / "not mounted").get(Claim.of(CONTENT))


async def test_without_a_store() -> None:
    """Writing says what would help, and so does reading."""
    with pytest.raises(TooLargeError) as refused:
        Claims(limit=10).claim("report.written", CONTENT)
    assert str(refused.value) == (
        "report.written: expected at most 10 bytes, got 3002. Set ANTIPHON_CLAIMS to a folder that all agents share, "
        "or to s3://bucket/prefix, and larger ones go by reference; or put less into one event. Where brokers and "
        "clients take larger records, raise ANTIPHON_CLAIM_THRESHOLD."
    )
    with pytest.raises(
        NoClaimStoreError, match="Set ANTIPHON_CLAIMS to the folder or bucket that its writer put it into"
    ):
        await Claims().resolve(bytes(Claim.of(CONTENT)))


def test_settings() -> None:
    """A folder or a bucket; what looks like another address is refused rather than taken for a folder."""
    assert (load().claims, load().claim_threshold) == (None, 900_000)
    assert load({"claims": "s3://bucket/large"}).claims == "s3://bucket/large"
    for address in ("gs://bucket", "s3://", "s3://Bucket", "https://bucket.example.com"):
        with pytest.raises(SettingsError, match=r"claims to be the path of a folder, or s3://bucket/prefix, got"):
            load({"claims": address})
