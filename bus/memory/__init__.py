"""The mesh in one process: a broker made of dictionaries, and a simulation of one when given a seed."""

from antiphon.bus.memory.bus import MemoryBus
from antiphon.bus.memory.member import Faults, MemoryMember, Point

__all__ = ["Faults", "MemoryBus", "MemoryMember", "Point"]
