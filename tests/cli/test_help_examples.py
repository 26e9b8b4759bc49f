"""Every example that a `--help` shows runs: those without a broker as they stand, the others on the embedded one."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from antiphon.cli.group import COMMANDS
from tests.cli.conftest import Antiphon

RUNS_ON = {"run", "dev", "demo"}
"""Commands that go on until they are told to stop; they have tests of their own."""


def examples(antiphon: Antiphon, *command: str) -> list[str]:
    """Return the lines under "Example:" in the help of *command*."""
    lines = iter(antiphon(*command, "--help").out.splitlines())
    for line in lines:
        if line.strip() == "Example:":
            break
    return [line.strip() for line in iter(lambda: next(lines, "").strip(), "")]


@pytest.mark.embedded
@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in RUNS_ON])
def test_the_examples_run(
    antiphon: Antiphon,
    support: Path,
    embedded: str,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    """In a folder with support.py, on a mesh that has seen its agent and a workflow whose id begins so."""
    monkeypatch.setenv("ANTIPHON_BOOTSTRAP_SERVERS", embedded)
    monkeypatch.setenv("ANTIPHON_NAMESPACE", namespace)
    monkeypatch.setenv("ANTIPHON_PARTITIONS", "2")
    groups = {"topics": ["plan", "apply"], "schema": ["export", "generate"]}
    shown = [line for leaf in groups.get(name, [None]) for line in examples(antiphon, name, *([leaf] if leaf else []))]
    (support.parent / "tickets.jsonl").write_text('{"ticket_id": "9", "body": "b"}\n')
    worker = subprocess.Popen(
        [sys.executable, "-m", "antiphon.cli", "run", "support"], cwd=support.parent, stderr=subprocess.PIPE
    )
    try:
        assert worker.stderr is not None
        while b'"ready"' not in (said := worker.stderr.readline()):
            assert said
        ticket = '{"ticket_id": "1", "body": "b"}'
        seed = ["publish", "ticket.opened", "--data", ticket, "--wait", "ticket.triaged"]
        assert [antiphon(*seed).code, antiphon(*seed).code] == [0, 0]
        if name == "trace":
            id = antiphon("tail", "--from-beginning", "--limit", "1", "--json").out[7:15]
            shown = [line.replace("0199f2c1", id) for line in shown]
        assert shown
        for line in shown:
            words = shlex.split(line)
            while "=" in words[0]:
                variable, _, value = words.pop(0).partition("=")
                monkeypatch.setenv(variable, value)
            ran = antiphon(*words[1:])
            assert ran.code == 0 or (name == "topics" and ran.code == 1), (line, ran.err)
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.wait(20)
        if worker.stderr is not None:
            worker.stderr.close()
