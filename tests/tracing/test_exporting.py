"""Exporting without a network: what is sent when, once, whatever the endpoint does and whenever the tracer ends."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pytest

from antiphon.bus.activity import Failure
from antiphon.bus.names import Names
from antiphon.testing.story import START_US, Says, Story
from antiphon.testing.waiting import eventually
from antiphon.tracing.index.database import Sqlite
from antiphon.tracing.index.errors import IndexAwayError, IndexFileError
from antiphon.tracing.index.outlook import Outlook
from antiphon.tracing.otlp.deciding import Act, Exports, decide
from antiphon.tracing.otlp.exporting import Exporter
from antiphon.tracing.otlp.ledger import Ledger, Waiting
from antiphon.tracing.otlp.ledger_file import LedgerFile
from antiphon.tracing.spans.sampling import Reason, Sampling
from antiphon.tracing.spans.span import Span
from antiphon.tracing.state import State
from tests.tracing.exporting import ALL, S, World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def ticket(number: int = 0, *, outcome: str = "completed") -> Story:
    """A ticket that is triaged: four spans and the whole, or three where it is set aside."""
    story = Story(f"0199f2c1-0000-7000-8000-{number:012x}")
    opened = story.published("ticket.opened")
    says = [Says("ticket.triaged")] if outcome == "completed" else []
    story.handled("triage", opened, *says, at_ms=1, outcome=outcome)
    return story


WHOLE = {
    "invoke_workflow ticket.opened": 1,
    "send ticket.opened": 1,
    "process ticket.opened": 1,
    "invoke_agent triage": 1,
    "send ticket.triaged": 1,
}


async def test_what_has_ended_is_sent_once(world: World) -> None:
    """Not before a moment has passed; and nothing of it when the tracer starts again, also if all is read anew."""
    with world.tracing():
        await world.read(ticket())
        assert await world.exporter.send_due() is False
        await world.send_all()
        assert world.endpoint.names() == WHOLE
    with world.tracing():
        await world.read(ticket())
        await world.send_all()
        assert (world.endpoint.names(), world.ledger.waiting()) == (WHOLE, 0)


async def test_what_was_read_and_not_sent_is_sent_after_a_restart(world: World) -> None:
    """Whenever the tracer was killed: between the note of it and the index, or behind both."""
    with world.tracing():
        await world.read(ticket(1))
        world.exporter.writing(await world.rows(ticket(2)))
    with world.tracing():
        await world.read(ticket(2))
        await world.send_all()
    assert world.endpoint.names() == dict.fromkeys(WHOLE, 2)


async def test_what_comes_later_adds_to_it(world: World) -> None:
    """Only what is new is sent; the whole of it stays as it was told."""
    story = ticket()
    with world.tracing():
        await world.read(story)
        await world.send_all()
        story.handled("audit", story.events[0], at_ms=90)
        await world.read(story)
        await world.send_all()
    assert world.endpoint.names() == {**WHOLE, "process ticket.opened": 2, "invoke_agent audit": 1}
    assert len({span.id for span in world.endpoint.took}) == 7


async def test_one_that_goes_on_is_sent_as_far_as_it_has_come(world: World) -> None:
    """After the time that is waited for it, without the whole, which comes when it has ended."""
    story = ticket()
    story.works("answer", hears=["ticket.triaged"], at_ms=3_600_000)
    with world.tracing():
        await world.read(story)
        await world.send_all()
        assert world.endpoint.names() == {}
        world.now_us += 600 * S
        await world.send_all()
        parts = {name: count for name, count in WHOLE.items() if not name.startswith("invoke_workflow")}
        assert world.endpoint.names() == parts
        story.handled("answer", story.events[1], at_ms=5_000)
        await world.read(story)
        await world.send_all()
    assert world.endpoint.names() == {**WHOLE, "process ticket.triaged": 1, "invoke_agent answer": 1}
    [whole] = [span for span in world.endpoint.took if span.parent is None]
    assert (whole.end_us, whole.attributes["antiphon.workflow.state"]) == (START_US + 5_001_000, "completed")


async def test_an_endpoint_that_is_down_loses_nothing(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """It is asked again with what it refused, what is due waits, and all is there once when it is back; one line says so."""
    world.endpoint.takes = lambda _: False
    with world.tracing():
        await world.read(*(ticket(number) for number in range(70)))
        for _ in range(10):
            world.now_us += 100 * S
            await world.exporter.send_due()
        assert (world.exporter.counts.up, world.exporter.counts.failures, world.exporter.counts.dropped) == (
            False,
            10,
            0,
        )
        assert [record.message for record in caplog.records] == [
            "the endpoint takes nothing; what is due waits, and is sent later"
        ]
    with world.tracing():
        world.endpoint.takes = lambda _: True
        await world.send_all()
    assert world.endpoint.names() == dict.fromkeys(WHOLE, 70)


async def test_one_that_is_refused_for_ever_holds_up_nobody(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """It is given up when others were taken meanwhile, which is counted and said."""
    poison = ticket(100)
    bad = poison.root_id.replace("-", "")
    world.endpoint.takes = lambda spans: all(span.context.trace_id != bad for span in spans)
    with world.tracing():
        await world.read(*(ticket(number) for number in range(99, 170)))
        await world.send_all()
        assert (world.exporter.counts.dropped, world.exporter.counts.workflows) == (1, {Reason.SHARE: 70})
    assert world.endpoint.names() == dict.fromkeys(WHOLE, 70)
    assert [r.message for r in caplog.records if r.levelname == "ERROR"] == [
        "a workflow is not exported: the endpoint refuses it, and takes others"
    ]
    assert len([r for r in caplog.records if r.levelname == "WARNING"]) < world.exporter.counts.failures


async def test_a_large_one_goes_in_parts(world: World) -> None:
    """Those that were taken are not sent again where a later one is refused."""
    story = Story()
    opened = story.published("batch.read")
    for item in story.handled("split", opened, *[Says("item.found") for _ in range(900)], at_ms=1):
        story.handled("check", item, at_ms=2)
    sizes: list[int] = []

    def third_is_refused(spans: Sequence[Span]) -> bool:
        sizes.append(len(spans))
        return len(sizes) != 3

    world.endpoint.takes = third_is_refused
    with world.tracing():
        await world.read(story)
        await world.send_all()
    assert len(world.endpoint.took) == len({span.id for span in world.endpoint.took}) == 4 + 900 * 3
    assert 500 < max(sizes) <= 1_024


async def test_long_texts_make_a_request_of_fewer(tmp_path: Path) -> None:
    """What an endpoint takes is bounded by bytes; one that is too long by itself goes alone, and is the endpoint's to judge."""
    world = World(tmp_path, dataclasses.replace(ALL, content=True))
    story = Story()
    opened = story.published("ticket.opened")
    for number, size in enumerate((400_000, 400_000, 400_000, 2_000_000, 10)):
        story.handled("triage", opened, at_ms=number, outcome="retried", error=Failure(type="E", message="x" * size))
    sizes: list[int] = []

    def measured(spans: Sequence[Span]) -> bool:
        sizes.append(sum(len(repr(span)) for span in spans))
        return True

    world.endpoint.takes = measured
    with world.tracing():
        await world.read(story)
        await world.send_all()
    assert [round(size / 1_000_000, 1) for size in sizes] == [0.8, 0.4, 2.0, 0.0]
    assert len({span.id for span in world.endpoint.took}) == len(world.endpoint.took) == 12


