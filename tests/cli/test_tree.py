"""What a person sees of a workflow."""

import dataclasses
import io
import json
import re
import time
from textwrap import dedent

import pytest
from rich.console import Console

from antiphon.bus.activity import Failure, Logged, Spent
from antiphon.bus.consumer import UNSAID
from antiphon.cli.hops import Json
from antiphon.cli.tree import render, users_line
from antiphon.schemas.envelope import Envelope
from antiphon.testing.story import START_US, Says, Story
from antiphon.tracing.seen import SeenEvent
from antiphon.tracing.workflow import stitch

ROOT = "0199f2c1-0000-7000-8000-000000000000"

TRACEBACK = """Traceback (most recent call last):
  File "/srv/lib/python3.11/site-packages/antiphon/agents/dispatch.py", line 90, in handle
  File "/home/ada/answer.py", line 31, in answer
  File "/usr/lib/python3.11/asyncio/timeouts.py", line 115, in __aexit__
TimeoutError
"""


def drawn(
    document: Json, *, width: int = 100, payloads: bool = False, limit: int | None = 200, colored: bool = False
) -> str:
    """The drawing as it would stand on a terminal, or in a file."""
    file = io.StringIO()
    console = Console(width=width, file=file, force_terminal=colored, color_system="standard" if colored else None)
    console.print(render(document, width=width, payloads=payloads, limit=limit))
    return file.getvalue()


def screen(story: Story, *, payloads: bool = False) -> str:
    return drawn(story.stitched().document(), payloads=payloads)


def golden(text: str) -> str:
    """A screen as it stands in the test."""
    return dedent(text).removeprefix("\n")


def intake() -> Story:
    story = Story(version=UNSAID)
    submitted = story.published("package.submitted", {"name": "certifi", "version": "2026.1.4"})
    [read] = story.handled("reader", submitted, Says("package.read", {"name": "certifi"}), at_ms=2, took_ms=31)
    [reserved] = story.handled("catalogue", read, Says("package.reserved", undo=True), at_ms=35, took_ms=12)
    story.handled("policy", reserved, at_ms=50, took_ms=0.5)
    [identified] = story.handled(
        "licence", read, Says("licence.identified", {"licence": "MPL-2.0"}), at_ms=36, took_ms=88, confidence=0.97
    )
    [refused] = story.handled(
        "policy",
        identified,
        Says("package.refused", {"name": "certifi", "reason": "weak copyleft"}, fails=True),
        at_ms=131,
        took_ms=4,
        also=[reserved],
    )
    story.handled("reporter", refused, at_ms=136, took_ms=0.2)
    asked = story.undo_asked(reserved, refused, at_ms=140)
    story.handled("catalogue", asked, Says("package.released"), at_ms=240, took_ms=8)
    return story


def ticket(*outcomes: str) -> Story:
    story = Story(version=UNSAID)
    story.works("answer", hears=["ticket.triaged"])
    opened = story.published("ticket.opened", {"ticket_id": "T-7"})
    [triaged] = story.handled(
        "triage", opened, Says("ticket.triaged", {"ticket_id": "T-7", "queue": "billing"}), took_ms=40
    )
    error = Failure(type="TimeoutError", message="model did not answer in 500 ms", traceback=TRACEBACK)
    for attempt, outcome in enumerate(outcomes, start=1):
        story.handled(
            "answer", triaged, at_ms=600 * attempt - 500, took_ms=500, attempt=attempt, outcome=outcome, error=error
        )
    return story


def test_what_to_do_where_there_is_little_room() -> None:
    """The commands alone, each whole on its line."""
    assert [
        line.rstrip() for line in drawn(ticket("dead_lettered").stitched().document(), width=80).splitlines()[-3:]
    ] == [
        "next: antiphon replay run 0199f2c1-0000-7000-8000-000000000000 --agent answer",
        "      antiphon dead redrive --agent answer --dry-run",
        "      antiphon trace 0199f2c1-0000-7000-8000-000000000000 --payloads",
    ]


