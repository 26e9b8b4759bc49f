"""Worlds for the tests of the engine."""

from __future__ import annotations

import pytest

from tests.bus.placing import World


@pytest.fixture
def world() -> World:
    """A cluster of four partitions."""
    return World(4)


@pytest.fixture
def narrow() -> World:
    """A cluster of one partition."""
    return World(1)
