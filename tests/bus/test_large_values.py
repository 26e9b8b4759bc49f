"""Events too large for a record, through agents on the bus in memory."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from antiphon.agents.agent import Agent, agent
from antiphon.agents.context import Context
from antiphon.bus.claim import LIMIT, Claim
from antiphon.bus.claims import HEADROOM, Claims, FileClaims, MemoryClaims
from antiphon.bus.dead_letter import dead_letter
from antiphon.bus.errors import ClaimStoreError, PermanentError, TooLargeError
from antiphon.bus.mesh import Mesh
from antiphon.bus.names import ACTIVITY
from antiphon.bus.record import Outgoing, Record
from antiphon.bus.settings import Settings
from antiphon.compensation.coordinator import coordinator
from antiphon.schemas.event import Event
from antiphon.testing.mesh import MemoryMesh
from antiphon.testing.waiting import eventually
from antiphon.tracing.reading import read_workflow

LARGE = 3_000_000


class Asked(Event, type="large.asked"):
    n: int


class Written(Event, type="large.written"):
    text: str


class Read(Event, type="large.read"):
    n: int


class Gone(Event, type="large.gone", fails=True):
    n: int


@agent
async def writer(event: Asked) -> Written:
    return Written(text="x" * event.n)


@agent
async def reader(event: Written) -> Read:
    return Read(n=len(event.text))


def on_disk(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def letters(mesh: MemoryMesh, name: str, count: int = 1) -> list[tuple[Record, dict[str, str]]]:
    """Wait for *count* dead letters of an agent; return each with what its headers say."""

    async def there() -> bool:
        return len(await mesh.records(f"{name}.dead")) >= count

    await eventually(there, 10, what=f"{count} dead letters")
    prefix = "antiphon_dead_"
    return [
        (
            record,
            {
                name.removeprefix(prefix): (value or b"").decode()
                for name, value in record.headers
                if name.startswith(prefix)
            },
        )
        for record in await mesh.records(f"{name}.dead")
    ]


async def test_a_large_event_goes_through(tmp_path: Path) -> None:
    """From an agent to the next; on the wire stands what it is, and a trace shows what it says."""
    mesh = MemoryMesh(claims=Claims(FileClaims(tmp_path)))
    async with mesh.running(writer, reader):
        await mesh.publish(Asked(n=LARGE))
        assert await mesh.eventually(Read, count=1) == [Read(n=LARGE)]
    [record] = await mesh.records("large.written")
    [file] = on_disk(tmp_path)
    claim = Claim.of(file.read_bytes())
    assert (record.value, dict(record.headers)["ce_dataref"], dict(record.headers)["content-type"]) == (
        b"",
        bytes(claim),
        b"application/avro",
    )
    assert file.relative_to(tmp_path) == Path(claim.digest[:2], claim.digest)
    [(root, _)] = await mesh.events(Asked)
    workflow = await read_workflow(mesh.bus, mesh.names, mesh.codec, root.correlation_id, claims=mesh.claims)
    assert workflow is not None
    document = workflow.document()
    assert (document["state"], len(document["events"])) == ("completed", 3)


async def test_a_trace_without_the_store() -> None:
    """The event is seen all the same, with why its data is not."""
    mesh = MemoryMesh(claims=Claims(MemoryClaims()))
    async with mesh.running(writer):
        await mesh.publish(Asked(n=LARGE))
        await mesh.eventually(Written, count=1)
    [(root, _)] = await mesh.events(Asked)
    workflow = await read_workflow(mesh.bus, mesh.names, mesh.codec, root.correlation_id)
    assert workflow is not None
    assert "Set ANTIPHON_CLAIMS" in str(workflow.document())


async def test_an_application_publishes_and_hears_it(tmp_path: Path) -> None:
    """`Mesh.request` fetches the answer as an agent would."""
    mesh = MemoryMesh(claims=Claims(FileClaims(tmp_path)))
    settings = Settings(claims=str(tmp_path), partitions=4)
    async with mesh.running(writer, reader), Mesh(mesh.bus, settings=settings, store=mesh.store) as application:
        assert await application.request(Written(text="y" * LARGE), until=Read) == Read(n=LARGE)
        assert await application.request(Asked(n=LARGE), until=Written) == Written(text="x" * LARGE)


async def test_publishing_without_a_store() -> None:
    """The same error as in an agent, and nothing is written."""
    mesh = MemoryMesh()
    async with Mesh(mesh.bus, settings=Settings(partitions=4), store=mesh.store) as application:
        with pytest.raises(
            TooLargeError, match=r"large.written: expected at most 900000 bytes, got 3000014\. Set ANTI"
        ):
            await application.publish_all([Written(text=""), Written(text="x" * LARGE)])
    assert await mesh.records("large.written") == []


async def test_emitting_without_a_store() -> None:
    """Fails that delivery at once and for good; the next event is handled."""
    mesh = MemoryMesh(partitions=1)
    async with mesh.running(writer):
        await mesh.publish(Asked(n=LARGE), Asked(n=1))
        assert await mesh.eventually(Written, count=1) == [Written(text="x")]
        [(_, why)] = await letters(mesh, "writer")
    assert (why["reason"], why["attempts"], why["error"]) == ("permanent", "1", "TooLargeError")
    assert "expected at most 900000 bytes, got 3000014. Set ANTIPHON_CLAIMS" in why["message"]


@pytest.mark.parametrize("more", [0, 1])
async def test_the_threshold(more: int) -> None:
    """Key and value of exactly so many bytes stand on the wire as they are; one more, and they do not."""
    store = MemoryClaims()
    value = 10 + 1 + 50  # single-object header, length, text
    mesh = MemoryMesh(claims=Claims(store, limit=value + 3))
    await mesh.prepare(reader)
    await mesh.publisher.publish([Written(text="x" * (50 + more))], key="key")
    [record] = await mesh.records("large.written")
    assert (len(record.value or b""), len(store.contents)) == ((0, 1) if more else (value, 0))


async def test_content_that_is_gone(tmp_path: Path) -> None:
    """The event is set aside with that reason, its reference untouched, and the next one is handled."""
    mesh = MemoryMesh(partitions=1, claims=Claims(FileClaims(tmp_path)))
    await mesh.prepare(reader)
    await mesh.publish(Written(text="x" * LARGE))
    for file in on_disk(tmp_path):
        file.unlink()
    await mesh.publish(Written(text="y" * LARGE))
    async with mesh.running(reader):
        assert await mesh.eventually(Read, count=1) == [Read(n=LARGE)]
        [(letter, why)] = await letters(mesh, "reader")
    [first, _] = await mesh.records("large.written")
    assert (why["reason"], why["error"]) == ("undecodable", "ClaimMissingError")
    assert (letter.value, letter.headers[: len(first.headers)]) == (b"", first.headers)


async def test_content_that_was_changed(tmp_path: Path) -> None:
    """It is never decoded."""
    mesh = MemoryMesh(claims=Claims(FileClaims(tmp_path)))
    await mesh.prepare(reader)
    await mesh.publish(Written(text="x" * LARGE))
    [file] = on_disk(tmp_path)
    file.write_bytes(file.read_bytes()[:-1] + b"y")
    async with mesh.running(reader):
        [(_, why)] = await letters(mesh, "reader")
    assert (why["reason"], why["error"]) == ("undecodable", "ClaimChangedError")


async def test_reading_without_a_store() -> None:
    """Says which setting is missing."""
    mesh = MemoryMesh(claims=Claims(MemoryClaims()))
    await mesh.prepare(reader)
    await mesh.publish(Written(text="x" * LARGE))
    mesh.claims = Claims()
    async with mesh.running(reader):
        [(_, why)] = await letters(mesh, "reader")
    assert (why["reason"], why["error"]) == ("undecodable", "NoClaimStoreError")
    assert "Set ANTIPHON_CLAIMS" in why["message"]


class Flaky(MemoryClaims):
    """A store that does not answer at first."""

    def __init__(self) -> None:
        super().__init__()
        self.failing = {"put", "get"}

    def _fail(self, what: str) -> None:
        if what in self.failing:
            self.failing.remove(what)
            raise ClaimStoreError("/mnt/claims", "Stale file handle")

    def put(self, content: bytes) -> Claim:
        self._fail("put")
        return super().put(content)

    def get(self, claim: Claim) -> bytes:
        self._fail("get")
        return super().get(claim)


async def test_a_store_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is set aside, and no handler runs again: the lane waits."""
    monkeypatch.setattr("antiphon.bus.claims._RETRY_S", 0.0)
    mesh = MemoryMesh(claims=Claims(Flaky()))
    async with mesh.running(writer, reader):
        await mesh.publish(Asked(n=LARGE))
        assert await mesh.eventually(Read, count=1) == [Read(n=LARGE)]
    assert [(handled.outcome, handled.attempt) for handled in await mesh.handled()] == [("completed", 1)] * 2


