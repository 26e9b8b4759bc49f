"""Which code handles past events again: that of this folder, or candidates."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from antiphon.agents.agent import Agent
from antiphon.agents.candidates import Wanted
from antiphon.bus.consumer import Consumer
from antiphon.cli import output
from antiphon.cli.errors import CommandError, UsageError, did_you_mean
from antiphon.cli.loading import agent_at, agents_in, module_of
from antiphon.replay.compare import Judge


def name_at(one: Wanted) -> str:
    return _at(one.target or "").name


def _at(target: str) -> Agent:
    with contextlib.redirect_stdout(sys.stderr):
        return agent_at(target)


def consumers(agents: Sequence[Wanted], needed: Iterable[str]) -> list[Consumer]:
    """Return what handles: candidates under the names of those whose place they take, else the agents that are found here."""
    if agents:
        return [_consumer(one) for one in agents]
    here = {agent.name: agent for agent in _agents_here()}
    found = [here[name].consumer() for name in needed if name in here]
    if not found:
        raise UsageError(
            f"expected the code of {' or '.join(needed)} in the modules of {Path.cwd()}, got none",
            "try: --agent NAME=FILE.py:AGENT, or --agent MOD:AGENT",
        )
    return found


def _consumer(one: Wanted) -> Consumer:
    if one.target is not None:
        return _at(one.target).consumer(name=one.name)
    here = {agent.name: agent for agent in _agents_here()}
    if one.name not in here:
        raise UsageError(
            f"no agent {one.name!r} in the modules of {Path.cwd()}",
            did_you_mean(one.name or "", [*here], what="agents"),
            f"try: --agent {one.name}=FILE.py:AGENT, or --agent MOD:AGENT",
        )
    return here[one.name].consumer()


def _agents_here() -> list[Agent]:
    """Return the agents that the folder's own modules have; one that cannot be imported has none."""
    found: list[Agent] = []
    for path in sorted(Path.cwd().glob("*.py")):
        text = path.read_text(encoding="utf-8", errors="replace")
        if "antiphon" not in text or path.name.startswith(("test_", "conftest")):
            continue
        try:
            with contextlib.redirect_stdout(sys.stderr):
                found += [agent for agent in agents_in(module_of(path.name)) if isinstance(agent, Agent)]
        except CommandError as error:
            output.remark(f"{path.name} was not looked into: {error.problem}")
    return found


def judge_at(target: str) -> Judge:
    module, _, name = target.partition(":")
    with contextlib.redirect_stdout(sys.stderr):
        found: Any = getattr(module_of(module), name, None) if name else None
    if not callable(found):
        raise UsageError(f"expected a function at {target!r}, got {found!r}", "try: --judge judges.py:same")
    function: Any = found
    return lambda recorded, got: bool(function(recorded, got))
