"""The path kernel of a recorded training: predictions, and whose they are."""

import warnings
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from levelset._recording._recording import Recording, with_data
from levelset._recording._rule import Shares
from levelset._tools.arguments import checked
from levelset._tools.batches import row_batches
from levelset._tools.checks import check_at_least_one, check_finite, check_points
from levelset._tools.modes import frozen
from levelset._typing import Labels, Points
from levelset.errors import LevelSetWarning, ParameterError, ShapeError
from levelset.kernels._gram import Features
from levelset.kernels._integrals import (
    Breakpoints,
    GaussLegendre,
    Gradients,
    Integral,
    Quadrature,
    SampleGradients,
    Secant,
)  # fmt: skip
from levelset.kernels._own import own_shares
from levelset.kernels._pairs import UnknownLayerError
from levelset.kernels._path import Path
from levelset.kernels._results import Contributions, Neighbours, Prediction, Signs
from levelset.kernels._shares import shares_at_once, shares_backwards, sizes

__all__ = ["PathKernel"]

# The rule for models with layers that have no secant.
_FALLBACK = GaussLegendre(8)
_NAMED: dict[str, type[Integral]] = {"secant": Secant, "breakpoints": Breakpoints}


class PathKernel:
    r"""A trained network as a kernel machine over its training points.

    Along the steps $w_0, \dots, w_N$ of a recorded training every output is

    $$y_{w_N}(x) = y_{w_0}(x) + \sum_i \sum_s a_{i,s}
      \Bigl\langle \int_0^1 \nabla_w y_{w_s(t)}(x)\,dt, \nabla_w y_{w_s}(x_i) \Bigr\rangle,
      \qquad a_{i,s} = -\varepsilon \frac{\partial L(y_{w_s}(x_i))}{\partial y},$$

    so each training point has a signed share in it. That is no approximation: it holds for any
    network and any step. With momentum, Adam and AdamW a gradient acts on later steps too, and the
    share is of all that it does; the pull of weight decay is a share of its own.

    `integral` says how gradients are averaged over a step:

    * `"secant"`: a discrete gradient, one pass at any depth, whose product with the step is the
      change of the output by algebra. It differs from the integral where units flip within a step,
      in second order of the step: this is *not* Bell's kernel to the last digit.
    * `"breakpoints"`: the integral itself, exact, for Linear or Conv, ReLU or LeakyReLU, Linear.
    * `GaussLegendre(k)`, `Midpoint(k)`: the integral by k gradients a step. For smooth activations
      few nodes do; for ReLU networks the error falls with 1/k only.

    Layers: whatever is made of Linear, Conv1d, Conv2d, elementwise activations, max and average
    pooling, BatchNorm (in evaluation mode, as recorded), sums, products, joins and reshapes. A
    model with another function goes by per-sample gradients and `GaussLegendre(8)`, with a warning.

    The first evaluation reads the path from disk; nothing but the points is kept in memory. The
    network is held in evaluation mode meanwhile, and left exactly as it was found.

    Args:
        recording: From [`record`][levelset.training.record], or `Recording.read`.
        points: The training points, `(n, *d)`, in the order of the recording.
        labels: Their labels, `(n,)`.
        integral: `"secant"`, `"breakpoints"`, `Midpoint(k)` or `GaussLegendre(k)`.
        memory: Bytes that a call may take beside its result; work is cut into pieces to fit.

    Raises:
        ParameterError: If points or labels are not the recording's, or the network's weights are
            not those at its end.
        DataError: If a step is missing or damaged.

    Example:
        >>> import tempfile, torch
        >>> from levelset.kernels import PathKernel
        >>> from levelset.networks import fc
        >>> from levelset.training import initialise, record
        >>> generator = torch.Generator().manual_seed(0)
        >>> points = torch.rand(20, 2, generator=generator, dtype=torch.float64)
        >>> labels = (points[:, 0] > 0.5).long()
        >>> network = initialise(fc(2, 8, 2), generator=generator).double()
        >>> folder = tempfile.TemporaryDirectory()
        >>> recording = record(
        ...     network, points, labels, steps=30, learning_rate=0.5, folder=folder.name
        ... )
        >>> kernel = PathKernel(recording, points, labels)
        >>> kernel.predict(points[:5]).identity_error < 1e-12
        True
        >>> kernel.contributions(points[:5]).shares.shape
        torch.Size([5, 2, 20])
        >>> folder.cleanup()

    References:
        - B. Bell, "Neighborhoods of Adversarial Examples", dissertation draft 2023: Definition
          14.3, Theorem 14.5, Remark 0 (other optimisers), Remark 2 (any start: here y at w_0 is
          kept, so that the representation stays exact), sections 17.3 to 17.5.
    """

    @checked
    def __init__(
        self,
        recording: Recording,
        points: Points,
        labels: Labels,
        *,
        integral: Literal["secant", "breakpoints"] | Quadrature = "secant",
        memory: int = 2**30,
    ) -> None:
        check_at_least_one("PathKernel", "memory", memory)
        recording = with_data("PathKernel", recording, points, labels)
        self.recording, self.memory = recording, memory
        end = recording.end()
        _check_end(recording, end)
        rule = integral if isinstance(integral, Quadrature) else _NAMED[integral]()
        self._path = Path(
            recording, points.detach().to(end), labels, Gradients(recording.model), rule
        )
        with frozen(recording.model):
            self._choose(integral)

    @property
    def points(self) -> Tensor:
        """The training points, `(n, *d)`."""
        return self._path.points

    @property
    def labels(self) -> Tensor:
        """Their labels, `(n,)`."""
        return self._path.labels

    @property
    def integral(self) -> Integral:
        """How gradients are averaged over a step; after a fall back, what is used instead."""
        return self._path.integral

    @checked
    def predict(self, points: Points) -> Prediction:
        """Return the outputs that the kernel gives, beside the network's own.

        Cost: one pass over the path: a gradient of the batch and one of each output of the points a
        step.

        Args:
            points: `(m, *d)`.

        Returns:
            The outputs of both, and their difference, `identity_error`.
        """
        points = self._fitted("PathKernel.predict", points)
        path = self._path
        with frozen(path.recording.model):
            start, final = self._ends(points)
            moved, lost = torch.zeros_like(start), torch.zeros_like(start)
            shares = Shares(path.recording.plan.rule)
            size = self._most_points(points) if len(points) else 1
            for step in path.steps() if len(points) else ():
                up, down = shares.step(step.number, step.rate, path.gradient(step), step.before)
                for rows in row_batches(len(points), size):
                    for share, blocks in path.parts(step, points[rows]):
                        for block in blocks:
                            moved[rows] += share * block.times(path.named(up))
                            if down is not None:
                                lost[rows] += share * block.times(path.named(down))
        return Prediction(start + moved + lost, final, start, moved, lost)

    @checked
    def contributions(self, points: Points, *, top: int | None = None) -> Contributions:
        """Return the share of each training point in each output.

        The shares have both signs and cancel heavily: look at both ends. Together with the start
        and the share of weight decay they sum to the network's outputs.

        Cost: with plain gradient descent, a gradient of each training point and of each output of
        the points a step, and a product for each pair; linear in steps and pairs. With momentum or
        Adam, and for convolutions, the products are as long as the layer has weights.

        Args:
            points: `(m, *d)`.
            top: Keep so many of the largest positive and of the most negative shares, and the sum
                of the others; `None` for all.

        Returns:
            Shares `(m, k, n)`, or `(m, k, 2 top)` with their training points.

        Raises:
            ParameterError: If all shares take more than `memory`: give `top`, or fewer points.
        """
        points = self._fitted("PathKernel.contributions", points)
        if top is not None:
            check_at_least_one("PathKernel.contributions", "top", top)
        with frozen(self._path.recording.model):
            start, final = self._ends(points)
            n, (m, k) = len(self.points), start.shape
            count = n if top is None else min(2 * top, n)
            self._check_fits(m * k * count * start.element_size())
            # By training points, as the sums are made: transposing them takes seconds.
            store = start.new_zeros(n, k, m) if top is None else start.new_zeros(m, k, count)
            shares = store.permute(2, 1, 0) if top is None else store
            indices = None if top is None else torch.zeros(m, k, count, dtype=torch.int64)
            decay, rest = torch.zeros_like(start), torch.zeros_like(start)
            size, block, piece = self._plan(points, k) if m else (1, 1, 1)
            out = store if top is None and size >= m else None
            for rows in row_batches(m, size):
                if self.recording.plan.rule.has_memory:
                    parts, lost = shares_backwards(self._path, points[rows], k, piece, out)
                    decay[rows] = lost
                    blocks: Iterator[tuple[slice, Tensor]] = iter([(slice(0, n), parts)])
                else:
                    decay[rows] = self._decay(points[rows], k)
                    blocks = shares_at_once(self._path, points[rows], k, block, piece, out)
                if indices is None:
                    for where, part in blocks:
                        if out is None:
                            store[where, :, rows] = part
                else:
                    kept = _both_ends(blocks, top or 0)
                    shares[rows], indices[rows], rest[rows] = kept
        return Contributions(shares, indices, rest, start, decay, final)

    @checked
    def gram(
        self,
        a: Points,
        b: Tensor | None = None,
        *,
        form: Literal["symmetric", "asymmetric"] = "symmetric",
        stride: int = 1,
    ) -> Tensor:
        r"""Return the matrix of kernel values: averaged over the steps, summed over the outputs.

        `"symmetric"` is Eq. 11: gradients of training points (rows equal to one of them, bit for
        bit) at the step's start, those of other points along the step, so that it is positive
        semi-definite, and jumps from a training point to its neighbours. `"asymmetric"` is
        Eq. 16: `a` along the step, `b` at its start; continuous, and what predictions are made of.

        With a quadrature the product of two points that move is averaged node by node; with
        `"secant"` and `"breakpoints"` their averaged gradients are multiplied, a kernel too.

        Args:
            a: `(n, *d)`.
            b: `(m, *d)`; `None` for `a`.
            form: Which of Bell's two kernels.
            stride: Take each `stride`-th step only.

        Returns:
            The matrix, `(n, m)`.
        """
        check_at_least_one("PathKernel.gram", "stride", stride)
        a = self._fitted("PathKernel.gram", a, "a")
        other = a if b is None else self._fitted("PathKernel.gram", b, "b")
        self._check_fits(len(a) * len(other) * a.element_size())
        with frozen(self.recording.model):
            features = Features(self._path, self.memory)
            return features.products(a, other, symmetric=form == "symmetric", stride=stride)

    @checked
    def diagonal(self, points: Points, *, stride: int = 1) -> Tensor:
        """Return the kernel of each point with itself, `(n,)`: the diagonal of `gram`.

        Args:
            points: `(n, *d)`.
            stride: Take each `stride`-th step only.
        """
        check_at_least_one("PathKernel.diagonal", "stride", stride)
        points = self._fitted("PathKernel.diagonal", points)
        with frozen(self.recording.model):
            return Features(self._path, self.memory).diagonal(points, stride=stride)

    @checked
    def outputs(self, points: Points) -> Tensor:
        """Return the network's own outputs, `(n, k)`.

        Args:
            points: `(n, *d)`.
        """
        points = self._fitted("PathKernel.outputs", points)
        with frozen(self.recording.model):
            return self._ends(points)[1]

    @checked
    def asymmetry(self, points: Points, *, stride: int = 1) -> float:
        """Return how far Eq. 16 is from a kernel: |K - K^T| / |K| over points, in Frobenius norm.

        It measures how far the steps are from the gradient flow, and goes to 0 with their size.

        Args:
            points: `(n, *d)`.
            stride: Take each `stride`-th step only.
        """
        matrix = self.gram(points, form="asymmetric", stride=stride)
        size = float(matrix.norm())
        return float((matrix - matrix.T).norm()) / size if size else 0.0

    @checked
    def neighbours(self, points: Points, *, k: int, stride: int = 1) -> Neighbours:
        """Return the training points nearest by the kernel, and those nearest by their pixels.

        Nearest by the kernel means the smallest angle between the gradients along the path: the
        kernel's value over the root of both own values.

        Args:
            points: `(m, *d)`.
            k: How many.
            stride: Take each `stride`-th step only.

        Returns:
            Indices and distances, nearest first.
        """
        check_at_least_one("PathKernel.neighbours", "k", k)
        points = self._fitted("PathKernel.neighbours", points)
        k = min(k, len(self.points))
        values = self.gram(points, self.points, stride=stride)
        own = self.diagonal(points, stride=stride)
        theirs = self.diagonal(self.points, stride=stride)
        cosine = values / (own.unsqueeze(1) * theirs).sqrt().clamp(min=torch.finfo(own.dtype).tiny)
        similarity, indices = cosine.topk(k, dim=1)
        distance = torch.cdist(points.flatten(1), self.points.flatten(1))
        pixel_distance, pixel_indices = distance.topk(k, dim=1, largest=False)
        return Neighbours(indices, similarity, pixel_indices, pixel_distance)

    def own_shares(self) -> Tensor:
        """Return the share of each training point in its own outputs, `(n, k)`.

        The diagonal of the contributions of the training points, at the cost of one product a
        point and step instead of one a pair.
        """
        with frozen(self.recording.model):
            k = self._ends(self.points[:1])[0].shape[1]
            train, test, carried = sizes(self._path, self.points[:1])
            each = (train + test + 4 * carried // k) * self.points.element_size()
            return own_shares(self._path, k, max(self.memory // (4 * each), 1))

    def is_kernel(self) -> Signs:
        """Return whether the sum over the steps is a single kernel machine.

        That is so if no coefficient changes its sign along the path, as with cross-entropy; with
        the squared error it is not.

        References:
            - B. Bell, "Neighborhoods of Adversarial Examples", dissertation draft 2023: section
              17.3.
        """
        path = self._path
        first: Tensor | None = None
        with frozen(self.recording.model):
            for step in path.steps():
                signs = path.pulls(step).sign()
                if first is None:
                    first = signs.new_zeros(len(self.points), signs.shape[1])
                    changes, counts = torch.zeros_like(first), torch.zeros_like(first)
                first[step.rows] = torch.where(first[step.rows] == 0, signs, first[step.rows])
                changes[step.rows] += (signs * first[step.rows] < 0).to(signs)
                counts[step.rows] += 1
        per_point = changes.sum(1) / counts.sum(1).clamp(min=1)
        violations = float(changes.sum() / counts.sum().clamp(min=1))
        return Signs(violations == 0.0, violations, per_point)

    def _choose(self, integral: object) -> None:
        """Take the gradients layer by layer, or, where a layer has no rule, sample by sample."""
        path = self._path
        try:
            step = path.first()
            outputs = path.outputs(step.before, self.points[:1])
            path.parts(step, self.points[:1])
            path.gradients.folded(path.named(step.before), self.points[:1], outputs)
        except UnknownLayerError as error:
            if integral == "breakpoints":
                message = (
                    "PathKernel: `integral` 'breakpoints' is for a Linear or Conv layer, a ReLU "
                    f"or LeakyReLU, and a Linear layer; the model has {error}. Give 'secant'."
                )
                raise ParameterError(message) from error
            rule = path.integral if isinstance(path.integral, Quadrature) else _FALLBACK
            message = (
                f"PathKernel: the model has {error}, which has no secant. It goes by per-sample "
                f"gradients, slower and with more memory, and by {rule!r}, exact for smooth "
                "activations only; `predict` says how exact."
            )
            warnings.warn(message, LevelSetWarning, stacklevel=5)
            path.gradients, path.integral = SampleGradients(self.recording.model), rule

    def _fitted(self, function: str, points: Tensor, name: str = "points") -> Tensor:
        check_points(function, points, name)
        if points.shape[1:] != self.points.shape[1:]:
            message = (
                f"{function}: `{name}` must have the shape of the training points "
                f"(n, {', '.join(map(str, self.points.shape[1:]))}), got {tuple(points.shape)}."
            )
            raise ShapeError(message)
        check_finite(function, points, name)
        return points.detach().to(self.points)

    def _ends(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Return the outputs before the first step, and the network's own, `(m, k)`."""
        path = self._path
        if len(points) == 0:
            k = path.outputs(self.recording.start(), self.points[:1]).shape[1]
            return points.new_zeros(0, k), points.new_zeros(0, k)
        return path.outputs(self.recording.start(), points), path.now(points)

    def _decay(self, points: Tensor, k: int) -> Tensor:
        """Return the share of weight decay without momentum, `(m, k)`."""
        path, total = self._path, points.new_zeros(len(points), k)
        factor = self.recording.plan.rule.weight_decay
        for step in path.steps() if factor else ():
            for share, blocks in path.parts(step, points):
                total -= (
                    factor
                    * step.rate
                    * share
                    * sum(b.times(path.named(step.before)) for b in blocks)
                )
        return total

    def _most_points(self, points: Tensor) -> int:
        each = sizes(self._path, points[:1])[1] * points.element_size()
        return max(self.memory // (4 * each), 1)

    def _plan(self, points: Tensor, k: int) -> tuple[int, int, int]:
        """Return how many test points, training points a block and at once fit into memory."""
        item, n = points.element_size(), len(self.points)
        train, test, carried = sizes(self._path, points[:1])
        has_memory = self.recording.plan.rule.has_memory
        each = (test + (2 * carried if has_memory else 0)) * item
        size = min(max(self.memory // (4 * each), 1), len(points))
        if has_memory:
            size = min(size, max(self.memory // (4 * n * k * item), 1))
        # Sums of one number a pair and output, beside those that are the result.
        block = min(max(self.memory // (2 * size * k * item), 1), n)
        return size, block, min(max(self.memory // (4 * train * item), 1), block)

    def _check_fits(self, size: int) -> None:
        if size > self.memory:
            message = (
                f"PathKernel: the result takes {size} bytes, more than `memory` ({self.memory}). "
                "Give fewer points, `top` for contributions, or more memory."
            )
            raise ParameterError(message)


def _both_ends(blocks: Iterator[tuple[slice, Tensor]], top: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the most positive and most negative shares with their points, and the others' sum."""
    values, indices, total = torch.empty(0), torch.empty(0, dtype=torch.int64), torch.zeros(())
    for number, (where, part) in enumerate(blocks):
        new = part.permute(2, 1, 0)
        places = torch.arange(where.start, where.stop, device=new.device).expand(new.shape)
        total = new.sum(2) + (total if number else 0.0)
        values = torch.cat([values, new], 2) if number else new
        indices = torch.cat([indices, places], 2) if number else places
        if values.shape[2] > 2 * top:
            high, low = values.topk(top, 2).indices, values.topk(top, 2, largest=False).indices
            chosen = torch.cat([high, low.flip(2)], 2)
            values, indices = values.gather(2, chosen), indices.gather(2, chosen)
    order = values.argsort(2, descending=True)
    values, indices = values.gather(2, order), indices.gather(2, order)
    return values, indices, total - values.sum(2)


def _check_end(recording: Recording, end: Tensor) -> None:
    """Refuse a network whose weights are not those at the end of the path."""
    weights = torch.cat(
        [recording.model.get_parameter(name).detach().reshape(-1) for name in recording.layout]
    )
    way = float((end - recording.start()).norm())
    slack = (2.0 * recording.rounding + 1e3 * torch.finfo(end.dtype).eps) * (
        way + float(end.norm())
    )
    off = float((weights - end).norm()) if weights.shape == end.shape else float("inf")
    if not off <= slack:
        message = (
            f"PathKernel: the weights of the recording's network must be those at the end of its "
            f"path, but they are {off:.2g} away. It was trained or loaded since: "
            "`Recording.read` puts it back."
        )
        raise ParameterError(message)
