"""The cluster that the settings name, opened for one command."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncGenerator

from antiphon.bus.claims import Claims
from antiphon.bus.connect import claim_check, connect, schema_store
from antiphon.bus.names import Names
from antiphon.bus.port import Bus
from antiphon.bus.settings import Settings, load
from antiphon.bus.topics import partitions_of_mesh
from antiphon.cli.options import given
from antiphon.schemas.codec import Codec
from antiphon.schemas.store import SchemaStore


@dataclasses.dataclass(frozen=True)
class Cluster:
    """A broker that answered, and what is needed to read and write events there."""

    settings: Settings
    bus: Bus
    store: SchemaStore
    topics: dict[str, int]
    """Every topic's number of partitions, as it was when the cluster was opened."""

    @property
    def names(self) -> Names:
        return Names(self.settings.namespace)

    @property
    def partitions(self) -> int:
        """How wide the topics of this mesh are."""
        return partitions_of_mesh(self.topics, self.names, self.settings.partitions)

    @property
    def claims(self) -> Claims:
        """What becomes of values too large for a record."""
        return claim_check(self.settings)

    def codec(self) -> Codec:
        return Codec(self.store)


@contextlib.asynccontextmanager
async def opened() -> AsyncGenerator[Cluster]:
    """Open the cluster; raises `BrokerUnreachableError` at once where nobody answers."""
    settings = load(given().settings())
    bus = connect(settings)
    try:
        topics = await bus.topics()
        names = Names(settings.namespace)
        yield Cluster(settings, bus, schema_store(settings, bus, names, settings.partitions), topics)
    finally:
        await bus.close()
