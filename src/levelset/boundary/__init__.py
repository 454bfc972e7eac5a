"""Measurements of the decision boundary: plain functions that leave the model as they found it."""

from levelset.boundary._distance import Distance, Effort, distance

__all__ = ["Distance", "Effort", "distance"]
