"""The kit for testing agents, and whatever else speaks to the mesh.

`antiphon.testing.conformance` needs pytest, so it is imported by its own name.
"""

from antiphon.testing.clock import FakeClock
from antiphon.testing.waiting import eventually

__all__ = ["FakeClock", "eventually"]
