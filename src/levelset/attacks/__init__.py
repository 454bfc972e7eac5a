"""Ways to the decision boundary, one file a method, named as in the literature."""

from levelset.attacks._attack import Attack
from levelset.attacks._bounded._fgsm import fgsm, r_fgsm
from levelset.attacks._bounded._igsm import igsm, mi_fgsm
from levelset.attacks._bounded._pgd import pgd
from levelset.attacks._bounded._square import square
from levelset.attacks._distortion import distortion
from levelset.attacks._jsma import jsma
from levelset.attacks._least_norm._alma import alma
from levelset.attacks._least_norm._carlini_wagner import carlini_wagner
from levelset.attacks._least_norm._ddn import ddn
from levelset.attacks._least_norm._deepfool import deepfool
from levelset.attacks._least_norm._direct_boundary import direct_boundary
from levelset.attacks._least_norm._fab import fab
from levelset.attacks._least_norm._fmn import fmn
from levelset.attacks._least_norm._lbfgs import lbfgs
from levelset.attacks._random_direction import RandomDirections, random_direction
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
