"""`antiphon doctor`: are cluster, registry and settings fit for the mesh, and what to change."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator, Iterable, Sequence

import typer

from antiphon.bus import settings as configured
from antiphon.bus.claims import HEADROOM
from antiphon.bus.connect import kafka_config
from antiphon.bus.errors import BrokerUnreachableError, BusError
from antiphon.bus.heartbeat import AgentSeen
from antiphon.bus.kafka.administration import Administration
from antiphon.bus.kafka.cluster import ClusterAdministration, ClusterRefusedError
from antiphon.bus.kafka.config import GroupProtocol
from antiphon.bus.names import ACTIVITY, AGENTS, COORDINATOR, SCHEMAS
from antiphon.bus.subscriptions import is_live
from antiphon.cli import output
from antiphon.cli.checks import (
    Check,
    Status,
    broker_version,
    canaries,
    clock,
    headroom,
    plan,
    replicas,
    retention,
    rights,
)
from antiphon.cli.cluster import Cluster, opened
from antiphon.cli.commands.topics import topics_of
from antiphon.cli.errors import NO, UNREACHABLE, listed
from antiphon.cli.options import given
from antiphon.compensation.reading import read_kept
from antiphon.schemas.envelope import now_us
from antiphon.schemas.errors import RegistryError
from antiphon.tracing.records import read_agents


def doctor() -> None:
    """Say whether cluster, registry and settings are fit for the mesh, and what to change.

    Exits with 1 where a check failed, with 3 where no broker answers.

    Example:
      antiphon doctor
    """
    raise typer.Exit(asyncio.run(_examine()))


async def _examine() -> int:
    checks: list[Check] = []
    code = 0
    async for check in _checks():
        checks.append(check)
        if check.status is Status.FAILED:
            code = max(code, UNREACHABLE if check.name == "broker" else NO)
        if not given().json:
            _show(check)
    if given().json:
        output.document({"checks": [dataclasses.asdict(check) for check in checks]})
    return code


def _show(check: Check) -> None:
    mark = {Status.OK: "ok     ", Status.WARNING: "warning", Status.FAILED: "failed "}[check.status]
    output.result(f"{mark}  {check.name:<12}  {check.detail}")
    for line in check.remedy.splitlines():
        output.result(f"{'':<23}{line}")


async def _checks() -> AsyncIterator[Check]:
    yield _settings()
    started = time.monotonic()
    try:
        async with opened() as cluster:
            took = (time.monotonic() - started) * 1_000
            yield Check("broker", Status.OK, f"{cluster.settings.bootstrap_servers} answers in {took:.0f} ms")
            for check in await _protocol(cluster):
                yield check
            yield await _schemas(cluster)
            workers = await read_agents(cluster.bus, cluster.names, cluster.codec())
            yield _partitions(cluster, workers)
            yield _creation(cluster)
            async for check in _looked_closer(cluster, workers):
                yield check
            yield clock(workers, now_us=now_us())
            yield _agents(workers)
            yield canaries(workers, now_us=now_us())
            yield _compensation(workers)
    except BrokerUnreachableError as error:
        remedy = (
            "antiphon dev starts one on this machine; --bootstrap-servers or ANTIPHON_BOOTSTRAP_SERVERS names yours"
        )
        yield Check("broker", Status.FAILED, str(error), remedy)


def _settings() -> Check:
    entries = configured.explain(given().settings())
    said = [f"{entry.name} from {entry.origin}" for entry in entries if entry.origin != "default"]
    strange = configured.strangers()
    if strange:
        remedy = "\n".join(f"did you mean {meant}?" if meant else f"remove {name}" for name, meant in strange.items())
        return Check("settings", Status.WARNING, f"no settings of ours: {listed(strange)}", remedy)
    return Check("settings", Status.OK, listed(said) if said else "all defaults")


async def _protocol(cluster: Cluster) -> list[Check]:
    administration = Administration(dataclasses.replace(kafka_config(cluster.settings), group_protocol=None))
    try:
        protocol = await asyncio.to_thread(administration.protocol)
        apis = administration.apis
    finally:
        await asyncio.to_thread(administration.close)
    return [broker_version(apis, embedded=not cluster.bus.features.durable), _groups(protocol)]


def _groups(protocol: GroupProtocol) -> Check:
    if protocol is GroupProtocol.CONSUMER:
        return Check("groups", Status.OK, "group.protocol=consumer (KIP-848): a rebalance disturbs only what moves")
    return Check("groups", Status.OK, "group.protocol=classic: a rebalance pauses the whole group; Kafka 4 has better")


async def _looked_closer(cluster: Cluster, workers: Sequence[AgentSeen]) -> AsyncIterator[Check]:
    """Look at what the cluster says of the mesh's topics, and who may do what."""
    names = cluster.names
    wanted: dict[str, bool] = {}
    for seen in workers:
        wanted |= topics_of(seen, names)
    own = {names.topic(ACTIVITY): False, names.topic(AGENTS): True, names.topic(SCHEMAS): True}
    wanted |= {name: compact for name, compact in own.items() if workers or name in cluster.topics}
    try:
        admin = await asyncio.to_thread(ClusterAdministration, kafka_config(cluster.settings))
        try:
            facts = await asyncio.to_thread(admin.facts, wanted)
            brokers = await asyncio.to_thread(admin.brokers)
            acls = await asyncio.to_thread(_acls, admin, embedded=not cluster.bus.features.durable)
        finally:
            admin.close()
    except ClusterRefusedError as error:
        yield Check("cluster", Status.WARNING, str(error), "give the user of this command the right to describe topics")
        return
    yield plan(wanted, facts, may_create=cluster.settings.create_topics)
    needed_ms, why = await _longest(cluster)
    events = {name for name, compact in wanted.items() if not compact}
    yield retention(events, facts, needed_ms=needed_ms, why=why)
    yield replicas(facts, brokers=brokers)
    yield headroom(facts, largest=cluster.settings.claim_threshold + HEADROOM)
    yield acls


