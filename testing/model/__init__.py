"""A mesh that is played as a model of the log: any position can be gone back to, and none need be gone on from twice."""

from antiphon.testing.model.choosing import Choice, Mishap
from antiphon.testing.model.crew import NotModelledError
from antiphon.testing.model.position import WORKFLOW, Position
from antiphon.testing.model.world import Model

__all__ = ["WORKFLOW", "Choice", "Mishap", "Model", "NotModelledError", "Position"]
