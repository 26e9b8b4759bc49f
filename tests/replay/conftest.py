"""The mesh that most of these tests handle again."""

from __future__ import annotations

import pytest

from antiphon.testing.mesh import MemoryMesh
from tests.replay.claims import three_claims


@pytest.fixture
async def mesh() -> MemoryMesh:
    """Have three claims handled, in memory."""
    return await three_claims(MemoryMesh(partitions=2))
