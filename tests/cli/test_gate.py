"""`antiphon schema check`, `diff` and `register`: beside agents that run, and beside files."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import orjson
import pytest

from tests.cli.conftest import SUPPORT, Antiphon, Served

POLICY = """\
from antiphon import Event, agent


class TicketTriaged(Event):
    ticket_id: str
    queue: str


@agent(version="3")
async def policy(ticket: TicketTriaged) -> None: ...
"""
TENNIS = Path(__file__).parent.parent / "tennis.py"
NUMBERED = SUPPORT.replace("queue: str", "queue: int").replace('queue="billing"', "queue=7")
URGENT = SUPPORT.replace("    queue: str\n", "    queue: str\n    urgent: bool = False\n")
SAID = {
    "type": "ticket.triaged",
    "kind": "type_changed",
    "path": "queue",
    "message": "it was written as long and is read as string",
    "remedy": "Keep the type, and put the new one into a field of another name",
    "agents": ["policy"],
}


def until(holds: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, f"waited for {what}"
        time.sleep(0.1)


@pytest.fixture
def mesh(served: Served, support: Path) -> Iterator[Antiphon]:
    """Run the agent that reads what `support` would say; return what runs a command beside it."""
    with served("policies", POLICY) as antiphon:
        until(lambda: orjson.loads(antiphon("agents", "--json").out), "its first heartbeat")
        yield antiphon


@pytest.mark.embedded
def test_the_gate_names_whom_a_change_would_break(mesh: Antiphon, support: Path, folder: Path) -> None:
    """The verdict first, then each problem; for people, for programs and for build servers."""
    fine = mesh("schema", "check", "support", "--json")
    support.with_name("numbered.py").write_text(NUMBERED)
    told = mesh("schema", "check", "numbered", "--junit", "gate.xml")
    document = mesh("schema", "check", "numbered", "--history", "--json")

    answer = orjson.loads(fine.out)
    assert (fine.code, answer["compatible"], answer["problems"], answer["unknown"]) == (0, True, [], [])
    assert (told.code, told.out) == (
        1,
        "no: triage would break policy (1 problem)\n"
        "ticket.triaged, field 'queue': it was written as long and is read as string\n"
        "  breaks policy\n"
        "  Keep the type, and put the new one into a field of another name\n",
    )
    assert (document.code, orjson.loads(document.out)["problems"]) == (1, [SAID])
    suite = ET.parse(folder / "gate.xml").getroot()
    [failed] = suite.iter("failure")
    assert (suite.get("failures"), failed.get("type"), failed.text) == (
        "1",
        "type_changed",
        "queue: it was written as long and is read as string\n"
        "Keep the type, and put the new one into a field of another name",
    )


@pytest.mark.embedded
def test_what_would_break_somebody_is_neither_registered_nor_run(mesh: Antiphon, support: Path) -> None:
    """Unless --yes says so; an agent that is refused says why and ends."""
    support.with_name("numbered.py").write_text(NUMBERED)
    refused = mesh("schema", "register", "numbered")
    run = mesh("run", "numbered")
    registered = mesh("schema", "register", "support", "--json")
    changed = mesh("schema", "diff", "numbered", "--json")

    assert (refused.code, refused.err.splitlines()[-2:]) == (
        1,
        [
            "error: nothing is registered",
            "  --yes registers them all the same; who starts such an agent is refused then",
        ],
    )
    assert run.code == 1
    assert (
        "ticket.triaged, field 'queue': it was written as long and is read as string, which breaks policy." in run.err
    )
    assert [one["type"] for one in orjson.loads(registered.out)] == ["ticket.opened", "ticket.triaged"]
    assert changed.code == 1
    assert orjson.loads(changed.out)[1] == {
        "type": "ticket.triaged",
        "registered": True,
        "changes": [{"path": "queue", "change": "type", "old": "string", "new": "long"}],
        "reads_old": False,
        "read_by_old": False,
    }


@pytest.mark.embedded
def test_events_that_nobody_says_any_more_are_asked_about(mesh: Antiphon, support: Path, folder: Path) -> None:
    """An application wrote them: it sends no heartbeat, and its events lie there."""
    (folder / "opener.py").write_text(POLICY.replace("TicketTriaged", "TicketOpened").replace("queue", "body"))
    assert mesh("schema", "register", "opener").code == 0
    assert mesh("publish", "ticket.opened", "--data", '{"ticket_id": "7", "body": "?"}').code == 0
    strict = SUPPORT.replace("    body: str\n", "    body: str\n    owner: str\n")
    support.with_name("strict.py").write_text(strict)

    told = orjson.loads(mesh("schema", "check", "strict", "--json").out)
    assert [(one["path"], one["kind"], one["agents"]) for one in told["problems"]] == [
        ("owner", "missing_default", ["triage"])
    ]


def test_files_serve_where_no_broker_can_be_asked(antiphon: Antiphon, support: Path) -> None:
    """Exported with each release; a change is asked about as if somebody read and wrote with each."""
    assert antiphon("schema", "export", "support", "--out", "released").code == 0
    same = antiphon("schema", "check", "support", "--against", "released")
    support.with_name("urgent.py").write_text(URGENT)
    fine = antiphon("schema", "check", "urgent", "--against", "released")
    differs = antiphon("schema", "diff", "urgent", "--against", "released")
    support.with_name("numbered.py").write_text(NUMBERED)
    broken = antiphon("schema", "check", "numbered", "--against", "released", "--json")

    assert (same.code, same.out) == (0, "yes: triage may be deployed; 2 readers of a writer asked\n")
    assert fine.code == 0
    assert (differs.code, differs.out) == (
        1,
        "ticket.opened: as it was\n"
        "ticket.triaged: new readers read old events, old readers read new ones\n"
        "  +  urgent  boolean\n",
    )
    assert (broken.code, [one["agents"] for one in orjson.loads(broken.out)["problems"]]) == (
        1,
        [["released/ticket.triaged.avsc"]],
    )


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--against", "nowhere.avsc"], "expected an Avro schema at 'nowhere.avsc': No such file or directory"),
        (["--against", "."], "expected .avsc files in ., got none"),
        (["--against", ".", "--history"], "expected --history without --against, got both"),
    ],
)
def test_what_cannot_be_asked_is_told(antiphon: Antiphon, support: Path, argv: list[str], said: str) -> None:
    """With exit code 2, and what to do."""
    ran = antiphon("schema", "check", "support", *argv)
    assert (ran.code, ran.err.splitlines()[0]) == (2, f"error: {said}")


@pytest.mark.embedded
def test_a_circle_ends_and_who_went_round_is_printed(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """`dead show` and `trace` write the chain; redriven with hops that begin anew, it goes round again."""
    monkeypatch.setenv("ANTIPHON_MAX_HOPS", "6")
    with served("tennis", TENNIS.read_text()) as antiphon:
        ran = antiphon("publish", "ball.served", "--data", '{"by": "umpire"}', "--budget", "3 EUR", "--json")
        workflow = str(orjson.loads(ran.out)["id"])
        assert antiphon("trace", workflow, "--follow", "--json").code == 0
        [letter] = orjson.loads(antiphon("dead", "list", "--reason", "hops", "--json").out)
        shown = antiphon("dead", "show", letter["event_id"])
        document = orjson.loads(antiphon("dead", "show", letter["event_id"], "--json").out)
        tree = antiphon("trace", workflow)
        as_it_was = antiphon("dead", "redrive", "--dry-run")
        antiphon("dead", "redrive", "--hops", "0")
        until(lambda: orjson.loads(antiphon("dead", "list", "--json").out), "the circle to end again")
        [again] = orjson.loads(antiphon("dead", "list", "--json").out)

    chain = "came by:  /cli/publish: ball.served → (bob: ball.returned → ada: ball.served) 3 times"
    assert f"  {chain}\n" in shown.out
    assert [link["said_by"] for link in document["chain"]] == ["/cli/publish", *["bob", "ada"] * 3]
    assert "HopLimitError: expected a chain of at most 6 agents" in tree.out
    assert "(bob: ball.returned → ada: ball.served) 3 times" in tree.out
    assert "1 are over their limit of hops or money" in as_it_was.err
    assert (again["event_id"] != letter["event_id"], again["reason"]) == (True, "hops")


def test_a_budget_is_an_amount(antiphon: Antiphon) -> None:
    """Anything else is told before a broker is asked."""
    ran = antiphon("publish", "ball.served", "--data", "{}", "--budget", "much")
    assert (ran.code, ran.err.splitlines()[0]) == (
        2,
        "error: expected a budget as an amount and a currency, such as '1.50 USD', got 'much', for --budget",
    )
