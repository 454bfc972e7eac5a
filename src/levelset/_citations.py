"""What to cite for what was used."""

import inspect
import re
from importlib import import_module

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

# How docstrings name a work that they do not give the title of.
_SHORT = {"Alonso & Bonin": "alonso", "Atzmon et al. 2019": "atzmon2019", "Bell 2023": "bell2023"}
# Authors, title, and what follows it up to the year.
_REFERENCE = re.compile(r'^(?:[^"]*\bafter )?([^"]*?), "([^"]+)", ([^";]*?(?:report|\d{4}\b\)?))')
_PACKAGES = ("", ".boundary", ".attacks", ".losses", ".reconstruction", ".shapes", ".networks")


@checked
def cite(*names: str) -> str:
    """Return the BibTeX of this library and of the works behind the functions named.

    The works are those that the docstrings name under References.

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
    entries = {"levelset": _ENTRIES["levelset"]}
    for name in names:
        works = next((w for package in _PACKAGES if (w := _works(package, name))), None)
        if works is None:
            known = sorted(n for p in _PACKAGES for n in _public(p) if _works(p, n))
            message = f"cite: `names` must be among {', '.join(known)}, got {name!r}."
            raise ParameterError(message)
        entries |= works
    return "\n\n".join(entries.values()) + "\n"


def _public(package: str) -> list[str]:
    return import_module(f"levelset{package}").__all__


def _works(package: str, name: str) -> dict[str, str]:
    """Return the entries, by key, of the works that the docstring of a public name refers to."""
    if name not in _public(package):
        return {}
    text = inspect.getdoc(getattr(import_module(f"levelset{package}"), name)) or ""
    references = " ".join(text.partition("\nReferences:\n")[2].split())
    works: dict[str, str] = {}
    for reference in f" {references}".split(" - ")[1:]:
        works |= {key: _ENTRIES[key] for short, key in _SHORT.items() if short in reference}
        if match := _REFERENCE.search(reference):
            works |= _entry(*match.groups())
    return works


def _entry(authors: str, title: str, venue: str) -> dict[str, str]:
    """Return the entry of a work by its key: the one written above, or what a docstring says."""
    for key, entry in _ENTRIES.items():
        if _letters(title) in _letters(entry):
            return {key: entry}
    year = venue.removesuffix(")")[-4:]
    first = authors.partition(",")[0].removesuffix(" et al.").split()[-1]
    key = re.sub(r"\W", "", first).lower() + year
    names = authors.replace(" et al.", " and others").replace(", ", " and ")
    lines = {
        "author": names,
        "title": title,
        "howpublished": venue.replace("&", r"\&"),
        "year": year,
    }
    body = "\n".join(f"  {name} = {{{value}}}," for name, value in lines.items())
    return {key: f"@misc{{{key},\n{body}\n}}"}


def _letters(text: str) -> str:
    return re.sub(r"\W", "", text).lower()