def _acls(admin: ClusterAdministration, *, embedded: bool) -> Check:
    try:
        return rights(None if embedded else admin.rights(), embedded=embedded)
    except ClusterRefusedError as error:
        return Check("rights", Status.OK, f"not known to this user: {error.reason}")


async def _longest(cluster: Cluster) -> tuple[float, str]:
    """Return for how long events have to be kept, and what for: until nothing of a workflow can be undone any more."""
    kept = await read_kept(cluster.bus, cluster.names, range(cluster.partitions))
    deadlines = [
        workflow.deadline_us - workflow.began_us
        for workflow in kept.values()
        if workflow.deadline_us is not None and workflow.began_us is not None
    ]
    linger_ms = cluster.settings.linger * 1_000
    if deadlines:
        return linger_ms + max(deadlines) / 1_000, "the longest deadline, and undoing after it,"
    return linger_ms, "undoing after a workflow's end (linger)"


async def _schemas(cluster: Cluster) -> Check:
    where = cluster.settings.registry
    try:
        types = await cluster.store.types()
    except (RegistryError, BusError) as error:
        return Check("schemas", Status.FAILED, str(error), "set --registry or ANTIPHON_REGISTRY, or leave it out")
    place = str(configured.masked("registry", where)) if where else f"topic {cluster.names.topic(SCHEMAS)}"
    return Check("schemas", Status.OK, f"{place} knows {len(types)} event types")


def _partitions(cluster: Cluster, workers: Iterable[AgentSeen]) -> Check:
    names = cluster.names
    wanted = {names.topic(name) for name in (ACTIVITY, AGENTS, SCHEMAS)}
    for seen in workers:
        wanted |= {*topics_of(seen, names)}
    wrong = [name for name in sorted(wanted) if cluster.topics.get(name, cluster.partitions) != cluster.partitions]
    if wrong:
        found = listed(f"{name} {cluster.topics[name]}" for name in wrong)
        remedy = "an agent's inputs must have as many, or they do not meet; see antiphon topics plan"
        return Check("partitions", Status.FAILED, f"expected {cluster.partitions} each, got {found}", remedy)
    have = sum(name in cluster.topics for name in wanted)
    return Check("partitions", Status.OK, f"{have} topics of the mesh, {cluster.partitions} partitions each")


def _creation(cluster: Cluster) -> Check:
    own = [cluster.names.topic(name) for name in (ACTIVITY, AGENTS, SCHEMAS)]
    lacking = [name for name in own if name not in cluster.topics]
    if not lacking:
        return Check("topics", Status.OK, "the mesh's own topics are there")
    if not cluster.settings.create_topics:
        return Check(
            "topics", Status.FAILED, f"{listed(lacking)} lack, and create_topics is off", "antiphon topics apply"
        )
    return Check("topics", Status.OK, f"{listed(lacking)} will be made by the first agent (or: antiphon topics apply)")


def _agents(workers: Iterable[AgentSeen]) -> Check:
    seen = [*workers]
    up = sorted({worker.agent for worker in seen if is_live(worker, now_us=now_us())})
    down = sorted({worker.agent for worker in seen} - {*up})
    if down:
        return Check(
            "agents", Status.WARNING, f"up: {listed(up) or 'none'}; not up: {listed(down)}", "antiphon run starts them"
        )
    return Check("agents", Status.OK, f"up: {listed(up)}" if up else "none was ever seen here")


def _compensation(workers: Iterable[AgentSeen]) -> Check:
    seen = [*workers]
    undoing = sorted({worker.agent for worker in seen if worker.undoes})
    if undoing and not any(worker.agent == COORDINATOR and is_live(worker, now_us=now_us()) for worker in seen):
        return Check(
            "compensation",
            Status.WARNING,
            f"{listed(undoing)} can undo, but nobody asks them to",
            "antiphon run compensation",
        )
    return Check("compensation", Status.OK, f"runs, for {listed(undoing)}" if undoing else "nothing to undo")
