"""Detecting perturbed inputs: `detect.fit`, and detectors that are saved, loaded, applied.

Of attacks made without knowledge of the detector; one that knows it can follow its score downhill.

References:
    - M. Alonso, P. Bonin, "Geometrical perspectives on the robustness of deep neural networks",
      project report: curvature as a score.
"""

from levelset.boundary.detect._detector import Detection, Detector, load
from levelset.boundary.detect._fit import fit
from levelset.boundary.detect._roc import Roc

__all__ = ["Detection", "Detector", "Roc", "fit", "load"]
