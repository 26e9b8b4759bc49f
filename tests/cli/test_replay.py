"""`antiphon replay` and bundles, on the embedded broker, with the agent as a process of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from tests.cli.conftest import Antiphon, Served
from tests.cli.test_dead import CLAIMS, file

pytestmark = pytest.mark.embedded


@pytest.fixture
def mesh(served: Served) -> Iterator[Antiphon]:
    """Run the agent; return what runs a command beside it."""
    with served("claims", CLAIMS) as antiphon:
        yield antiphon


def test_a_failure_is_reproduced_and_a_mended_agent_compared(mesh: Antiphon, folder: Path) -> None:
    """By id and from a bundle: the same error at the same line, then what a candidate does otherwise."""
    id, other = file(mesh, "dear", 500), file(mesh, "cheap", 5)
    planned = orjson.loads(mesh("replay", "plan", "--last", "10", "--json").out)
    ran = mesh("replay", "run", id)
    (folder / "mended.py").write_text(CLAIMS.replace("> 100", "> 1000").replace("amount=filed.amount)", "amount=5)"))
    candidate = mesh("replay", "run", id, other, "--agent", "payer=mended.py:payer", "--junit", "report.xml", "--json")
    same = mesh("replay", "run", "--last", "10", "--agent", "claims.py")

    assert (planned["workflows"], planned["handlings"], planned["agents"], planned["gone"]) == (2, 2, {"payer": 2}, [])
    assert ran.code == 0, ran.err
    assert re.search(r'raised, as it was then:\n(.*\n)*.*claims\.py", line 22, in pay', ran.out)
    assert "PermanentError: 500 is too much" in ran.out
    assert "1 handling of 1 workflow: 1 the same, 0 different" in ran.out
    assert candidate.code == 1
    [difference] = orjson.loads(candidate.out)["differences"]
    assert (difference["event_id"], difference["agent"], difference["kind"], difference["fields"]) == (
        id,
        "payer",
        "outcome",
        [{"path": "", "recorded": "PermanentError: 500 is too much", "got": "completed"}],
    )
    assert 'failures="1"' in (folder / "report.xml").read_text()
    assert (same.code, "2 workflows: 2 the same" in same.out) == (0, True), same.err


def test_a_bundle_needs_no_broker(mesh: Antiphon, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written where the workflow is, run where nobody answers."""
    id = file(mesh, "dear", 500)
    written = mesh("trace", id, "--bundle", "dear.antiphon")
    monkeypatch.setenv("ANTIPHON_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    ran = mesh("replay", "run", "dear.antiphon")

    assert (written.code, "next: antiphon replay run dear.antiphon" in written.err) == (0, True)
    assert (ran.code, "PermanentError: 500 is too much" in ran.out) == (0, True), ran.err


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        ((), 2, "--last 200"),
        (("claims.antiphon",), 1, "expected a bundle in claims.antiphon"),
        (("claims.antiphon", "0199"), 2, "got several things"),
        (("--last", "1", "--agent", "nowhere.py"), 2, "no file 'nowhere.py'"),
        (("--last", "1", "--judge", "claims.py:nobody"), 2, "--judge judges.py:same"),
    ],
)
def test_what_cannot_be_run_is_said(
    antiphon: Antiphon, folder: Path, argv: tuple[str, ...], code: int, said: str
) -> None:
    """With what was expected, before any broker is asked."""
    (folder / "claims.py").write_text(CLAIMS)
    ran = antiphon("replay", "run", *argv)

    assert (ran.code, said in ran.err) == (code, True), ran.err
