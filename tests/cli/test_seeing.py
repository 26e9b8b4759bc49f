"""The five questions at a terminal, on the embedded broker: from the topics, and from a tracer's index."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.cli.conftest import Antiphon, Served
from tests.cli.process import Process

pytestmark = pytest.mark.embedded

DESK = """\
from typing import Annotated

from antiphon import Agent, Context, Event, PermanentError
from antiphon.schemas.redaction import REDACT


class TicketOpened(Event):
    ticket: str
    email: Annotated[str, REDACT] = "nobody"


class TicketTriaged(Event):
    ticket: str


triage, answer = Agent("triage", version="2"), Agent("answer")


@triage.on(TicketOpened)
async def sort(ticket: TicketOpened, context: Context) -> TicketTriaged:
    context.spend(model="small-1", input_tokens=100, output_tokens=10, cost=0.02)
    context.confidence(0.3)
    return TicketTriaged(ticket=ticket.ticket)


@answer.on(TicketTriaged)
async def say(ticket: TicketTriaged) -> None:
    if ticket.ticket.startswith("bad"):
        raise PermanentError("no \\x1b[31manswer [bold]to that[/bold]")
"""


@pytest.fixture
def mesh(served: Served, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Antiphon]:
    """Run the agents; return what runs a command beside them."""
    monkeypatch.setenv("ANTIPHON_INDEX", str(folder / "mesh.index"))
    with served("desk", DESK) as antiphon:
        yield antiphon


def until(look: Callable[[], Any], wanted: Callable[[Any], bool]) -> Any:
    """Look again and again until what is seen is wanted; return it."""
    deadline = time.monotonic() + 60
    while not wanted(found := look()):
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    return found


def opened(mesh: Antiphon, *tickets: str) -> dict[str, str]:
    """Open tickets; return the workflows' ids."""
    ids: dict[str, str] = {}
    for ticket in tickets:
        data = orjson.dumps({"ticket": ticket, "email": "me@example.org"}).decode()
        ids[ticket] = orjson.loads(mesh("publish", "ticket.opened", "--data", data, "--json").out)["correlation_id"]
    return ids


def asked(mesh: Antiphon, *argv: str) -> Any:
    """What a command answers, as a document."""
    ran = mesh(*argv, "--json")
    assert ran.code == 0, ran.err
    return orjson.loads(ran.out)


def states(mesh: Antiphon, *argv: str) -> dict[str, str]:
    return {one["correlation_id"]: one["state"] for one in asked(mesh, "workflows", *argv)}


def test_the_five_questions_from_topics_and_from_an_index(mesh: Antiphon, folder: Path) -> None:
    """Without a tracer and with one the answers are the same, and say where they come from."""
    ids = opened(mesh, "1", "bad one", "2")
    expected = {ids["1"]: "completed", ids["bad one"]: "failed", ids["2"]: "completed"}
    until(lambda: states(mesh), lambda found: found == expected)
    questions = [
        ("workflows", "--failed"),
        ("workflows", "--where", "ticket=2"),
        ("workflows", "--agent", "answer", "--slow"),
        ("workflows", "--agent", "triage", "--version", "2", "--failed"),
        ("trace", ids["bad one"]),
        ("cost", "--by", "model"),
        ("cost", "--by", "workflow"),
        ("confidence",),
    ]
    straight = [asked(mesh, *question) for question in questions]
    assert "from the topics" in mesh("workflows").err
    strange = "version 7 handled nothing that was read; versions that did: 2"
    assert mesh("saga", "list").err.splitlines() == [
        "the coordinator keeps no workflow that failed",
        "and none is up, so nothing is undone: antiphon run compensation",
    ]
    shown = asked(mesh, "dead", "show", ids["bad one"][:-1])
    assert (shown["correlation_id"], shown["type"]) == (ids["bad one"], "ticket.triaged")
    assert strange in mesh("workflows", "--agent", "triage", "--version", "7").err
    tracer = Process("tracer", "run", cwd=folder)
    try:
        tracer.wait_for('"reading"')
        until(
            lambda: (folder / "mesh.index").exists() and states(mesh, "--from", "index"),
            lambda found: found == expected,
        )
        assert [asked(mesh, *question, "--from", "index") for question in questions] == straight
        assert "from the index" in mesh("workflows").err
        assert tracer.end() == 0
    finally:
        tracer.clean_up()
    failed, by_field, _, by_version, trace, by_model, _, confidence = straight
    assert [one["failed_agent"] for one in failed] == ["answer"]
    assert by_version == failed
    assert [one["correlation_id"] for one in by_field] == [ids["2"]]
    assert trace["events"][0]["data"] == {"ticket": "bad one", "email": "***"}
    assert by_model == [
        {
            "model": "small-1",
            "calls": 3,
            "input_tokens": 300,
            "output_tokens": 30,
            "amount": 0.06,
            "currency": "USD",
        }
    ]
    assert [(one["agent"], one["version"], one["mean"], one["share_under"]) for one in confidence] == [
        ("triage", "2", 0.3, 1.0)
    ]


