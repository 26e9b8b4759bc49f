"""`antiphon dead`, on the embedded broker, with the agent as a process of its own."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.cli.conftest import Antiphon, Ran, Served

pytestmark = pytest.mark.embedded

CLAIMS = """\
from pathlib import Path

from antiphon import Agent, Event, PermanentError


class ClaimFiled(Event):
    claim: str
    amount: int


class ClaimPaid(Event):
    claim: str
    amount: int


payer = Agent("payer")


@payer.on(ClaimFiled)
async def pay(filed: ClaimFiled) -> ClaimPaid:
    if filed.amount > 100 and not Path("mended").exists():
        raise PermanentError(f"{filed.amount} is too much")
    return ClaimPaid(claim=filed.claim, amount=filed.amount)
"""


@pytest.fixture
def mesh(served: Served) -> Iterator[Antiphon]:
    """Run the agent; return what runs a command beside it."""
    with served("claims", CLAIMS) as antiphon:
        yield antiphon


def file(mesh: Antiphon, claim: str, amount: int) -> str:
    """File a claim and wait until the agent is through with it; return its id."""
    ran = mesh("publish", "claim.filed", "--data", orjson.dumps({"claim": claim, "amount": amount}).decode(), "--json")
    id = str(orjson.loads(ran.out)["id"])
    assert mesh("trace", id, "--follow", "--json").code == 0
    return id


def listed(mesh: Antiphon, *options: str) -> list[dict[str, Any]]:
    ran = mesh("dead", "list", "--json", *options)
    assert ran.code == 0, ran.err
    found: list[dict[str, Any]] = orjson.loads(ran.out)
    return found


def state(mesh: Antiphon, id: str) -> str:
    return str(orjson.loads(mesh("trace", id, "--json").out)["state"])


def until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, f"waited for {what}"
        time.sleep(0.1)


def test_a_failed_workflow_is_mended_and_redriven(mesh: Antiphon, folder: Path) -> None:
    """list, show, redrive: once what failed is mended, the same workflow goes on to its end."""
    id, _ = file(mesh, "c1", 500), file(mesh, "c2", 5)
    [letter] = listed(mesh)
    shown = orjson.loads(mesh("dead", "show", id, "--json").out)
    plain = mesh("dead", "list")
    (folder / "mended").touch()
    planned = mesh("dead", "redrive", "--agent", "payer", "--dry-run")
    still = listed(mesh)
    ran = mesh("dead", "redrive", "--agent", "payer", "--where", "amount>100")
    until(lambda: state(mesh, id) == "completed", "the workflow to end")

    document = orjson.loads(mesh("trace", id, "--json").out)
    assert {
        name: letter[name] for name in ("agent", "event_id", "type", "reason", "attempts", "error", "redriven")
    } == {
        "agent": "payer",
        "event_id": id,
        "type": "claim.filed",
        "reason": "permanent",
        "attempts": 1,
        "error": {"type": "PermanentError", "message": "500 is too much"},
        "redriven": 0,
    }
    assert shown["data"] == {"claim": "c1", "amount": 500}
    assert "claims.py" in shown["error"]["traceback"]
    assert re.search(rf"payer +{id} +claim.filed +.* ago +permanent +PermanentError: 500 is too much", plain.out)
    assert (planned.code, planned.out, still) == (0, "1 would be redriven  payer\n", [letter])
    assert (ran.code, ran.out) == (0, "1 redriven  payer\n")
    assert listed(mesh) == []
    assert [delivery["outcome"] for delivery in document["deliveries"]] == ["dead_lettered", "completed"]
    assert ([event["type"] for event in document["events"]], document["warnings"]) == (
        ["claim.filed", "claim.paid"],
        [],
    )


def test_an_event_is_edited_on_its_way_back(mesh: Antiphon, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong edit says what does not fit, and the letter stays; a right one goes, and the trace tells of both."""
    id = file(mesh, "c1", 500)
    monkeypatch.setenv("EDITOR", "sed -i s/500/much/")
    wrong = mesh("dead", "redrive", id, "--edit")
    after_wrong = listed(mesh)
    monkeypatch.setenv("EDITOR", "sed -i s/500/50/")
    right = mesh("dead", "redrive", id[:-2], "--edit")
    until(lambda: state(mesh, id) == "completed", "the workflow to end")

    document = orjson.loads(mesh("trace", id, "--json").out)
    assert (wrong.code, len(after_wrong)) == (1, 1)
    assert "stays" in wrong.err
    assert "line 3, column 13" in wrong.err
    assert (right.code, right.out) == (0, "1 redriven  payer\n")
    assert [event["data"]["amount"] for event in document["events"]] == [500, 50]
    assert [warning["kind"] for warning in document["warnings"]] == ["ID_CONFLICT"]


def test_what_fails_again_and_again_is_parked(mesh: Antiphon) -> None:
    """The count travels with the event; past the limit it is left alone, and the answer says how to take it all the same."""
    id = file(mesh, "c1", 500)
    for times in (1, 2):
        assert mesh("dead", "redrive", id, "--limit", "2").code == 0
        until(lambda times=times: [one["redriven"] for one in listed(mesh)] == [times], "the letter to come back")  # type: ignore[misc]
    parked = mesh("dead", "redrive", id, "--limit", "2")

    assert (parked.code, parked.out) == (0, "nothing redriven\n")
    assert "1 left: redriven 2 times or more; --limit 3 takes them too" in parked.err


def test_a_letter_is_discarded_only_when_asked_twice(mesh: Antiphon) -> None:
    """Without --yes nothing is done; with it, it is on the list no more."""
    id = file(mesh, "c1", 500)
    asked = mesh("dead", "discard", id)
    after = len(listed(mesh))
    done = mesh("dead", "discard", id, "--yes")

    assert (asked.code, after, done.code, listed(mesh)) == (1, 1, 0, [])
    assert "--yes discards them" in asked.err
    assert state(mesh, id) == "failed"


def test_what_cannot_be_done_is_said(mesh: Antiphon, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to do instead, and the exit code of who is to blame."""
    monkeypatch.delenv("EDITOR", raising=False)
    monkeypatch.delenv("VISUAL", raising=False)
    file(mesh, "c1", 500)
    asked: dict[tuple[str, ...], tuple[int, str]] = {
        ("list", "--agent", "paier"): (2, "did you mean payer?"),
        ("list", "--reason", "permanentt"): (2, "did you mean permanent?"),
        ("list", "--where", "amount"): (2, "amount>100"),
        ("show", "nobody"): (1, "antiphon dead list"),
        ("redrive", "--edit"): (2, "$EDITOR"),
    }
    ran: dict[tuple[str, ...], Ran] = {argv: mesh("dead", *argv) for argv in asked}

    assert {
        argv: (ran[argv].code, said if said in ran[argv].err else ran[argv].err) for argv, (_, said) in asked.items()
    } == asked
