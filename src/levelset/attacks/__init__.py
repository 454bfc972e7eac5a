"""Ways to the decision boundary, one file a method, named as in the literature."""

from levelset.attacks._attack import Attack
from levelset.attacks._direct_boundary import direct_boundary
from levelset.attacks._distortion import distortion
from levelset.attacks._fab import fab
from levelset.attacks._fgsm import fgsm, r_fgsm
from levelset.attacks._igsm import igsm, mi_fgsm
from levelset.attacks._pgd import pgd
from levelset.attacks._random_direction import RandomDirections, random_direction
from levelset.attacks._square import square
from levelset.attacks._transfer import Transfer, transfer
from levelset.attacks._universal import Universal, universal

__all__ = [
    "Attack",
    "RandomDirections",
    "Transfer",
    "Universal",
    "direct_boundary",
    "distortion",
    "fab",
    "fgsm",
    "igsm",
    "mi_fgsm",
    "pgd",
    "r_fgsm",
    "random_direction",
    "square",
    "transfer",
    "universal",
]