async def test_what_is_left_out(tmp_path: Path) -> None:
    """What the share has not, and what ended before anything was exported; what failed is sent all the same."""
    world = World(tmp_path, Exports(sampling=Sampling(share=0.0)))
    with world.tracing():
        await world.read(ticket(1), ticket(2, outcome="dead_lettered"))
        await world.send_all()
        assert {span.context.trace_id[-1] for span in world.endpoint.took} == {"2"}
        assert (world.exporter.counts.left_out, world.exporter.counts.workflows) == (1, {Reason.FAILED: 1})
    old = World(tmp_path / "old", Exports())
    old.folder.mkdir()
    old.now_us += S
    with old.tracing():
        await old.read(ticket())
        await old.send_all()
    assert (old.endpoint.took, old.exporter.counts.left_out) == ([], 1)


async def test_a_clean_stop_writes_down_what_was_taken(world: World) -> None:
    """Also where it comes while the endpoint is thinking: nothing is sent twice for it."""
    asked, answer = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def slowly(_: Sequence[Span]) -> bool:
        loop.call_soon_threadsafe(asked.set)
        return asyncio.run_coroutine_threadsafe(answer.wait(), loop).result(30)

    world.endpoint.takes = slowly
    with world.tracing():
        await world.read(ticket())
        world.now_us += 6 * S
        running = asyncio.create_task(world.exporter.run())
        await asked.wait()
        running.cancel()
        answer.set()
        with contextlib.suppress(asyncio.CancelledError):
            await running
    world.endpoint.takes = lambda _: True
    with world.tracing():
        await world.send_all()
    assert world.endpoint.names() == WHOLE