def test_a_compensated_workflow() -> None:
    """What was said, what was undone by what, which join waited for what, and where the time went."""
    assert screen(intake()) == golden("""
    package.submitted  certifi 2026.1.4                    compensated  ·  248 ms  ·  6 events, 5 agents
    └─ reader            package.read                          31 ms
       ├─ catalogue      package.reserved                      12 ms  ↩ package.released  201 ms later
       └─ licence        licence.identified  MPL-2.0  0.97     88 ms  ▓▓▓▓▓▓▓▓
          └─ policy      package.refused ✗  weak copyleft       4 ms  (also needed package.reserved)
             └─ reporter heard it                             0.2 ms
    slowest: licence, 88 ms of 136 ms on the critical path.  undone: 1 of 1.
    """)


def test_the_version_that_handled_it() -> None:
    """Where an agent says one: a workflow's own, by which a canary's workflows are told from the others."""
    story = Story(version=UNSAID)
    opened = story.published("ticket.opened")
    [triaged] = story.handled("triage", opened, Says("ticket.triaged"), at_ms=2, took_ms=31, version="2")
    story.handled("answer", triaged, at_ms=40, took_ms=2)
    assert screen(story) == golden("""
    ticket.opened                  completed  ·  42 ms  ·  2 events, 2 agents
    └─ triage 2  ticket.triaged     31 ms  ▓▓▓▓▓▓▓▓
       └─ answer heard it            2 ms
    slowest: triage, 31 ms of 42 ms on the critical path.
    """)


def test_a_failed_delivery() -> None:
    """Where it failed, in whose line, on what input, and what to do now."""
    assert screen(ticket("retried", "retried", "dead_lettered")) == golden("""
    ticket.opened  T-7                               failed  ·  1.8 s  ·  2 events, 2 agents
    └─ triage    ticket.triaged  billing              40 ms
       └─ answer ✗ dead-lettered after 3 attempts     1.7 s  ▓▓▓▓▓▓▓▓
               TimeoutError: model did not answer in 500 ms  answer.py:31
               input: {"ticket_id": "T-7", "queue": "billing"}
    slowest: answer, 1.7 s of 1.8 s on the critical path.
    next: antiphon replay run 0199f2c1-0000-7000-8000-000000000000 --agent answer   here, on this input
          antiphon dead redrive --agent answer --dry-run                            once it is mended
          antiphon trace 0199f2c1-0000-7000-8000-000000000000 --payloads            every event's data
    """)


def test_with_payloads() -> None:
    """Every event's data, whole."""
    assert screen(ticket("dead_lettered"), payloads=True) == golden("""
    ticket.opened  T-7                      failed  ·  600 ms  ·  2 events, 2 agents
    │    {"ticket_id": "T-7"}
    └─ triage    ticket.triaged  billing     40 ms
       │    {"ticket_id": "T-7", "queue": "billing"}
       └─ answer ✗ dead-lettered            500 ms  ▓▓▓▓▓▓▓▓
               TimeoutError: model did not answer in 500 ms  answer.py:31
    slowest: answer, 500 ms of 600 ms on the critical path.
    next: antiphon replay run 0199f2c1-0000-7000-8000-000000000000 --agent answer   here, on this input
          antiphon dead redrive --agent answer --dry-run                            once it is mended
    """)


def test_what_is_still_to_come() -> None:
    """Who is not through yet, and who has not even begun."""
    story = ticket("retried")
    story.works("audit", hears=["ticket.opened"])
    assert screen(story) == golden("""
    ticket.opened  T-7                           running  ·  600 ms  ·  2 events, 2 agents
    ├─ triage    ticket.triaged  billing          40 ms
    │  └─ answer … retried, attempt 2 to come    500 ms  ▓▓▓▓▓▓▓▓
    │          TimeoutError: model did not answer in 500 ms  answer.py:31
    │          input: {"ticket_id": "T-7", "queue": "billing"}
    └─ audit     … not yet
    slowest: answer, 500 ms of 600 ms on the critical path.
    next: antiphon trace 0199f2c1-0000-7000-8000-000000000000 --follow   until it ends
    """)


def test_nobody_is_there() -> None:
    """The hint names whom to start."""
    story = ticket()
    assert drawn(story.stitched(now_ms=60_000).document()) == golden("""
    ticket.opened  T-7                      stalled  ·  40 ms  ·  2 events, 1 agent
    └─ triage    ticket.triaged  billing     40 ms
       └─ answer … not yet
    next: antiphon run MODULE:AGENT   nobody is running answer
    """)