# What else is written for an event: undo values, state, joins, activity, dead letters.

stock = Agent("stock")


@stock.on(Asked)
async def reserve(event: Asked) -> Written:
    return Written(text="x" * event.n)


undone: list[int] = []


@stock.undoes(Written)
async def release(event: Written) -> None:
    undone.append(len(event.text))


@agent
async def failing(event: Written) -> Gone:
    return Gone(n=len(event.text))


@pytest.mark.parametrize("size", [200_000, LARGE])
async def test_undoing_what_is_large(size: int) -> None:
    """What is kept for it is claimed too, and fetched for the undo."""
    undone.clear()
    store = MemoryClaims()
    mesh = MemoryMesh(claims=Claims(store))

    async def done() -> bool:
        return undone == [size]

    async with mesh.running(stock, failing, coordinator()):
        await mesh.publish(Asked(n=size))
        await eventually(done, 10, what="the undo")
    [request] = await mesh.records("stock.undo")
    assert len(request.value or b"") < 1_000
    assert len(store.contents) == 1


async def test_keeping_for_undoing_without_a_store() -> None:
    """What still fits is kept in full; what would outgrow the coordinator's state fails where it is emitted."""
    undone.clear()
    mesh = MemoryMesh(partitions=1)

    async def done() -> bool:
        return undone == [500_000]

    async with mesh.running(stock, failing, coordinator()):
        await mesh.publish(Asked(n=500_000), Asked(n=700_000))
        await eventually(done, 10, what="the undo")
        [(_, why)] = await letters(mesh, "stock")
    assert why["message"].startswith(
        "large.written, kept for undoing with all that was emitted at once: expected at most 600000 bytes, got 700013. "
    )