async def test_an_index_that_is_away_is_a_line(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the reason, once for as long as it is; of what nobody expects it is said where it was raised, too."""
    monkeypatch.setattr("antiphon.tracing.otlp.exporting._HOLD_S", 0.0)
    errors: list[Exception] = [IndexAwayError("i", "gone"), IndexAwayError("i", "gone"), ValueError("odd")]
    asked = asyncio.Event()

    def heard() -> int:
        if errors:
            raise errors.pop(0)
        asked.set()
        return 0

    with world.tracing():
        world.exporter = Exporter(
            world.place, world.ledger, world.endpoint, names=Names(), exports=world.exports, heard=heard
        )
        running = asyncio.create_task(world.exporter.run())
        await asked.wait()
        running.cancel()
        await asyncio.wait([running])
    assert [(line.levelname, line.getMessage(), line.exc_info and line.exc_info[0]) for line in caplog.records] == [
        ("ERROR", "exporting is interrupted, and goes on where it was", None),
        ("ERROR", "exporting is interrupted, and goes on where it was", ValueError),
    ]
    assert [line.__dict__["reason"].splitlines()[0] for line in caplog.records] == [
        "expected an index at i: gone",
        "odd",
    ]


async def test_what_a_stop_interrupts_is_no_news(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """A signal that ends a tracer ends what it waits for as well, before it is told to stop or in the midst of a request."""
    failed, asked = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def heard() -> int:
        failed.set()
        raise InterruptedError

    def ended(_: Sequence[Span]) -> bool:
        loop.call_soon_threadsafe(asked.set)
        raise InterruptedError

    with world.tracing():
        await world.read(ticket())
        world.now_us += 6 * S
        world.endpoint.takes = ended
        sending = asyncio.create_task(world.exporter.run())
        await asked.wait()
        world.exporter = Exporter(
            world.place, world.ledger, world.endpoint, names=Names(), exports=world.exports, heard=heard
        )
        looking = asyncio.create_task(world.exporter.run())
        await failed.wait()
        for running in (sending, looking):
            running.cancel()
        await asyncio.wait([sending, looking])
    assert caplog.records == []


async def test_what_the_index_forgot_is_not_waited_for(world: World) -> None:
    """It is given up and counted; what was sent of it is forgotten too."""
    with world.tracing():
        await world.read(ticket(1))
        await world.send_all()
        await world.read(ticket(2))
        world.writer.forget(before_us=1 << 62)
        world.now_us += 700 * S
        await world.send_all()
        assert world.exporter.counts.dropped == 1
        running = asyncio.create_task(world.exporter.run())
        ledger = Ledger(LedgerFile(world.folder / "index.export"))
        await eventually(lambda: not ledger.remembered(b"", at_most=10), 30, what="what was sent to be forgotten")
        ledger.close()
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


OUTLOOK = Outlook(
    state=State.COMPLETED, ended=True, begun_us=START_US, last_us=START_US + S, cost={"USD": 0.0}, confidence=None
)
ONE = Waiting(b"1", START_US, START_US)


@pytest.mark.parametrize(
    ("outlook", "exports", "now_s", "decision"),
    [
        (None, ALL, 0, (Act.LOOK_AGAIN, START_US + S // 2, False, None)),
        (OUTLOOK, ALL, 0, (Act.SEND, 0, True, Reason.SHARE)),
        (OUTLOOK, Exports(since_us=START_US + S + 1), 0, (Act.LEAVE_OUT, 0, False, None)),
        (OUTLOOK, Exports(sampling=Sampling(share=0)), 0, (Act.LEAVE_OUT, 0, False, None)),
        (
            dataclasses.replace(OUTLOOK, confidence=0.1),
            Exports(sampling=Sampling(share=0)),
            0,
            (Act.SEND, 0, True, Reason.UNSURE),
        ),
        (dataclasses.replace(OUTLOOK, ended=False), ALL, 599, (Act.LOOK_AGAIN, START_US + 600 * S, False, None)),
        (dataclasses.replace(OUTLOOK, ended=False), ALL, 600, (Act.SEND, 0, False, Reason.SHARE)),
        (
            dataclasses.replace(OUTLOOK, ended=False),
            Exports(sampling=Sampling(share=0)),
            600,
            (Act.LOOK_AGAIN, START_US + 1_200 * S, False, None),
        ),
    ],
)
def test_what_is_done_about_a_workflow(
    outlook: Outlook | None, exports: Exports, now_s: int, decision: tuple[object, ...]
) -> None:
    """By what is known of it, case by case."""
    now_us = START_US + now_s * S
    assert decide("order-7", ONE, outlook, exports, now_us=now_us, heard_us=START_US + 1) == decision
    # Before it is known who hears what, nothing is.
    soon = (Act.LOOK_AGAIN, now_us + S // 2, False, None)
    assert decide("order-7", ONE, outlook, exports, now_us=now_us, heard_us=START_US) == soon


def test_another_programs_file_is_not_touched(tmp_path: Path) -> None:
    """An index, say."""
    path = tmp_path / "index"
    Sqlite(path, writes=True).close()
    before = path.read_bytes()
    with pytest.raises(IndexFileError, match="another program's"):
        LedgerFile(path)
    assert path.read_bytes() == before
