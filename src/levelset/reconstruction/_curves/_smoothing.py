"""A smooth curve through noisy points: penalised splines, their smoothness chosen by the data."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.interpolate import BSpline
from scipy.linalg import cho_factor, cho_solve
from scipy.spatial import cKDTree

from levelset._typing import Floats, Integers
from levelset.reconstruction._curves._ordering import Path

__all__ = ["SmoothCurve", "smooth_curve"]


_ROUNDS = 6
_LEAST = 4
_FINE = 16  # samples an interval of the spline when points look for their place on it
_MOST_INTERVALS = 100
# How much of a way along the curve counts as distance for a point that has a place on it.
_DRAG = 0.3
# A curve this many times as long as its row of nodes swings out where it has no points.
_LONGER = 1.08
# Degrees of freedom are charged so much: plain cross-validation follows the noise now and then.
_CHARGE = 1.4
# A point this many robust standard deviations away belongs to no curve.
_OUTLYING = 5.0


@dataclass(frozen=True, eq=False)
class SmoothCurve:
    """A cubic spline over [0, 1], by its coefficients.

    Attributes:
        coefficients: `(c, d)`; of a closed curve one an interval.
        closed: Whether it is periodic.
        noise: Standard deviation a coordinate of the points across the curve.
        rows: Rows of the points that it was fitted to.
        errors: Root-mean-square distance of them from the curve after each round.
    """

    coefficients: Floats
    closed: bool
    noise: float
    rows: Integers
    errors: tuple[float, ...]

    def at(self, places: Floats, derivative: int = 0) -> Floats:
        """Return points, or derivatives, at parameters in [0, 1], `(m, d)`."""
        count = len(self.coefficients)
        control = self.coefficients
        intervals = count if self.closed else count - 3
        if self.closed:
            control = np.concatenate([control, control[:3]])
        knots = np.arange(-3, intervals + 4) / intervals
        return np.asarray(BSpline(knots, control, 3).derivative(derivative)(places)
                          if derivative else BSpline(knots, control, 3)(places))  # fmt: skip

    def evenly(self, count: int) -> Floats:
        """Return parameters at equal distances along the curve, `(count,)`."""
        fine = np.linspace(0.0, 1.0, 64 * len(self.coefficients))
        steps = np.linalg.norm(np.diff(self.at(fine), axis=0), axis=1)
        along = np.concatenate([[0.0], steps.cumsum()])
        distances = np.linspace(0.0, along[-1], count + 1)[:-1] if self.closed else None
        distances = np.linspace(0.0, along[-1], count) if distances is None else distances
        return np.interp(distances, along, fine)


def smooth_curve(points: Floats, path: Path) -> SmoothCurve | None:
    r"""Fit a smooth curve to the points along a row of nodes; none if there are too few.

    $$\min_c \sum_j |x_j - c(u_j)|^2 + \lambda \int |c''(u)|^2 du$$

    with lambda by generalised cross-validation. Then each point takes the nearest place on the
    curve for its own u, not far from where it was before, and so on for a few rounds. Points far
    off the curve for their kind are left out.

    Args:
        points: The cloud, `(n, d)`.
        path: The row of nodes.

    References:
        - P. Eilers, B. Marx, "Flexible smoothing with B-splines and penalties", Statistical
          Science 11 (1996).
        - T. Hastie, W. Stuetzle, "Principal curves", J. Amer. Statist. Assoc. 84 (1989): the
          rounds of projecting and fitting.
        - Y.-J. Kim, C. Gu, "Smoothing spline Gaussian regression", J. R. Statist. Soc. B 66
          (2004): the charge of 1.4.
    """
    intervals = int(np.clip(len(path.nodes), 4, _MOST_INTERVALS))
    ring = np.concatenate([path.nodes, path.nodes[:1]]) if path.closed else path.nodes
    parameters, far = _nearest(points, *_finely(ring), path.closed, None)
    rows, errors = np.arange(len(points)), []
    # Rows of nodes end early, by about one step.
    step = float(np.median(np.linalg.norm(np.diff(path.nodes, axis=0), axis=1)))
    longest = _LONGER * float(np.linalg.norm(np.diff(ring, axis=0), axis=1).sum()) + 2.0 * step
    curve: SmoothCurve | None = None
    for _ in range(_ROUNDS):
        usual = far <= max(_OUTLYING * 1.4826 * float(np.median(far)), step)
        rows, parameters = rows[usual], parameters[usual]
        if len(rows) < 2 * _LEAST:
            return None
        coefficients, freedom = _fit(points[rows], parameters, intervals, path.closed, longest)
        curve = SmoothCurve(coefficients, path.closed, 0.0, rows, ())
        fine = np.linspace(0.0, 1.0, _FINE * intervals + 1)
        parameters, far = _nearest(
            points[rows], *_finely(curve.at(fine), cut=False), path.closed, parameters
        )
        errors.append(float(np.sqrt(np.mean(far**2))))
    left = max(1.0 - freedom / len(rows), 0.1)
    sigma = errors[-1] / float(np.sqrt((points.shape[1] - 1) * left))
    return None if curve is None else replace(curve, noise=sigma, errors=tuple(errors))


def _finely(row: Floats, *, cut: bool = True) -> tuple[Floats, Floats]:
    """Return points along a row of straight pieces and their places in it, from 0 to 1."""
    steps = np.linalg.norm(np.diff(row, axis=0), axis=1)
    along = np.concatenate([[0.0], steps.cumsum()]) / max(float(steps.sum()), 1e-300)
    if not cut:
        return row, along
    parameters = np.linspace(0.0, 1.0, _FINE * len(row) + 1)
    return np.stack([np.interp(parameters, along, axis) for axis in row.T], 1), parameters


def _nearest(
    points: Floats, row: Floats, along: Floats, closed: bool, before: Floats | None
) -> tuple[Floats, Floats]:
    """Return the places of the nearest points of a row, and how far they are.

    A point that knows its place pays for going elsewhere, as if the row were drawn out.
    """
    if before is None:
        nearest = cKDTree(row).query(points)[1]
    else:
        length = float(np.linalg.norm(np.diff(row, axis=0), axis=1).sum())
        lifted = np.concatenate([row, _drawn_out(along, closed, length)], 1)
        queries = np.concatenate([points, _drawn_out(before, closed, length)], 1)
        nearest = cKDTree(lifted).query(queries)[1]
    # Between the samples: the nearest point of the two pieces that meet at the nearest sample.
    starts = np.clip(np.stack([nearest - 1, nearest], 1), 0, len(row) - 2)
    base, way = row[starts], row[starts + 1] - row[starts]
    square = np.maximum((way**2).sum(2), 1e-300)
    share = np.clip(((points[:, None] - base) * way).sum(2) / square, 0.0, 1.0)
    far = np.linalg.norm(points[:, None] - base - share[..., None] * way, axis=2)
    places = along[starts] + share * (along[starts + 1] - along[starts])
    best = far.argmin(1)[:, None]
    return np.take_along_axis(places, best, 1)[:, 0], np.take_along_axis(far, best, 1)[:, 0]


def _drawn_out(places: Floats, closed: bool, length: float) -> Floats:
    if not closed:
        return _DRAG * length * places[:, None]
    turn = 2.0 * np.pi * places
    return _DRAG * length / (2.0 * np.pi) * np.stack([np.cos(turn), np.sin(turn)], 1)


def _fit(
    points: Floats, parameters: Floats, intervals: int, closed: bool, longest: float
) -> tuple[Floats, float]:
    """Return the coefficients of the penalised spline, and its degrees of freedom.

    Splines whose coefficients make a row longer than `longest` are passed over, if others do not.
    """
    knots = np.arange(-3, intervals + 4) / intervals
    inside = np.clip(parameters, 0.0, 1.0)
    basis = BSpline.design_matrix(inside, knots, 3).toarray()
    if closed:
        basis[:, :3] += basis[:, intervals:]
        basis = basis[:, :intervals]
    eye = np.eye(basis.shape[1])
    second = np.roll(eye, 1, 0) - 2.0 * eye + np.roll(eye, -1, 0)
    second = second if closed else second[1:-1]
    gram, right, roughness = basis.T @ basis, basis.T @ points, second.T @ second
    total = float((points**2).sum())
    tried = []
    for weight in np.trace(gram) / len(eye) * 10.0 ** np.arange(-6.0, 4.1, 0.25):
        factor = cho_factor(gram + weight * roughness + 1e-12 * np.trace(gram) * eye)
        coefficients = cho_solve(factor, right)
        freedom = float(np.trace(cho_solve(factor, gram)))
        rest = total - float((coefficients * (2.0 * right - gram @ coefficients)).sum())
        left = 1.0 - _CHARGE * freedom / len(points)
        score = rest / left**2 if left > 0 else np.inf
        swings = bool(np.linalg.norm(np.diff(coefficients, axis=0), axis=1).sum() > longest)
        # where all swing the smoothest does least
        tried.append((swings, freedom if swings else score, coefficients, freedom))
    _, _, coefficients, freedom = min(tried, key=lambda one: one[:2])
    return coefficients, freedom
