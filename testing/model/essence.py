"""What of the state of the coordinator and of sagas makes a difference to what may happen next."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, TypeAlias

import orjson

from antiphon.compensation.instance import Stage
from antiphon.compensation.workflow import Phase

Times: TypeAlias = tuple[tuple[str, int], ...]
"""Commands, and when what is noted for each is due."""

_OUT = frozenset({Stage.RUNNING, Stage.RESTING})


@lru_cache(maxsize=100_000)
def undoing(value: bytes) -> bytes:
    """Return what the coordinator keeps without in which order it heard of things, and how it words why something failed."""
    said = orjson.loads(value)
    workflow = said.get("workflow", {})
    for failure in (*workflow.get("scopes", {}).values(), workflow.get("failure")):
        if failure:
            failure["reason"] = failure["event_id"] = ""
    for node in workflow.get("events", {}).values():
        if "done" in node:
            node["done"].sort()
    return orjson.dumps(said, option=orjson.OPT_SORT_KEYS)


@lru_cache(maxsize=100_000)
def conducting(value: bytes) -> tuple[bytes, Times]:
    """Return what a saga keeps of its runs without when they ended and its words for why, and the times that still count."""
    runs = orjson.loads(value)
    times = sorted(time for run in runs.values() for time in _live(run))
    for run in runs.values():
        run.pop("ended_us", None)
        run.pop("due")
        run["reason"] = bool(run["reason"])
        for step in run["steps"].values():
            step.pop("problem", None)
            if step["stage"] not in _OUT:
                step.pop("tries", None)
    return orjson.dumps(runs, option=orjson.OPT_SORT_KEYS), tuple(times)


def _live(run: dict[str, Any]) -> list[tuple[str, int]]:
    """Return the times of a run at which something will follow; others are void."""
    if run["phase"] != Phase.RUNNING.value:
        return []
    out = {step.get("command"): step.get("tries", 0) for step in run["steps"].values() if step["stage"] in _OUT}
    return [(command, due_us) for command, (due_us, tries) in run["due"].items() if out.get(command) == tries]
