"""`--canary`: other versions of the agents that a worker runs, each for a share of the workflows."""

from __future__ import annotations

from collections.abc import Sequence

from antiphon.agents.candidates import wanted
from antiphon.bus.canary import beside
from antiphon.bus.consumer import Consumer
from antiphon.bus.share import Share
from antiphon.cli.errors import UsageError, did_you_mean
from antiphon.cli.loading import agent_at


def with_canaries(consumers: Sequence[Consumer], canaries: Sequence[str], share: str | None) -> list[Consumer]:
    """Return *consumers*, those of them that *canaries* name with these beside them.

    Raises `UsageError` where they name none, and `CanaryError` where one cannot stand in for what it is a canary of.
    """
    if not canaries:
        if share is not None:
            raise UsageError(f"expected --canary with --share {share}, got none", "try: --canary NAME=FILE.py:AGENT")
        return [*consumers]
    if share is None:
        raise UsageError("expected --share with --canary, got none", "try: --share 10%")
    found = {consumer.name: consumer for consumer in consumers}
    for text in canaries:
        canary = _canary(text)
        stable = found.get(canary.name)
        if stable is None:
            raise UsageError(
                f"no agent {canary.name!r} among those to be run, for --canary {text}",
                did_you_mean(canary.name, [*found], what="agents"),
            )
        if stable.canary is not None:
            raise UsageError(
                f"expected one --canary of {canary.name!r}, got two", "compare more than two by antiphon replay"
            )
        found[canary.name] = beside(stable, canary, Share.parse(share))
    return [*found.values()]


def _canary(text: str) -> Consumer:
    name, target = wanted(text)
    if not target or name == "":
        raise UsageError(f"expected --canary NAME=WHERE, got {text!r}", "try: --canary triage=./triage_v2.py:triage")
    return agent_at(target).consumer(name=name)
