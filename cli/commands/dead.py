"""`antiphon dead`: what agents set aside, and handing it to them again."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import shlex
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from antiphon.bus.errors import BudgetSpentError, HopLimitError
from antiphon.bus.partition import partition_for
from antiphon.bus.record import Outgoing
from antiphon.bus.redrive import AS_IT_SAYS, Act, Allowance
from antiphon.cli import output
from antiphon.cli.actor import actor
from antiphon.cli.cluster import Cluster, opened
from antiphon.cli.errors import AnswerIsNoError, UsageError, did_you_mean
from antiphon.cli.group import Command, Group
from antiphon.cli.money import amount
from antiphon.cli.option_sets import taking
from antiphon.cli.options import given
from antiphon.cli.when import moment_ms, span
from antiphon.compensation.reading import read_kept
from antiphon.compensation.workflow import Phase
from antiphon.replay.editing import editable, edited
from antiphon.replay.letter import PARKED_AFTER, Letter
from antiphon.replay.letters import Selection, Settling, agents_with_letters, chosen, read_letters, settling
from antiphon.schemas.codec import Codec
from antiphon.schemas.condition import Condition
from antiphon.schemas.envelope import format_time, now_us
from antiphon.tracing.chain import Link, chain_to, in_words
from antiphon.tracing.reading import read_workflow
from antiphon.tracing.records import event_in

app = typer.Typer(
    cls=Group,
    add_completion=False,
    rich_markup_mode=None,
    help="""Show what agents set aside, hand it to them again, or discard it.

    Example:
      antiphon dead list
    """,
)

Ids = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[ID]...",
        help="Ids of events or workflows, or beginnings of them, or places (topic[partition]@offset).",
    ),
]
Agents = Annotated[list[str] | None, typer.Option("--agent", help="Of this agent.", metavar="NAME")]
Types = Annotated[list[str] | None, typer.Option("--type", help="Of this event type.", metavar="TYPE")]
Reasons = Annotated[
    list[str] | None,
    typer.Option(
        "--reason", help="Set aside for this: permanent, exhausted, undecodable, hops, budget.", metavar="WORD"
    ),
]
Since = Annotated[str | None, typer.Option(help="Set aside since: 10m, 2h, or an ISO 8601 time.", metavar="TIME")]
Where = Annotated[
    list[str] | None, typer.Option(help="Whose data fits, as in amount>100; several must all.", metavar="CONDITION")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do it also where this command would rather be asked twice.")]

_REASONS = ("permanent", "exhausted", "undecodable", HopLimitError.reason, BudgetSpentError.reason)
_BATCH = 500
_PROGRESS_EVERY_S = 2.0
_SHOWN = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class Filter:
    """Which letters are meant, as it was typed."""

    ids: Sequence[str] = ()
    agents: Sequence[str] = ()
    selection: Selection = dataclasses.field(default_factory=Selection)

    def of(self, ids: Sequence[str] | None) -> Filter:
        """Return it with only those of *ids* meant, where there are any."""
        return dataclasses.replace(self, ids=ids or ())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Order:
    """What is to be done with them."""

    act: Act
    dry_run: bool
    yes: bool
    edit: bool = False
    rate: float | None = None
    limit: int = PARKED_AFTER
    allowance: Allowance = AS_IT_SAYS

    def stops(self, letter: Letter) -> bool:
        """Say whether *letter* would be set aside again at once, unless its agent's limits have changed."""
        stopped_by = {HopLimitError.reason: self.allowance.hops, BudgetSpentError.reason: self.allowance.budget}
        return letter.reason in stopped_by and stopped_by[letter.reason] is None


def selected(
    *, agent: Agents = None, type: Types = None, reason: Reasons = None, since: Since = None, where: Where = None
) -> Filter:
    """Say which letters are meant."""
    for word in reason or ():
        if word not in _REASONS:
            raise UsageError(f"no reason {word!r}", did_you_mean(word, _REASONS, what="reasons"))
    return Filter(
        agents=agent or (),
        selection=Selection(
            types=frozenset(type or ()),
            reasons=frozenset(reason or ()),
            since_us=None if since is None else moment_ms(since, option="--since") * 1_000,
            where=tuple(Condition.parse(text) for text in where or ()),
        ),
    )


