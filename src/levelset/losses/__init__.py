"""Losses that shape decision boundaries: each returns a scalar, the mean over the inputs."""

from levelset.losses._curvature import curvature

__all__ = ["curvature"]