def test_an_undo_that_failed() -> None:
    """Shown at the event that stays as it is, with the error."""
    story = Story(version=UNSAID)
    story.works("compensation")
    placed = story.published("order.placed", {"order": 7})
    [reserved] = story.handled("stock", placed, Says("stock.reserved", undo=True))
    [packed] = story.handled("pack", reserved, Says("parcel.packed", undo=True))
    [declined] = story.handled("card", placed, Says("card.declined", fails=True))
    error = Failure(type="ConnectionError", message="warehouse is closed\ntry tomorrow", traceback="")
    story.handled("pack", story.undo_asked(packed, declined), outcome="dead_lettered", error=error)
    assert screen(story) == golden("""
    order.placed  7                          parked  ·  4 ms  ·  4 events, 3 agents
    ├─ stock           stock.reserved          1 ms
    │  └─ pack         parcel.packed           1 ms  ↩ undo ✗ dead-lettered
    │          ConnectionError: warehouse is closed
    │          try tomorrow
    │          input: {}
    └─ card            card.declined ✗         1 ms
       └─ compensation … to ask for undos
    undone: 0 of 1.
    next: antiphon saga show 0199f2c1-0000-7000-8000-000000000000          what waits for a person
          antiphon trace 0199f2c1-0000-7000-8000-000000000000 --payloads   every event's data
    """)


def test_an_undo_on_its_way() -> None:
    """Asked for, and not done."""
    story = Story(version=UNSAID)
    placed = story.published("order.placed", {"order": 7})
    [reserved] = story.handled("stock", placed, Says("stock.reserved", undo=True))
    [declined] = story.handled("card", placed, Says("card.declined", fails=True))
    story.undo_asked(reserved, declined)
    assert screen(story) == golden("""
    order.placed  7             stalled  ·  2 ms  ·  3 events, 2 agents
    ├─ stock stock.reserved       1 ms  ↩ undo asked for
    └─ card  card.declined ✗      1 ms
    undone: 0 of 1.
    next: antiphon run MODULE:AGENT   nobody is running stock
    """)


def test_what_came_of_an_undo() -> None:
    """It hangs from the event that was undone; an undo that said nothing is told as such."""
    story = Story(version=UNSAID)
    placed = story.published("order.placed", {"order": 7})
    [reserved] = story.handled("stock", placed, Says("stock.reserved", undo=True))
    [charged] = story.handled("card", placed, Says("card.charged", undo=True), at_ms=2)
    [lost] = story.handled("ship", charged, Says("parcel.lost", fails=True))
    [released] = story.handled("stock", story.undo_asked(reserved, lost), Says("stock.released"))
    story.handled("shop", released, Says("shelf.filled"))
    story.handled("card", story.undo_asked(charged, lost), took_ms=1_500)
    assert screen(story) == golden("""
    order.placed  7              compensated  ·  1.5 s  ·  6 events, 4 agents
    ├─ stock   stock.reserved      1 ms  ↩ stock.released  4 ms later
    │  └─ shop shelf.filled        1 ms
    └─ card    card.charged        1 ms  ▓▓▓▓▓▓▓▓  ↩ undone  1.5 s later
       └─ ship parcel.lost ✗       1 ms
    slowest: card, 1 ms of 4 ms on the critical path.  undone: 2 of 2.
    """)


def test_gaps_later_roots_and_money() -> None:
    """What was not seen is named; what came from outside later stands by itself; costs are summed."""
    story = Story(version=UNSAID)
    asked = story.published("review.requested", {"id": "R-1"})
    spent = [Spent(model="m", cost=0.25), Spent(model="m", cost=0.5)]
    [gone] = story.handled("draft", asked, Says("review.drafted"), usage=spent)
    story.handled("check", gone, Says("r.checked"))
    story.events.remove(gone)
    story.published("review.given", {"verdict": "yes"}, id="0199f2c1-0000-7000-8000-000000000001", at_ms=90_000)
    story.seen(
        Envelope(id="b", type="b.done", source="/apps/kcat", time_us=START_US, correlation_id=ROOT, parent_id="lost")
    )
    assert screen(story) == golden("""
    review.requested  R-1                               incomplete  ·  1 min 30 s  ·  4 events, 2 agents
    └─ draft      ? 0199f2c1-0000-8081-b78a-9ce3bc97d301 was not seen
       └─ check   r.checked                                             1 ms
    review.given  yes
    ? lost was not seen
    └─ /apps/kcat b.done
    cost: 0.75 USD.
    warning: MISSING_PARENT: b.done was caused by lost, which was not seen
    warning: MISSING_PARENT: r.checked was caused by 0199f2c1-0000-8081-b78a-9ce3bc97d301, which was not
    seen
    """)