@app.command("list", cls=Command)
@taking(selected)
def list_(filter: Filter) -> None:
    """List the events that agents set aside and nobody has decided about since.

    Example:
      antiphon dead list --agent triage --since 1h
    """
    asyncio.run(_list(filter))


@app.command(cls=Command)
def show(
    id: Annotated[
        str, typer.Argument(metavar="ID", help="An event's or workflow's id, the beginning of one, or a place.")
    ],
) -> None:
    """Show one of them whole: its data, why it was set aside, and where it stood.

    Example:
      antiphon dead show 0199f2d7
    """
    asyncio.run(_show(Filter(ids=[id])))


@app.command(cls=Command)
@taking(selected)
def redrive(
    filter: Filter,
    ids: Ids = None,
    *,
    dry_run: DryRun = False,
    edit: Annotated[bool, typer.Option("--edit", help="Open each event's data in $EDITOR first.")] = False,
    rate: Annotated[float | None, typer.Option(min=0.001, help="Events a second, at most.", metavar="N")] = None,
    limit: Annotated[
        int, typer.Option(min=1, help="Leave those that were redriven so often already.", metavar="N")
    ] = PARKED_AFTER,
    hops: Annotated[
        int | None, typer.Option(min=0, help="Have them say that so many agents led to them; 0: none.", metavar="N")
    ] = None,
    budget: Annotated[
        str | None, typer.Option(help="Have them say that so much may be spent: '1.50 USD'.", metavar="AMOUNT")
    ] = None,
    yes: Yes = False,
) -> None:
    """Hand events to the agent that set them aside, and to nobody else: once each, in the order of their keys.

    Ids stay as they are, so the trace goes on. Interrupted or killed, the same
    command goes on where it was.

    Example:
      antiphon dead redrive --agent triage --dry-run
      antiphon dead redrive --agent triage --where ticket_id=7 --edit
      antiphon dead redrive --agent triage --reason budget --budget '2 USD'
    """
    allowance = Allowance(hops=hops, budget=None if budget is None else amount(budget))
    order = Order(act=Act.REDRIVEN, dry_run=dry_run, yes=yes, edit=edit, rate=rate, limit=limit, allowance=allowance)
    asyncio.run(_settle(filter.of(ids), order))


@app.command(cls=Command)
@taking(selected)
def discard(filter: Filter, ids: Ids = None, *, dry_run: DryRun = False, yes: Yes = False) -> None:
    """Decide that events will not be handled. They leave the list; their topic holds them as long as it holds anything.

    Example:
      antiphon dead discard --agent triage --type ticket.opened --yes
    """
    asyncio.run(_settle(filter.of(ids), Order(act=Act.DISCARDED, dry_run=dry_run, yes=yes)))


# Which ones.


async def _meant(cluster: Cluster, filter: Filter, codec: Codec) -> list[Letter]:
    known = agents_with_letters(cluster.topics, cluster.names)
    for agent in filter.agents:
        if agent not in known:
            raise UsageError(
                f"no agent {agent!r} on {cluster.settings.bootstrap_servers}",
                did_you_mean(agent, known, what="agents"),
            )
    letters = await read_letters(cluster.bus, cluster.names, filter.agents or known)
    letters = await chosen(letters, filter.selection, cluster.names, codec, claims=cluster.claims)
    if not filter.ids:
        return letters
    places = {letter.place for id in filter.ids for letter in _named(id, letters)}
    return [letter for letter in letters if letter.place in places]


