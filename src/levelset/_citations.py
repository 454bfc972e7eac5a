"""What to cite for what was used."""

from levelset._tools.arguments import checked
from levelset.errors import ParameterError

__all__ = ["cite"]

_ENTRIES = {
    "levelset": """@software{levelset,
  title = {levelset: sample, steer and measure the level sets of neural networks},
  author = {{The levelset developers}},
  year = {2026},
}""",
    "atzmon2019": """@inproceedings{atzmon2019,
  title = {Controlling Neural Level Sets},
  author = {Atzmon, Matan and Haim, Niv and Yariv, Lior and Israelov, Ofer and Maron, Haggai
            and Lipman, Yaron},
  booktitle = {Advances in Neural Information Processing Systems 32},
  year = {2019},
}""",
    "benisrael1966": """@article{benisrael1966,
  title = {A Newton-Raphson Method for the Solution of Systems of Equations},
  author = {Ben-Israel, Adi},
  journal = {Journal of Mathematical Analysis and Applications},
  volume = {15},
  pages = {243--252},
  year = {1966},
}""",
    "oliveira2020": """@article{oliveira2020,
  title = {An Enhancement of the Bisection Method Average Performance Preserving Minmax
           Optimality},
  author = {Oliveira, I. F. D. and Takahashi, R. H. C.},
  journal = {ACM Transactions on Mathematical Software},
  volume = {47},
  number = {1},
  year = {2020},
}""",
    "moosavi2016": """@inproceedings{moosavi2016,
  title = {{DeepFool}: A Simple and Accurate Method to Fool Deep Neural Networks},
  author = {Moosavi-Dezfooli, Seyed-Mohsen and Fawzi, Alhussein and Frossard, Pascal},
  booktitle = {IEEE Conference on Computer Vision and Pattern Recognition},
  year = {2016},
}""",
    "rony2019": """@inproceedings{rony2019,
  title = {Decoupling Direction and Norm for Efficient Gradient-Based {L2} Adversarial Attacks
           and Defenses},
  author = {Rony, J{\\'e}r{\\^o}me and Hafemann, Luiz G. and Oliveira, Luiz S. and Ben Ayed, Ismail
            and Sabourin, Robert and Granger, Eric},
  booktitle = {IEEE Conference on Computer Vision and Pattern Recognition},
  year = {2019},
}""",
    "croce2020": """@inproceedings{croce2020,
  title = {Reliable Evaluation of Adversarial Robustness with an Ensemble of Diverse
           Parameter-Free Attacks},
  author = {Croce, Francesco and Hein, Matthias},
  booktitle = {International Conference on Machine Learning},
  year = {2020},
}""",
    "croce2020fab": """@inproceedings{croce2020fab,
  title = {Minimally Distorted Adversarial Examples with a Fast Adaptive Boundary Attack},
  author = {Croce, Francesco and Hein, Matthias},
  booktitle = {International Conference on Machine Learning},
  year = {2020},
}""",
    "madry2018": """@inproceedings{madry2018,
  title = {Towards Deep Learning Models Resistant to Adversarial Attacks},
  author = {Madry, Aleksander and Makelov, Aleksandar and Schmidt, Ludwig and Tsipras, Dimitris
            and Vladu, Adrian},
  booktitle = {International Conference on Learning Representations},
  year = {2018},
}""",
    "bell2023": """@phdthesis{bell2023,
  title = {Neighborhoods of Adversarial Examples},
  author = {Bell, Brian},
  year = {2023},
  note = {Draft},
}""",
    "cohen2019": """@inproceedings{cohen2019,
  title = {Certified Adversarial Robustness via Randomized Smoothing},
  author = {Cohen, Jeremy and Rosenfeld, Elan and Kolter, J. Zico},
  booktitle = {International Conference on Machine Learning},
  year = {2019},
}""",
    "alonso": """@techreport{alonso,
  title = {Geometrical Perspectives on the Robustness of Deep Neural Networks},
  author = {Alonso, Marius and Bonin, Paul},
  institution = {Mines Paris PSL},
  year = {n.d.},
}""",
    "goldman2005": """@article{goldman2005,
  title = {Curvature Formulas for Implicit Curves and Surfaces},
  author = {Goldman, Ron},
  journal = {Computer Aided Geometric Design},
  volume = {22},
  pages = {632--658},
  year = {2005},
}""",
    "fawzi2018": """@inproceedings{fawzi2018,
  title = {Empirical Study of the Topology and Geometry of Deep Networks},
  author = {Fawzi, Alhussein and Moosavi-Dezfooli, Seyed-Mohsen and Frossard, Pascal
            and Soatto, Stefano},
  booktitle = {IEEE Conference on Computer Vision and Pattern Recognition},
  year = {2018},
}""",
    "moosavi2019": """@inproceedings{moosavi2019,
  title = {Robustness via Curvature Regularization, and Vice Versa},
  author = {Moosavi-Dezfooli, Seyed-Mohsen and Fawzi, Alhussein and Uesato, Jonathan
            and Frossard, Pascal},
  booktitle = {IEEE Conference on Computer Vision and Pattern Recognition},
  year = {2019},
}""",
}

_USED = {
    "project": ("atzmon2019", "benisrael1966"),
    "attach": ("atzmon2019",),
    "intersect": ("atzmon2019", "oliveira2020"),
    "direct_boundary": ("atzmon2019", "croce2020fab"),
    "distance": ("atzmon2019", "croce2020fab"),
    "audit": ("atzmon2019", "croce2020fab"),
    "pgd": ("madry2018", "croce2020"),
    "fab": ("croce2020fab",),
    "deepfool": ("moosavi2016",),
    "ddn": ("rony2019",),
    "stability": ("bell2023",),
    "persistence": ("bell2023", "cohen2019"),
    "curvature": ("alonso", "goldman2005", "fawzi2018"),
    "normal_curvature": ("alonso",),
    "class_curvatures": ("alonso",),
    "loss_curvature": ("alonso", "moosavi2019"),
    "detect": ("alonso",),
}


@checked
def cite(*names: str) -> str:
    """Return the BibTeX of this library and of the works behind the functions named.

    Args:
        names: Names of public functions, such as `project`; none for the library alone.

    Returns:
        Entries for a `.bib` file, each once.

    Raises:
        ParameterError: If a name is not known.

    Example:
        >>> from levelset import cite
        >>> cite("attach").count("@")
        2
    """
    unknown = [name for name in names if name not in _USED]
    if unknown:
        message = f"cite: `names` must be among {', '.join(sorted(_USED))}, got {unknown[0]!r}."
        raise ParameterError(message)
    keys = dict.fromkeys(["levelset", *(key for name in names for key in _USED[name])])
    return "\n\n".join(_ENTRIES[key] for key in keys) + "\n"
