"""What was recorded, from a bundle or from the topics, and which of it is meant."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import AsyncGenerator, Sequence

from antiphon.agents.candidates import Wanted
from antiphon.bus.claims import Claims
from antiphon.cli import output
from antiphon.cli.cluster import Cluster, opened
from antiphon.cli.errors import AnswerIsNoError, UsageError
from antiphon.cli.replaying.code import name_at
from antiphon.cli.when import moment_ms
from antiphon.replay.bundle import SUFFIX, read
from antiphon.replay.choice import Choice, Span
from antiphon.replay.reading import fitting, read_recording
from antiphon.replay.recording import Handling, Recording
from antiphon.replay.schemas import KeptSchemas
from antiphon.schemas.codec import Codec
from antiphon.schemas.condition import Condition
from antiphon.tracing.finding import find_workflows

_SHOWN = 20
_SPAN = re.compile(r"([^\[\]@]+)(?:\[(\d+)\])?@(\d+)(?:(-)(\d+)?)?")


@dataclasses.dataclass(frozen=True)
class Source:
    """What was recorded, what it takes to read it, and which of it is meant."""

    recording: Recording
    schemas: KeptSchemas
    claims: Claims
    chosen: Sequence[Handling]
    cluster: Cluster | None
    """Where it was read; None for a bundle."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Filter:
    """What was typed to say which handlings are meant."""

    what: Sequence[str]
    agents: Sequence[Wanted]
    event: str | None
    types: Sequence[str]
    where: Sequence[str]
    offsets: Sequence[str]
    since: str | None
    until: str | None
    failed: bool
    dead: bool
    last: int | None

    def choice(self) -> Choice:
        """Return what is meant; raises `UsageError` and `ConditionError`."""
        return Choice(
            agents=frozenset(one.name or name_at(one) for one in self.agents),
            event=self.event,
            types=frozenset(self.types),
            where=tuple(Condition.parse(text) for text in self.where),
            spans=tuple(span(text) for text in self.offsets),
            since_us=None if self.since is None else moment_ms(self.since, option="--since") * 1_000,
            until_us=None if self.until is None else moment_ms(self.until, option="--until") * 1_000,
            failed=self.failed,
            dead=self.dead,
            last=self.last,
        )


def span(text: str) -> Span:
    """Read a range of offsets as people type it, both ends included.

    >>> span("ticket.opened[3]@100-200")
    Span(topic='ticket.opened', partition=3, first=100, end=201)
    >>> span("ticket.opened@100-"), span("ticket.opened[3]@7")
    (Span(topic='ticket.opened', partition=None, first=100, end=None), Span(topic='ticket.opened', partition=3, first=7, end=8))
    """
    found = _SPAN.fullmatch(text.strip())
    if found is None:
        raise UsageError(
            f"expected --offsets to be TOPIC[PARTITION]@FIRST-LAST, got {text!r}",
            "try: --offsets 'ticket.opened[3]@100-200', or --offsets ticket.opened@100- for all partitions to their ends",
        )
    topic, partition, first, dash, last = found.groups()
    end = int(first) + 1 if dash is None else None if last is None else int(last) + 1
    return Span(topic, None if partition is None else int(partition), int(first), end)


@contextlib.asynccontextmanager
async def recorded(filter: Filter) -> AsyncGenerator[Source]:
    """Read what is meant, from a bundle or from the topics; raises where there is nothing."""
    choice = filter.choice()
    bundles = [name for name in filter.what if name.endswith(SUFFIX)]
    if bundles and len(filter.what) > 1:
        raise UsageError("expected one bundle, or ids of workflows, got several things", f"try: {bundles[0]} alone")
    if bundles:
        recording, schemas = read(bundles[0])
        yield await _meant(recording, schemas, Claims(), choice, None)
        return
    if not filter.what and choice == Choice():
        raise UsageError(
            "expected workflows, a bundle or a filter, got nothing that says which events",
            "try: --last 200, or --since 1h",
        )
    async with opened() as cluster:
        ids = frozenset([await _whole_id(cluster, name) for name in filter.what])
        choice = dataclasses.replace(choice, workflows=ids)
        recording = await read_recording(cluster.bus, cluster.names, cluster.codec(), choice, claims=cluster.claims)
        yield await _meant(recording, KeptSchemas(behind=cluster.store), cluster.claims, choice, cluster)


async def _meant(
    recording: Recording, schemas: KeptSchemas, claims: Claims, choice: Choice, cluster: Cluster | None
) -> Source:
    fits = await fitting(recording, choice.where, Codec(schemas)) if choice.where else None
    chosen = choice.of(recording.handlings, fits)
    if not chosen:
        agents = recording.agents()
        raise AnswerIsNoError(
            "nothing was handled that fits",
            *([f"agents that handled something there: {', '.join(agents)}"] if agents else []),
            "activity may have expired, or stand in another namespace (-n)",
        )
    return Source(recording, schemas, claims, chosen, cluster)


async def _whole_id(cluster: Cluster, prefix: str) -> str:
    found = await find_workflows(cluster.bus, cluster.names, prefix)
    if any(one.correlation_id == prefix for one in found) or not found:
        return prefix
    if len(found) > 1:
        listed = [f"  {output.inert(one.correlation_id)}  {output.inert(one.type)}" for one in found[-_SHOWN:]]
        raise UsageError(
            f"expected an id that only one workflow has, got {prefix!r}", "it is the beginning of", *listed
        )
    return found[0].correlation_id