def _named(id: str, letters: Sequence[Letter]) -> list[Letter]:
    """Return the letters of the one event that *id* names; several agents may have set it aside. Or those of one workflow."""
    found = [letter for letter in letters if letter.place == id or (letter.event_id or "").startswith(id)]
    of_workflow = [letter for letter in letters if (letter.correlation_id or "").startswith(id)]
    if not found and len({letter.correlation_id for letter in of_workflow}) == 1:
        return of_workflow
    if not found:
        raise AnswerIsNoError(
            f"no dead letter {id!r}", "antiphon dead list shows those that nobody has decided about yet"
        )
    if len({letter.event_id or letter.place for letter in found}) > 1:
        listed = [f"  {output.inert(letter.event_id or letter.place)}" for letter in found[:_SHOWN]]
        raise UsageError(f"expected an id that only one event has, got {id!r}", "it is the beginning of", *listed)
    return found


async def _list(filter: Filter) -> None:
    async with opened() as cluster:
        letters = await _meant(cluster, filter, cluster.codec())
    if given().json:
        output.document([letter.document() for letter in letters])
        return
    if not letters:
        output.result("no dead letters")
        return
    letters.sort(key=lambda letter: (letter.agent, letter.time_us))
    for line in output.columns([_HEADS, *(_row(letter) for letter in letters)]):
        output.result(line.rstrip())
    output.remark("next: antiphon dead show ID, or antiphon dead redrive --dry-run")


def _row(letter: Letter) -> list[str]:
    ago = span((now_us() - letter.time_us) / 1_000)
    again = f", redriven {letter.redriven}x" + (", parked" if letter.is_parked() else "") if letter.redriven else ""
    why = f"{letter.error}: {letter.message}".splitlines()[0]
    cells = [
        letter.agent,
        letter.event_id or letter.place,
        letter.type or "no event",
        f"{ago} ago",
        letter.reason + again,
    ]
    return [output.inert(cell) for cell in [*cells, why[:_WHY]]]


_HEADS = ("agent", "event", "type", "set aside", "because", "error")
_WHY = 100


async def _show(filter: Filter) -> None:
    async with opened() as cluster:
        codec = cluster.codec()
        letters = await _meant(cluster, filter, codec)
        documents = [await _whole(letter, cluster, codec) for letter in letters]
    if given().json:
        output.document(documents[0] if len(documents) == 1 else documents)
        return
    for one in documents:
        output.result(
            output.inert(f"{one['event_id'] or 'no event'}  {one['type'] or ''}  set aside by {one['agent']}")
        )
        output.result(f"  {one['reason']} after {output.counted(one['attempts'], 'attempt')}, at {one['time']}")
        output.result(output.inert(f"  workflow: {one['correlation_id']}"))
        output.result(output.inert(f"  stood at: {one['origin']}"))
        if one["chain"]:
            output.result(output.inert(f"  came by:  {in_words([Link(**link) for link in one['chain']])}"))
        if one["redriven"]:
            output.result(
                f"  redriven:  {output.counted(one['redriven'], 'time')}{', parked' if one['parked'] else ''}"
            )
        output.result(
            f"  data:     {output.compact(one['data']) if one['problem'] is None else output.inert(one['problem'])}"
        )
        for line in str(one["error"]["traceback"]).splitlines():
            output.result(output.inert(f"  {line}"))


async def _whole(letter: Letter, cluster: Cluster, codec: Codec) -> dict[str, Any]:
    event = await event_in(letter.record, cluster.names, codec, cluster.claims)
    found = letter.document()
    topic, partition, offset = letter.origin
    found["error"]["traceback"] = letter.traceback
    found["origin"] = f"{topic}[{partition}]@{offset}"
    found["time"] = format_time(letter.time_us)
    found["left_out"] = [*letter.left_out]
    found["chain"] = [dataclasses.asdict(link) for link in await _chain(letter, cluster, codec)]
    found["data"] = None if event is None else event.data
    found["problem"] = "it has no headers of an event" if event is None else event.problem
    return found


