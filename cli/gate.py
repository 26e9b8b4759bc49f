"""Asking the gate: with what the mesh tells, or with schemas in files, and saying what it answered."""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from antiphon.bus.contracts import Contract, Contracts, of_workers, read_schemas
from antiphon.bus.gate import Problem, Verdict, gate
from antiphon.bus.names import SCHEMAS, dead_topic
from antiphon.bus.retained import written_schemas
from antiphon.bus.subscriptions import subscriptions
from antiphon.cli import output
from antiphon.cli.cluster import Cluster
from antiphon.cli.data import parse
from antiphon.cli.errors import UsageError, did_you_mean, listed
from antiphon.schemas.envelope import now_us
from antiphon.schemas.store import AvroSchema, type_of
from antiphon.tracing.records import read_agents

_PROGRESS_EVERY_S = 2.0


async def ask_mesh(cluster: Cluster, proposed: Contracts, *, history: bool) -> Verdict:
    """Ask whether *proposed* may be deployed into what runs on *cluster*; with *history* of every event that its topics hold."""
    workers = await read_agents(cluster.bus, cluster.names, cluster.codec())
    live = of_workers(subscriptions(workers, now_us=now_us()), await read_schemas(cluster.bus, cluster.names))
    topics: defaultdict[str, set[str]] = defaultdict(set)
    for read in proposed.reads:
        topics[read.topic].add(read.type)
        if history:
            topics[dead_topic(read.agent)].add(read.type)  # one may be redriven
    written = await written_schemas(
        cluster.bus, cluster.names, cluster.store, topics, every=history, claims=cluster.claims, progress=_progress()
    )
    known = await _registered(cluster, proposed, live, written)
    return gate(proposed, Contracts((*live.reads, *known.reads), (*live.writes, *known.writes)), written=written)


async def _registered(
    cluster: Cluster, proposed: Contracts, live: Contracts, written: Mapping[str, Sequence[AvroSchema]]
) -> Contracts:
    """Return the newest registered schema of each type of which nobody has told anything, on the side that nobody is on."""
    place = f"whoever goes by {'the registry' if cluster.settings.registry else cluster.names.topic(SCHEMAS)}"
    read = {one.type for one in live.reads if one.schema is not None}
    written_now = {one.type for one in live.writes if one.schema is not None} | written.keys()
    return Contracts(
        reads=tuple([one for type in _types(proposed.writes) - read async for one in _newest(cluster, type, place)]),
        writes=tuple(
            [one for type in _types(proposed.reads) - written_now async for one in _newest(cluster, type, place)]
        ),
    )


def _types(contracts: Iterable[Contract]) -> set[str]:
    return {one.type for one in contracts}


async def _newest(cluster: Cluster, type: str, place: str) -> AsyncIterator[Contract]:
    schema = await cluster.store.latest(type)
    if schema is not None:
        yield _of_schema(schema, place)


def ask_files(paths: Iterable[Path], proposed: Contracts) -> Verdict:
    """Ask whether *proposed* fits with the schemas in *paths*, as if somebody read and wrote with each: no broker is asked."""
    found = [_of_schema(schema, name) for name, schema in schemas_in(paths)]
    return gate(proposed, Contracts(tuple(found), tuple(found)))


def _of_schema(schema: AvroSchema, who: str) -> Contract:
    said: Any = schema.get("antiphon") or {}
    return Contract(agent=who, version="", type=type_of(schema), topic=str(said.get("topic", "")), schema=schema)


def schemas_in(paths: Iterable[Path]) -> list[tuple[str, AvroSchema]]:
    """Return the record schemas in files and folders (`*.avsc`), each with the file's name."""
    found: list[tuple[str, AvroSchema]] = []
    for path in paths:
        files = sorted(path.glob("*.avsc")) if path.is_dir() else [path]
        if not files:
            raise UsageError(
                f"expected .avsc files in {path}, got none", "antiphon schema export MOD --out DIR writes them"
            )
        found += [(str(file), schema) for file in files for schema in _schemas(file)]
    return found


def _schemas(file: Path) -> list[Any]:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        here = [str(path) for path in file.parent.glob("*.avsc")] if file.parent.is_dir() else []
        raise UsageError(
            f"expected an Avro schema at {str(file)!r}: {reason}", did_you_mean(str(file), here, what=".avsc files")
        ) from None
    parsed: Any = parse(text, str(file))
    schemas: list[Any] = [*parsed] if isinstance(parsed, list) else [parsed]
    for one in schemas:
        if not isinstance(one, Mapping) or one.get("type") != "record":  # pyright: ignore[reportUnknownMemberType]
            got = output.compact(one, at_most=60)
            raise UsageError(f"expected a record schema in {file}, got {got}", "an event is an Avro record")
    return schemas


def _progress() -> Callable[[int, int], None]:
    told = time.monotonic()

    def tell(done: int, whole: int) -> None:
        nonlocal told
        if time.monotonic() - told >= _PROGRESS_EVERY_S:
            told = time.monotonic()
            output.remark(f"{done:,} of {whole:,} events looked at")

    return tell


def document(verdict: Verdict) -> dict[str, Any]:
    """Return what `antiphon schema check --json` prints."""
    return {
        "compatible": verdict.compatible,
        "problems": [problem.document() for problem in verdict.problems],
        "unknown": [{"type": type, "agents": who} for type, who in verdict.unknown.items()],
        "asked": len(verdict.pairs),
    }


def show(verdict: Verdict, agents: Sequence[str]) -> None:
    """Print the verdict, then each problem."""
    who = listed(agents)
    if verdict.compatible:
        output.result(f"yes: {who} may be deployed; {output.counted(len(verdict.pairs), 'reader')} of a writer asked")
    else:
        broken = sorted({agent for problem in verdict.problems for agent in problem.agents})
        count = output.counted(len(verdict.problems), "problem")
        output.result(output.inert(f"no: {who} would break {listed(broken)} ({count})"))
    for problem in verdict.problems:
        for line in _lines(problem):
            output.result(output.inert(line))
    for type, unknown in verdict.unknown.items():
        output.result(output.inert(f"unknown: {type}, with {listed(unknown)}: nobody has told with which schema"))
    if not verdict.pairs:
        output.remark("nobody that is known reads what they write, or writes what they read")
    sys.stdout.flush()
    output.remark("those who send no heartbeats, applications for instance, are known by the events they wrote alone")


def _lines(problem: Problem) -> Iterable[str]:
    place = f"field {problem.path!r}" if problem.path else "the event"
    yield f"{problem.type}, {place}: {problem.message}"
    yield f"  breaks {', '.join(problem.agents)}"
    yield f"  {problem.remedy}"