async def test_state_that_is_too_large() -> None:
    """Fails that delivery alone, also where it is the result of a side effect."""

    @agent
    async def hoarder(event: Asked, context: Context) -> None:
        if event.n == 1:
            context.state["all"] = "x" * LARGE

        async def effect() -> str:
            return "x" * LARGE

        if event.n == 2:
            await context.once("all", effect)

    mesh = MemoryMesh(partitions=1)
    async with mesh.running(hoarder):
        await mesh.publish(Asked(n=1), Asked(n=2), Asked(n=3))
        found = await letters(mesh, "hoarder", 2)

        async def all_handled() -> bool:
            return len(await mesh.handled()) == 3

        await eventually(all_handled, 10, what="three deliveries")
    assert [why["error"] for _, why in found] == ["TooLargeError"] * 2
    assert all(why["reason"] == "permanent" for _, why in found)
    assert all("expected at most 900000 bytes, got 3000" in why["message"] for _, why in found)


async def test_a_join_of_what_is_large() -> None:
    """What waits is kept by reference, so it fits into the state."""
    pair = Agent("pair")

    @pair.on(Asked, Written, join=True)
    async def both(asked: Asked, written: Written) -> Read:
        return Read(n=asked.n + len(written.text))

    mesh = MemoryMesh(claims=Claims(MemoryClaims()))
    async with mesh.running(pair):
        await mesh.publisher.publish([Written(text="x" * LARGE)], correlation_id="w")
        await mesh.publisher.publish([Asked(n=1)], correlation_id="w")
        assert await mesh.eventually(Read, count=1) == [Read(n=LARGE + 1)]


async def test_activity_is_split_by_size() -> None:
    """Many deliveries that fail with long tracebacks in one transaction: no record of theirs outgrows the limit."""
    release = asyncio.Event()

    @agent(concurrency=300)
    async def hopeless(event: Asked) -> None:
        await release.wait()
        raise PermanentError("x" * 100_000)

    mesh = MemoryMesh(partitions=1)
    async with mesh.running(hopeless) as worker:
        await asyncio.gather(*(mesh.publish(Asked(n=n)) for n in range(300)))

        async def all_running() -> bool:
            return len(worker._engines[0].in_flight()) == 300  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]

        await eventually(all_running, 10, what="300 at once")
        release.set()
        await letters(mesh, "hopeless", 300)
    assert len(await mesh.handled()) == 300
    assert all(len(record.value or b"") <= LIMIT for record in await mesh.records(ACTIVITY))


async def test_too_many_events_at_once() -> None:
    """What activity cannot tell in one record is refused where it is emitted."""

    @agent
    async def loud(event: Asked) -> list[Read]:
        return [Read(n=n) for n in range(event.n)]

    mesh = MemoryMesh(partitions=1)
    async with mesh.running(loud):
        await mesh.publish(Asked(n=20_000), Asked(n=2_000))
        await mesh.eventually(Read, count=2_000)
        [(_, why)] = await letters(mesh, "loud")
    assert why["message"].startswith("the list of 20000 events emitted at once: expected at most 900000 bytes, got ")


def letter_of(record: Record) -> tuple[Outgoing, dict[str, bytes | None]]:
    """Return the letter of a record whose handler failed with a traceback of its own."""
    try:
        raise PermanentError("no" * 100_000)
    except PermanentError as error:
        letter = dead_letter("a.dead", record, error, agent="a", reason="permanent", attempts=1, limit=LIMIT + HEADROOM)
    return letter, dict(letter.headers)


@pytest.mark.parametrize(
    ("sizes", "left_out"),
    [
        ((10, 10, 10), None),
        ((10, 980_000, 10), b"traceback"),
        ((10, 1_040_000, 10), b"traceback,value"),
        ((10, 10, 1_040_000), b"traceback,value,headers"),
        ((1_040_000, 10, 10), b"traceback,value,headers,key"),
    ],
)
def test_a_dead_letter_fits(sizes: tuple[int, int, int], left_out: bytes | None) -> None:
    """It says what was left out, and where the record is; first to go is the traceback."""
    key, value, header = (b"x" * size for size in sizes)
    letter, headers = letter_of(Record("t", 0, 7, key, value, [("theirs", header)], 0))
    size = len(letter.key or b"") + len(letter.value or b"") + sum(len(value or b"") for value in headers.values())
    assert size <= LIMIT + HEADROOM
    assert (headers.get("antiphon_dead_left_out"), headers["antiphon_dead_offset"]) == (left_out, b"7")
    assert (letter.key == key, letter.value == value, headers.get("theirs") == header) == (
        "key" not in (left_out or b"").decode(),
        "value" not in (left_out or b"").decode(),
        "headers" not in (left_out or b"").decode(),
    )