async def _chain(letter: Letter, cluster: Cluster, codec: Codec) -> list[Link]:
    """Return who said what on the way to the letter's event, as far as its workflow's records still tell."""
    if letter.correlation_id is None or letter.event_id is None:
        return []
    workflow = await read_workflow(cluster.bus, cluster.names, codec, letter.correlation_id, claims=cluster.claims)
    return [] if workflow is None else chain_to(letter.event_id, workflow.document())


# Deciding.


async def _settle(filter: Filter, order: Order) -> None:
    async with opened() as cluster:
        codec = cluster.codec()
        meant = await _meant(cluster, filter, codec)
        parked = [letter for letter in meant if order.act is Act.REDRIVEN and letter.is_parked(order.limit)]
        left = {letter.place for letter in parked}
        wanted = [letter for letter in meant if letter.place not in left]
        undone = await _undone(cluster, wanted) if order.act is Act.REDRIVEN else {}
        _check(wanted, order, undone, cluster)
        tally = _Tally(order, wanted, parked)
        if not order.dry_run:
            try:
                await _settle_all(cluster, codec, wanted, order, tally)
            except BaseException:
                output.remark(
                    f"stopped: {tally.done} of {len(wanted)} {order.act}; the same command goes on from there"
                )
                raise
        tally.show(undone)


def _check(wanted: Sequence[Letter], order: Order, undone: Mapping[str, Phase], cluster: Cluster) -> None:
    lacking = sorted({letter.agent for letter in wanted if cluster.names.redrive(letter.agent) not in cluster.topics})
    if lacking and order.act is Act.REDRIVEN:
        raise AnswerIsNoError(
            f"expected a topic {cluster.names.redrive(lacking[0])!r}, on which {lacking[0]} hears what is redriven; got none",
            f"start {lacking[0]} anew, or make it: antiphon topics apply",
        )
    if order.dry_run or order.yes or not wanted:
        return
    if order.act is Act.DISCARDED:
        raise AnswerIsNoError(
            f"{len(wanted)} events would never be handled, and nothing is discarded yet",
            "--dry-run lists them, --yes discards them",
        )
    if undone:
        listed = [f"  {output.inert(id)}  {phase.value}" for id, phase in [*undone.items()][:_SHOWN]]
        raise AnswerIsNoError(
            f"{len(undone)} of their workflows failed and are undone, or wait for a person; nothing is redriven yet",
            *listed,
            "what their agents do now comes late, and what can be undone of it is undone as well",
            "--yes redrives them all the same; antiphon saga show ID says how one stands",
        )


async def _undone(cluster: Cluster, letters: Sequence[Letter]) -> dict[str, Phase]:
    """Return the letters' workflows that the coordinator undoes, has undone, or has parked."""
    ids = {letter.correlation_id for letter in letters if letter.correlation_id is not None}
    if not ids:
        return {}
    partitions = {partition_for(id.encode(), cluster.partitions) for id in ids}
    workflows = await read_kept(cluster.bus, cluster.names, partitions)
    return {
        id: workflows[id].phase
        for id in sorted(ids & workflows.keys())
        if workflows[id].phase in (Phase.PARKED, Phase.COMPENSATING, Phase.COMPENSATED)
    }


async def _settle_all(cluster: Cluster, codec: Codec, wanted: Sequence[Letter], order: Order, tally: _Tally) -> None:
    for agent in sorted({letter.agent for letter in wanted}):
        async with settling(cluster.bus, cluster.names, agent) as settle:
            # Somebody may have decided about some since they were listed.
            still = [letter for letter in wanted if letter.agent == agent and letter.place in settle.letters]
            for first in range(0, len(still), tally.batch):
                batch = still[first : first + tally.batch]
                if order.act is Act.REDRIVEN:
                    changed = await _edit(batch, settle, cluster, codec) if order.edit else {}
                    await settle.redrive(batch, actor=actor(), edited=changed, allowance=order.allowance)
                else:
                    await settle.discard(batch, actor=actor())
                await tally.settled(batch)