def test_f31_a_value_steers_no_terminal(mesh: Antiphon) -> None:
    """Tables; what is in a payload or an error steers no terminal, with colours or without."""
    ids = opened(mesh, "bad\x1b[2J", "1")
    until(lambda: states(mesh), lambda found: {*found.values()} == {"failed", "completed"})
    for color in ("always", "never"):
        shown = "".join(
            mesh(*question, "--color", color).out
            for question in (
                ("workflows",),
                ("workflows", "--slow"),
                ("cost",),
                ("confidence",),
                ("agents",),
                ("trace", ids["bad\x1b[2J"], "--payloads"),
            )
        )
        assert "\x1b[2J" not in shown
        assert ("\x1b[31m" in shown) == (color == "always")
        if color == "never":
            assert re.findall(r"^(?:workflow|agent) .*", shown, re.MULTILINE) != []
            assert re.search(rf"^{ids['1']} +completed +ticket.opened ", shown, re.MULTILINE)
            assert re.search(r"^answer +0 +\S+ +up ", shown, re.MULTILINE)


def test_agents_say_who_is_missing(mesh: Antiphon, folder: Path) -> None:
    """An agent of which nobody is up stays in the list; its workers that stopped are shown when asked for."""
    more = Process("run", "desk:answer", "--instance", "extra", cwd=folder)
    try:
        more.wait_for('"ready"')
        more.end()
    finally:
        more.clean_up()
    found = {one["agent"]: one for one in asked(mesh, "agents")}
    assert {name: (one["subscribes"], one["live"], len(one["instances"])) for name, one in found.items()} == {
        "answer": (["ticket.triaged"], True, 1),
        "triage": (["ticket.opened"], True, 1),
    }
    everyone = {one["agent"]: one["instances"] for one in asked(mesh, "agents", "--all")}
    assert {(one["instance"], one["state"]) for one in everyone["answer"]} >= {("extra", "stopped")}


LATE = """\
from antiphon import agent

from desk import TicketOpened


@agent
async def late(ticket: TicketOpened) -> None:
    pass
"""


def test_agents_say_what_waits_for_one_of_which_nobody_is_up(mesh: Antiphon, folder: Path) -> None:
    """Events, and neither those that it has handled nor the ends of transactions."""
    (folder / "late.py").write_text(LATE)
    opened(mesh, "1")
    late = Process("run", "late", cwd=folder)
    try:
        late.wait_for('"ready"')
        until(lambda: lag_of(mesh, "late"), lambda lag: lag == 0)
        late.end()
    finally:
        late.clean_up()
    opened(mesh, "2", "3")
    assert [(one["live"], one["lag"], one["instances"]) for one in asked(mesh, "agents") if one["agent"] == "late"] == [
        (False, 2, [])
    ]
    assert re.search(r"^late +0 +- +nobody is up +2$", mesh("agents").out, re.MULTILINE)


