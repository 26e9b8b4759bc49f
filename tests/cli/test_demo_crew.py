"""The demo's processes: what is said when one of them does not do its part."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from antiphon.cli.demo.crew import Crew, MemberDiedError, NotReadyError, StalledError


async def test_a_process_that_ends_takes_the_wait_with_it(tmp_path: Path) -> None:
    """And the error says what it said last, which is where the reason is."""
    crew = Crew(tmp_path, cwd=tmp_path, environment={"PYTHONUNBUFFERED": "1"})
    crew.start("reader", "nowhere.py")
    try:
        async with asyncio.timeout(60):
            with pytest.raises(MemberDiedError) as caught:
                await crew.during(asyncio.Event().wait())
    finally:
        crew.stop(5)
    first, *rest = str(caught.value).splitlines()
    assert first == "expected agent 'reader' to run, but it ended with exit code 2"
    assert rest[0] == "the last lines of its log (reader.log):"
    assert "  error: no file 'nowhere.py'" in rest


async def test_what_is_waited_for_is_returned_while_all_run(tmp_path: Path) -> None:
    """Nothing of the watch is left behind."""
    crew = Crew(tmp_path, cwd=tmp_path, environment={})
    assert await crew.during(asyncio.sleep(0, "done")) == "done"
    assert len(asyncio.all_tasks()) == 1


def test_who_is_missing_is_named(tmp_path: Path) -> None:
    """With the log of one of them; one that said nothing is said to have said nothing."""
    error = NotReadyError({"policy", "licence"}, 60, tmp_path / "licence.log")
    assert str(error).splitlines() == [
        "expected every agent to be ready within 60 s; still waiting for licence, policy",
        "it wrote nothing to its log",
    ]


def test_where_packages_stand_still_is_said(tmp_path: Path) -> None:
    """By stage, so that it shows which agent to look at; only the end of its log."""
    log = tmp_path / "licence.log"
    log.write_text("".join(f"line {number}\n" for number in range(40)))
    error = StalledError({"read": ["a", "b"], "submitted": ["c"]}, 30, log)
    assert str(error).splitlines()[:4] == [
        "expected every package to come to an end, but nothing moved for 30 s",
        "2 read: a, b; 1 submitted: c",
        "the last lines of its log (licence.log):",
        "  line 25",
    ]
