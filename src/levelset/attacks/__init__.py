"""Ways to the decision boundary, one file a method, named as in the literature."""

from levelset.attacks._attack import Attack
from levelset.attacks._direct_boundary import direct_boundary

__all__ = ["Attack", "direct_boundary"]