def lag_of(mesh: Antiphon, agent: str) -> int | None:
    return next((one["lag"] for one in asked(mesh, "agents") if one["agent"] == agent), None)


def test_rebuilding(mesh: Antiphon, folder: Path) -> None:
    """What was damaged is made again; while a tracer runs nobody may; status says what there is."""
    ids = opened(mesh, "1", "2")
    expected = dict.fromkeys(ids.values(), "completed")
    until(lambda: states(mesh), lambda found: found == expected)
    assert mesh("tracer", "status").code == 1
    assert mesh("tracer", "rebuild").code == 0
    assert states(mesh, "--from", "index") == expected
    (folder / "mesh.index").write_bytes(b"SQLite format 3\0" + b"?" * 8_000)
    for suffix in ("-wal", "-shm"):
        (folder / f"mesh.index{suffix}").unlink(missing_ok=True)
    damaged = mesh("workflows", "--from", "index")
    assert (damaged.code, "antiphon tracer rebuild" in damaged.err) == (1, True)
    assert states(mesh) == expected
    assert mesh("tracer", "run").code == 1
    assert mesh("tracer", "rebuild").code == 0
    status = asked(mesh, "tracer", "status")
    assert (status["states"], status["behind"], status["left"], status["events"]) == ({"completed": 2}, 0, 0, 4)
    tracer = Process("tracer", "run", "--metrics-port", "0", cwd=folder)
    try:
        tracer.wait_for('"reading"')
        busy = mesh("tracer", "rebuild")
        assert (busy.code, "another tracer writes to it" in busy.err) == (1, True)
    finally:
        tracer.clean_up()
    assert sorted(path.name for path in folder.glob("*.new*")) == []


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (("workflows", "--where", "ticket"), "amount>100"),
        (("workflows", "--longer", "long"), "--longer to be a duration"),
        (("workflows", "--state", "lost"), "lost"),
        (("tracer", "run", "--max-size", "much"), "--max-size to be a size"),
        (("tracer", "run", "--keep", "ever"), "--keep to be a duration"),
    ],
)
def test_what_is_typed_wrongly(antiphon: Antiphon, argv: tuple[str, ...], says: str) -> None:
    """It is said before anything is read."""
    ran = antiphon(*argv)
    assert (ran.code, says in ran.err) == (2, True), ran.err


def test_two_tracers_share_an_index(mesh: Antiphon, folder: Path, shared: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands ask it as they ask a file; what a database cannot do is said; nobody makes it again while tracers write."""
    monkeypatch.setenv("ANTIPHON_INDEX", shared.replace("tracer@", "tracer:secret@"))
    tracers = [Process("tracer", "run", cwd=folder) for _ in range(2)]
    try:
        for tracer in tracers:
            tracer.wait_for('"reading"')
        ids = opened(mesh, "1", "bad one", "2")
        expected = {ids["1"]: "completed", ids["bad one"]: "failed", ids["2"]: "completed"}
        until(lambda: states(mesh, "--from", "index"), lambda found: found == expected)
        assert "from the index" in mesh("trace", ids["bad one"]).err
        busy, sized = mesh("tracer", "rebuild"), mesh("tracer", "run", "--max-size", "1G")
        assert (busy.code, "a tracer writes to it" in busy.err) == (1, True)
        assert (sized.code, "--keep 30d" in sized.err) == (2, True)
        assert [tracer.end() for tracer in tracers] == [0, 0]
    finally:
        for tracer in tracers:
            tracer.clean_up()
    again = mesh("tracer", "rebuild")
    status = asked(mesh, "tracer", "status")
    assert (again.code, status["states"], status["events"]) == (0, {"completed": 2, "failed": 1}, 6)
    for said in (again.out, status["index"], busy.err):
        assert ("***@127.0.0.1" in said, "secret" in said) == (True, False)
