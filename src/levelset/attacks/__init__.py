"""Ways to the decision boundary, one file a method, named as in the literature."""

from levelset.attacks._alma import alma
from levelset.attacks._carlini_wagner import carlini_wagner
from levelset.attacks._ddn import ddn
from levelset.attacks._deepfool import deepfool
from levelset.attacks._direct_boundary import direct_boundary
from levelset.attacks._fab import fab
from levelset.attacks._fgsm import fgsm, r_fgsm
from levelset.attacks._fmn import fmn
from levelset.attacks._igsm import igsm, mi_fgsm
from levelset.attacks._jsma import jsma
from levelset.attacks._lbfgs import lbfgs
from levelset.attacks._pgd import pgd
from levelset.attacks._random_direction import RandomDirections, random_direction
from levelset.attacks._search._attack import Attack, distortion
from levelset.attacks._square import square
from levelset.attacks._transfer import Transfer, transfer
from levelset.attacks._universal import Universal, universal

__all__ = [
    "Attack",
    "RandomDirections",
    "Transfer",
    "Universal",
    "alma",
    "carlini_wagner",
    "ddn",
    "deepfool",
    "direct_boundary",
    "distortion",
    "fab",
    "fgsm",
    "fmn",
    "igsm",
    "jsma",
    "lbfgs",
    "mi_fgsm",
    "pgd",
    "r_fgsm",
    "random_direction",
    "square",
    "transfer",
    "universal",
]
