"""One run of the demo: start the agents, put the packages through, and see what came of it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from antiphon.bus.mesh import Mesh
from antiphon.cli.cluster import Cluster
from antiphon.cli.demo import example
from antiphon.cli.demo.board import Board, Package, Stage, Summary, summarise
from antiphon.cli.demo.crew import Crew, NotReadyError, StalledError
from antiphon.cli.demo.following import Follower
from antiphon.cli.demo.screen import Screen
from antiphon.cli.demo.submissions import Distribution
from antiphon.cli.output import counted
from antiphon.schemas.envelope import now_us
from antiphon.schemas.ids import root_id
from antiphon.tracing.reading import read_workflow
from antiphon.tracing.records import read_agents

_READY_S = 60.0
_QUIET_S = 30.0
_AFTERWARDS_S = 10.0
_LOOK_S = 0.05
_LOOK_FOR_AGENTS_S = 0.25

# Who should have moved a package that stands still.
_RESPONSIBLE = {
    Stage.SUBMITTED: "reader",
    Stage.READ: "licence",
    Stage.IDENTIFIED: "policy",
    Stage.REFUSED: "compensation",
}


@dataclasses.dataclass(frozen=True)
class Taken:
    """What came of a run."""

    packages: Sequence[Package]
    summary: Summary
    workflow: dict[str, Any] | None
    """The document of one workflow, of a refused package where there is one."""


class Intake:
    """One run, on a cluster that answers."""

    def __init__(self, cluster: Cluster, crew: Crew, screen: Screen, catalogue: Path) -> None:
        self._cluster = cluster
        self._crew = crew
        self._screen = screen
        self._catalogue = catalogue

    async def run(self, distributions: Sequence[Distribution], rate: float | None) -> Taken:
        """Take in *distributions*; raises `CrewError` where a process ends, does not start, or does nothing."""
        board = Board(len(distributions))
        with self._screen:
            self._screen.say(f"starting {len(example.PROCESSES)} agents, a process each ...")
            for name, target in example.PROCESSES.items():
                self._crew.start(name, target)
            await self._crew.during(self._ready())
            self._screen.say(f"submitting {counted(len(distributions), 'package')} ...")
            await self._crew.during(self._through(distributions, rate, board))
            rows = await self._crew.during(self._rows(board))
            workflow = await self._crew.during(self._workflow(board))
        packages = sorted(board.packages.values(), key=lambda package: package.name.lower())
        return Taken(packages, summarise(board, rows), workflow)

    async def _ready(self) -> None:
        """Return when every agent has said that it is up."""
        cluster = self._cluster
        codec = cluster.codec()
        missing = {*self._crew.names}
        try:
            async with asyncio.timeout(_READY_S):
                while missing:
                    # First they have to start, and each look takes time from that.
                    await asyncio.sleep(_LOOK_FOR_AGENTS_S)
                    missing -= {seen.agent for seen in await read_agents(cluster.bus, cluster.names, codec)}
        except TimeoutError:
            raise NotReadyError(missing, _READY_S, self._crew.log(min(missing))) from None

    async def _through(self, distributions: Sequence[Distribution], rate: float | None, board: Board) -> None:
        """Publish the packages and follow them until the last has come to its end."""
        follower = await Follower.at_the_end(self._cluster, board)
        publishing = asyncio.ensure_future(self._publish(distributions, rate, board))
        following = asyncio.ensure_future(self._follow(follower, board, _QUIET_S + (1 / rate if rate else 0)))
        try:
            await asyncio.gather(publishing, following)
        finally:
            publishing.cancel()
            following.cancel()
            await asyncio.gather(publishing, following, return_exceptions=True)

    async def _publish(self, distributions: Sequence[Distribution], rate: float | None, board: Board) -> None:
        submitted = example.submission()
        cluster = self._cluster
        async with Mesh(cluster.bus, settings=cluster.settings, store=cluster.store, source="/cli/demo") as mesh:
            for one in distributions:
                # The id is ours to choose, so that the board knows the package before anybody answers.
                id = root_id()
                board.submit(id, one.name, one.version, now_us())
                await mesh.publish(submitted(name=one.name, version=one.version, path=str(one.path)), id=id)
                if rate is not None:
                    await asyncio.sleep(1 / rate)

    async def _follow(self, follower: Follower, board: Board, quiet_s: float) -> None:
        async with contextlib.aclosing(follower.changes()) as changes:
            while not board.settled:
                try:
                    changed = await asyncio.wait_for(anext(changes), quiet_s)
                except TimeoutError:
                    raise self._stalled(board, quiet_s) from None
                self._screen.show(board, changed)

    def _stalled(self, board: Board, quiet_s: float) -> StalledError:
        waiting: dict[str, list[str]] = {}
        for package in board.unsettled():
            waiting.setdefault(str(package.stage), []).append(package.name)
        stage = next(package.stage for package in board.unsettled())
        return StalledError(waiting, quiet_s, self._crew.log(_RESPONSIBLE[stage]))

    async def _rows(self, board: Board) -> list[tuple[str, str]]:
        """Return the catalogue's rows, once it has heard of the last approval or has had its time."""
        approved = {one.correlation_id for one in board.packages.values() if one.stage is Stage.APPROVED}
        rows: list[tuple[str, str]] = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_AFTERWARDS_S):
                while not approved <= {workflow for workflow, state in rows if state == "approved"}:
                    await asyncio.sleep(_LOOK_S)
                    with contextlib.suppress(sqlite3.OperationalError):  # busy; look again
                        rows = example.catalogue_rows(self._catalogue)
        return rows or example.catalogue_rows(self._catalogue)

    async def _workflow(self, board: Board) -> dict[str, Any] | None:
        """Return the document of the workflow that shows most, once it has ended or has had its time."""
        order = [Stage.REFUSED, Stage.FAILED, Stage.REVIEW, Stage.APPROVED, Stage.UNREADABLE]
        packages = sorted(board.packages.values(), key=lambda package: order.index(package.stage))
        document: dict[str, Any] | None = None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_AFTERWARDS_S):
                while packages and (document is None or document["outstanding"]):
                    workflow = await self._read(packages[0].correlation_id)
                    document = document if workflow is None else workflow
                    await asyncio.sleep(_LOOK_S)
        return document

    async def _read(self, correlation_id: str) -> dict[str, Any] | None:
        cluster = self._cluster
        workflow = await read_workflow(
            cluster.bus, cluster.names, cluster.codec(), correlation_id, claims=cluster.claims
        )
        return None if workflow is None else workflow.document()