def test_where_models_took_the_time() -> None:
    """Of each hop; and of the critical path, beside queues and handlers. Of a call whose times nobody told nothing is said."""
    story = Story(version=UNSAID)
    asked = story.published("question.asked", {"id": "Q-1"})
    calls = [Spent(model="m", started_us=START_US + at_ms * 1_000, duration_us=900_000) for at_ms in (100, 600)]
    [drafted] = story.handled("writer", asked, Says("answer.drafted"), at_ms=50, took_ms=2_000, usage=calls)
    story.handled("judge", drafted, Says("answer.approved"), at_ms=2_300, took_ms=300, usage=[Spent(model="m")])
    assert screen(story) == golden("""
    question.asked  Q-1            completed  ·  2.6 s  ·  3 events, 2 agents
    └─ writer   answer.drafted        2 s  ▓▓▓▓▓▓▓▓  (1.4 s in models)
       └─ judge answer.approved    300 ms
    slowest: writer, 2 s of 2.6 s on the critical path.
    on that path: 300 ms in queues, 2.3 s in handlers, 1.4 s of that in models.
    """)


def test_a_live_replay_says_so() -> None:
    """And of what it is one."""
    story = Story(version=UNSAID)
    story.seen(
        Envelope(id=ROOT, type="a.b", source="/replays", time_us=START_US, correlation_id=ROOT, replay_of="then\x1b")
    )
    assert screen(story) == golden("""
    a.b    completed  ·  0 ms  ·  1 event, 0 agents
    a live replay of then\\x1b
    """)


def test_what_events_say_cannot_steer_the_terminal() -> None:
    """Escape sequences are shown, not sent; markup is text; a line break does not break the tree."""
    story = Story(version=UNSAID)
    evil = "\x1b[31m[bold]\u202eevil\r\n[/bold]\x9b"
    opened = story.published(f"a{evil}", {"name": evil})
    error = Failure(type=evil, message=evil, traceback=f'File "/x/{evil}.py", line 3')
    story.handled(f"agent{evil}", opened, Says(f"b{evil}", {"other": f"{evil}2"}))
    line = Logged(time_us=START_US, level=evil, message=evil, fields=json.dumps({evil: evil}))
    story.handled(f"bad{evil}", opened, outcome="dead_lettered", error=error, logs=[line])
    story.seen(Envelope(id="u", type="u", source=evil, time_us=START_US, correlation_id=ROOT, parent_id=evil))

    text = screen(story, payloads=True)

    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text)
    assert "a\\x1b[31m[bold]\\u202eevil\\r\\n[/bold]\\x9b" in text


def test_what_was_logged_stands_below_who_logged_it() -> None:
    """The newest lines; all of them with the payloads."""
    story = Story(version=UNSAID)
    lines = [
        Logged(time_us=START_US + n * 1_000, level="warning" if n else "info", message=f"line {n}", fields='{"n": [1]}')
        for n in range(12)
    ]
    story.handled("bank", story.published("card.wanted"), Says("card.charged"), logs=lines)

    short, full = (screen(story, payloads=payloads).splitlines() for payloads in (False, True))

    assert [line.strip() for line in short if "line" in line] == [
        "… 2 earlier lines (all of them: --payloads)",
        *(f"10:00:00.{n:03} warning  line {n}  n=[1]" for n in range(2, 12)),
    ]
    assert sum(" line " in line for line in full) == 12


def test_clocks_that_are_off_are_named_and_put_right() -> None:
    """Nothing takes minutes that did not; who is fast or slow stands below."""
    story = Story(version=UNSAID)
    wanted = story.published("card.wanted")
    [charged] = story.handled("bank", wanted, Says("card.charged"), at_ms=-180_000, took_ms=40)
    story.handled("shipping", charged, Says("card.shipped"), at_ms=50, took_ms=10)
    text = screen(story)
    assert "clocks: bank/bank-1 is 3 min 0 s slow. Times here are put right; --json has them as told." in text
    assert "warning: CLOCK_SKEW" in text
    assert "slowest: bank, 40 ms of 60 ms on the critical path." in text