async def _edit(batch: Sequence[Letter], settle: Settling, cluster: Cluster, codec: Codec) -> dict[str, Outgoing]:
    """Open the data of each letter in an editor; one that was left as it is goes as it is."""
    changed: dict[str, Outgoing] = {}
    for letter in batch:
        found = await editable(await settle.whole(letter), codec, cluster.claims)
        text = _in_editor(found.text, letter)
        if text != found.text:
            changed[letter.place] = await edited(found, text, cluster.names, codec, cluster.claims)
    return changed


def _in_editor(text: str, letter: Letter) -> str:
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    if not editor:
        raise UsageError(
            "expected an editor in $EDITOR for --edit, got none", "try: EDITOR=nano antiphon dead redrive ..."
        )
    with tempfile.TemporaryDirectory(prefix="antiphon-") as folder:
        path = Path(folder) / f"{letter.event_id or 'event'}.json".replace("/", "_")
        path.write_text(text, encoding="utf-8")
        try:
            ended = subprocess.run([*shlex.split(editor), str(path)], check=False)  # noqa: S603 - the user's own editor
        except OSError as error:
            raise UsageError(f"expected an editor in $EDITOR, got {editor!r}: {error.strerror}") from None
        if ended.returncode != 0:
            raise AnswerIsNoError(
                f"expected the editor to end well, got exit code {ended.returncode}", f"the letter {letter.place} stays"
            )
        return path.read_text(encoding="utf-8")


class _Tally:
    """How far it has come: for the eye while it goes on, and for the answer."""

    def __init__(self, order: Order, wanted: Sequence[Letter], parked: Sequence[Letter]) -> None:
        self.done = 0
        self._order, self._wanted, self._parked = order, wanted, parked
        self._settled: list[Letter] = []
        self._started = self._remarked = time.monotonic()
        rate = order.rate
        # One at a time where somebody edits: what is through is through, however the next one goes.
        self.batch = 1 if order.edit else _BATCH if rate is None else max(1, min(_BATCH, int(rate / 10)))

    async def settled(self, batch: Sequence[Letter]) -> None:
        self._settled += batch
        self.done += len(batch)
        now = time.monotonic()
        if now - self._remarked >= _PROGRESS_EVERY_S:
            self._remarked = now
            output.remark(
                f"{self.done} of {len(self._wanted)} {self._order.act}, {self.done / (now - self._started):.0f}/s"
            )
        if self._order.rate is not None:
            await asyncio.sleep(max(0.0, self._started + self.done / self._order.rate - time.monotonic()))

    def show(self, undone: Mapping[str, Phase]) -> None:
        letters = self._wanted if self._order.dry_run else self._settled
        expired = sum(letter.deadline_us is not None and letter.deadline_us <= now_us() for letter in letters)
        if given().json:
            output.document(
                {
                    "act": self._order.act.value,
                    "dry_run": self._order.dry_run,
                    "letters": [letter.document() for letter in letters],
                    "parked": [letter.document() for letter in self._parked],
                    "undone": {id: phase.value for id, phase in undone.items()},
                    "past_deadline": expired,
                }
            )
            return
        would = "would be " if self._order.dry_run else ""
        for agent, count in sorted(Counter(letter.agent for letter in letters).items()):
            output.result(f"{count} {would}{self._order.act}  {output.inert(agent)}")
        if not letters:
            output.result(f"nothing {would}{self._order.act}")
        if self._parked:
            most = max(letter.redriven for letter in self._parked)
            output.remark(
                f"{len(self._parked)} left: redriven {self._order.limit} times or more; --limit {most + 1} takes them too"
            )
        if expired and self._order.act is Act.REDRIVEN:
            output.remark(f"{expired} are past their deadline, and are not started but set aside as expired")
        stopped = sum(self._order.stops(letter) for letter in letters)
        if stopped and self._order.act is Act.REDRIVEN:
            output.remark(
                f"{stopped} are over their limit of hops or money, and are set aside again as long as it is the same; "
                "--hops 0 and --budget AMOUNT give them more"
            )
        if undone and self._order.dry_run:
            output.remark(f"{len(undone)} of their workflows are undone or parked: it takes --yes")
