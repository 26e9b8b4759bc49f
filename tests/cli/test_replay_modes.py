"""`antiphon replay` in a sandbox and for real, on the embedded broker, with the agent as a process of its own."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from antiphon.bus.connect import connect
from antiphon.bus.settings import load
from tests.cli.conftest import Antiphon, Served
from tests.cli.process import Process
from tests.cli.test_dead import CLAIMS, file

pytestmark = pytest.mark.embedded


@pytest.fixture
def mesh(served: Served) -> Iterator[Antiphon]:
    """Run the agent; return what runs a command beside it."""
    with served("claims", CLAIMS) as antiphon:
        yield antiphon


def topics() -> set[str]:
    async def found() -> set[str]:
        settings = load({})
        bus = connect(settings)
        try:
            return {topic for topic in await bus.topics() if topic.startswith(f"{settings.namespace}.")}
        finally:
            await bus.close()

    return asyncio.run(found())


def workflows(mesh: Antiphon) -> Any:
    return orjson.loads(mesh("workflows", "--from", "topics", "--json").out)


def test_a_sandbox_has_real_workers_and_leaves_nothing(mesh: Antiphon, folder: Path) -> None:
    """What is the same is the same there; a candidate's difference shows; no topic stays, and no workflow is new."""
    file(mesh, "dear", 500)
    file(mesh, "cheap", 5)
    before, listed = topics(), workflows(mesh)
    same = mesh("replay", "run", "--last", "10", "--mode", "sandbox")
    (folder / "mended.py").write_text(CLAIMS.replace("> 100", "> 1000"))
    candidate = mesh("replay", "run", "--last", "10", "--mode", "sandbox", "--agent", "payer=mended.py:payer", "--json")

    assert (same.code, "2 handlings of 2 workflows: 2 the same, 0 different" in same.out) == (0, True), same.err
    assert "sandbox: " in same.err
    assert candidate.code == 1
    document = orjson.loads(candidate.out)
    assert (document["same"], [one["kind"] for one in document["differences"]]) == (1, ["outcome"])
    assert (topics(), workflows(mesh)) == (before, listed)
    assert (mesh("replay", "clean").code, "nothing was left" in mesh("replay", "clean").out) == (0, True)


def test_live_is_asked_twice_and_says_what_it_was(mesh: Antiphon) -> None:
    """Without --yes the plan and nothing more; with it new events, which say what they are a replay of."""
    id = file(mesh, "dear", 500)
    refused = mesh("replay", "run", id, "--mode", "live")
    planned = orjson.loads(mesh("replay", "plan", id, "--mode", "live", "--json").out)["live"]
    before = len(workflows(mesh))
    done = mesh("replay", "run", id, "--mode", "live", "--yes", "--json")
    [published] = orjson.loads(done.out)["published"]
    mesh("trace", published["correlation_id"], "--follow")
    traced = orjson.loads(mesh("trace", published["correlation_id"], "--json").out)

    assert (refused.code, "nothing is published yet" in refused.err) == (1, True)
    assert "publishes 1 event to claim.filed" in refused.err
    assert (planned["publishes"], planned["hearers"]) == ({"claim.filed": 1}, {"claim.filed": ["payer"]})
    assert (done.code, published["replay_of"], published["id"] == id) == (0, id, False)
    assert [one["source"] for one in traced["events"]] == ["/replays"]
    listed = {one["correlation_id"]: one["replay_of"] for one in workflows(mesh)}
    assert (before, listed) == (1, {id: None, published["correlation_id"]: id})
    assert (
        f"replay of {id}" not in mesh("workflows", "--failed").out
    )  # this one failed again, and who failed it matters more


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (("--offsets", "claim.filed[0"), 2, "--offsets 'ticket.opened[3]@100-200'"),
        (("--last", "1", "--speed", "quick"), 2, "--speed 10x"),
        (("--where", "amount"), 2, "amount"),
        (("--mode", "fast"), 2, "handler"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    antiphon: Antiphon, argv: tuple[str, ...], code: int, said: str
) -> None:
    """With an example that does, before any broker is asked."""
    ran = antiphon("replay", "run", *argv)

    assert (ran.code, said in ran.err) == (code, True), ran.err


def test_events_are_chosen_by_place_and_by_what_they_say(mesh: Antiphon) -> None:
    """One by one of these, the other by the other; what nothing fits says so."""
    dear, cheap = file(mesh, "dear", 500), file(mesh, "cheap", 5)
    told = {
        name: [one["event_id"] for one in orjson.loads(mesh("replay", "run", *argv, "--json").out)["differences"]]
        for name, argv in {
            "where": ("--where", "amount>100", "--agent", "payer=other.py:payer"),
            "dead": ("--dead", "--agent", "payer=other.py:payer"),
            "cheap": ("--where", "claim=cheap", "--agent", "payer=other.py:payer"),
        }.items()
        if Path("other.py").write_text(CLAIMS.replace("> 100", "< 100"))
    }
    nothing = mesh("replay", "run", "--offsets", "claim.filed@1000-")

    assert (told, dear == cheap) == ({"where": [dear], "dead": [dear], "cheap": [cheap]}, False)
    assert (nothing.code, "nothing was handled that fits" in nothing.err) == (1, True)


def letters(mesh: Antiphon) -> Any:
    return orjson.loads(mesh("dead", "list", "--json").out)


SLOW = CLAIMS.replace(
    "    if filed", '    print("paying", flush=True)\n    time.sleep(0.2)\n    await asyncio.sleep(600)\n    if filed'
).replace("from pathlib", "import asyncio\nimport time\nfrom pathlib")
INTERRUPTED: dict[str, tuple[tuple[str, ...], str | Callable[[Antiphon], bool]]] = {
    "handler": (("replay", "run", "--last", "9", "--agent", "payer=slow.py:payer"), "paying"),
    "sandbox": (("replay", "run", "--last", "9", "--agent", "payer=slow.py:payer", "--mode", "sandbox"), "paying"),
    "live": (
        ("replay", "run", "--last", "9", "--mode", "live", "--yes", "--rate", "0.01"),
        lambda mesh: len(workflows(mesh)) > 2,
    ),
    "redrive": (("dead", "redrive", "--rate", "0.01"), lambda mesh: len(letters(mesh)) < 2),
}


@pytest.mark.parametrize("name", INTERRUPTED)
def test_ctrl_c_ends_whatever_is_under_way(mesh: Antiphon, folder: Path, name: str) -> None:
    """At once, with the exit code of that, no traceback, and no topic that was not there before."""
    for amount in (500, 501):
        file(mesh, f"dear {amount}", amount)
    before = topics()
    (folder / "mended").touch()
    (folder / "slow.py").write_text(SLOW)
    argv, begun = INTERRUPTED[name]
    process = Process(*argv, cwd=folder)
    try:
        if isinstance(begun, str):
            process.wait_for(begun)
        else:
            until(lambda: begun(mesh))
        code = process.end(signal.SIGINT)
        process.wait_for_end()
    finally:
        process.clean_up()
    said = "".join(process.said)

    assert (code, "Traceback" in said, topics()) == (130, False, before), said
    assert ("stopped: 1 of 2" in said) == (name in ("live", "redrive")), said


def until(holds: Callable[[], bool]) -> None:
    """Ask until something *holds*; fails the test after a minute."""
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