def test_colour_only_where_it_is_wanted() -> None:
    """A file gets the same characters without the colours."""
    document = intake().stitched().document()
    colored = drawn(document, colored=True)
    assert "\x1b[" in colored
    assert re.sub(r"\x1b\[[0-9;]*m", "", colored) == drawn(document)


def test_wide_characters_keep_their_columns() -> None:
    """Columns are counted in cells, not in characters."""
    story = Story(version=UNSAID)
    opened = story.published("票.开", {"name": "猫"})
    story.handled("犬", opened, Says("票.好"), took_ms=7)
    story.handled("dog", opened, Says("ticket.good"), took_ms=7)
    assert screen(story) == golden("""
    票.开  猫             completed  ·  14 ms  ·  3 events, 2 agents
    ├─ 犬  票.好            7 ms
    └─ dog ticket.good      7 ms
    """)


def chain(length: int, *, wide: bool = False) -> Json:
    envelopes = [
        Envelope(
            id=f"{n:05}",
            type="step.done",
            source="/agents/step",
            time_us=START_US + n,
            correlation_id="00000",
            parent_id=None if n == 0 else "00000" if wide else f"{n - 1:05}",
        )
        for n in range(length)
    ]
    seen = [SeenEvent(envelope=envelope, topic="t", partition=0, offset=n) for n, envelope in enumerate(envelopes)]
    return stitch(seen, [], [], now_us=START_US).document()


@pytest.mark.parametrize("wide", [False, True])
def test_ten_thousand_events(*, wide: bool) -> None:
    """As much as is asked for is drawn, the rest is counted; all of it where that is asked for."""
    document = chain(10_000, wide=wide)
    began = time.perf_counter()
    some, all = drawn(document), drawn(document, limit=None)
    assert time.perf_counter() - began < 40
    assert (len(some.splitlines()), len(all.splitlines())) == (201, 10_000)
    assert some.splitlines()[-1].endswith("└─ … 9,800 more (all of them: --json)")
    assert max(map(len, all.splitlines())) <= 100


def test_what_failed_is_drawn_before_what_did_not() -> None:
    """Leaving out must not hide the one event that matters."""
    story = Story(version=UNSAID)
    root = story.published("batch.read")
    items = story.handled("split", root, *[Says("item.found", {"n": n}) for n in range(50)])
    story.handled("check", items[41], outcome="dead_lettered")
    assert drawn(story.stitched().document(), limit=5) == golden("""
    batch.read                            failed  ·  2 ms  ·  51 events, 2 agents
    ├─ split    item.found  0               1 ms
    ├─ split    item.found  1               1 ms
    ├─ split    item.found  41              1 ms  ▓▓▓▓▓▓▓▓
    │  └─ check ✗ dead-lettered             1 ms
    │          input: {"n": 41}
    └─ … 47 more (all of them: --json)
    slowest: split, 1 ms of 2 ms on the critical path.
    next: antiphon replay run 0199f2c1-0000-7000-8000-000000000000 --agent check   here, on this input
          antiphon dead redrive --agent check --dry-run                            once it is mended
          antiphon trace 0199f2c1-0000-7000-8000-000000000000 --payloads           every event's data
    """)


def test_a_circle_is_drawn_once() -> None:
    """Each event has one place, whatever its causes say."""
    story = Story(version=UNSAID)
    root = story.published("a.done")
    for id, parent in (("x", "y"), ("y", "x"), ("own", "own")):
        story.seen(dataclasses.replace(root.envelope, id=id, type=f"{id}.done", parent_id=parent))
    assert screen(story) == golden("""
    a.done                    completed  ·  0 ms  ·  4 events, 0 agents
    /apps/shop    own.done
    /apps/shop    x.done
    └─ /apps/shop y.done
    warning: CYCLE: the causes of own.done lead back to itself; it is shown as a root
    warning: CYCLE: the causes of x.done lead back to itself; it is shown as a root
    """)


@pytest.mark.parametrize(
    ("traceback", "line"),
    [
        (TRACEBACK, "answer.py:31"),
        ('  File "C:\\code\\answer.py", line 4, in f', "answer.py:4"),
        ('  File "/usr/lib/python3.11/json/decoder.py", line 355, in raw_decode', "decoder.py:355"),
        ("no frames at all", None),
    ],
)
def test_the_users_own_line(traceback: str, line: str | None) -> None:
    """The deepest line that is neither ours nor a library's; a library's where there is no other."""
    assert users_line(traceback) == line
