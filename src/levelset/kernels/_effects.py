"""What leaving a training point out does to an output: its share, and how the others react."""

import torch
from torch import Tensor
from torch.func import grad, vmap

from levelset._tools.arguments import checked
from levelset._tools.batches import row_batches
from levelset._tools.checks import check_labels, check_same_rows
from levelset._tools.modes import frozen
from levelset._typing import Labels, Points
from levelset.errors import ParameterError
from levelset.kernels._integrals import Gradients
from levelset.kernels._path import Path, Step
from levelset.kernels._path_kernel import PathKernel

__all__ = ["effects"]


@checked
def effects(kernel: PathKernel, points: Points, classes: Labels | None = None) -> Tensor:
    r"""Return how an output changes with the weight of each training point in the loss.

    With a weight $u_i$ on the loss of each training point, the same start and the same batches,

    $$e_i(x) = \frac{\partial y_{w_N(u)}(x)}{\partial u_i}\Big|_{u = 1}$$

    to which the training reacts: what a point has done to the weights changes the gradients of all
    points at all later steps. To first order, leaving point i out changes the output by
    $-e_i(x)$. A share of [`contributions`][levelset.kernels.PathKernel.contributions] is what the
    point itself did on the way, and shares sum to the output; effects do not, but predict what
    training without the points gives, where the shares of others would make up for a lost one.

    The derivative is exact: it is carried back along the recorded path,

    $$\gamma_s = -\eta_s (p\,\lambda + q \nu), \quad e_i \mathrel{+}= \langle \gamma_s,
      \nabla_w L_i(w_s)\rangle, \quad \lambda \mathrel{+}= \nabla^2_w L(w_s)\, \gamma_s,$$

    from $\lambda = \nabla_w y_{w_N}(x)$, with $\nu$ for what momentum hands on. It is large where
    training is chaotic. There the largest effects still name the points that matter, but sums over
    many points are no prediction any more: take those of `contributions` (LeNet at a rate of 0.1:
    `experiments/attribution.py`).

    Cost: a product with the Hessian of the batch's loss for each point and step, about four
    gradients of the batch.

    Args:
        kernel: Of the training, by SGD, with momentum or without.
        points: `(m, *d)`.
        classes: The output of each point, `(m,)`; `None` for the one that is largest.

    Returns:
        Effects of the training points, `(m, n)`, in the units of the outputs.

    Raises:
        ParameterError: If the optimiser has a scale of its own for each weight, as Adam's, which
            the weights of the points would change too; or a class is none of the outputs.

    Example:
        >>> import tempfile, torch
        >>> from levelset.kernels import PathKernel, effects
        >>> from levelset.networks import fc
        >>> from levelset.training import initialise, record
        >>> generator = torch.Generator().manual_seed(0)
        >>> points = torch.rand(20, 2, generator=generator)
        >>> labels = (points[:, 0] > 0.5).long()
        >>> network = initialise(fc(2, 8, 2), generator=generator)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     recording = record(
        ...         network, points, labels, steps=30, learning_rate=0.5, folder=folder
        ...     )
        ...     effects(PathKernel(recording, points, labels), points[:3]).shape
        torch.Size([3, 20])

    References:
        - S. Hara, A. Nitanda, T. Maehara, "Data Cleansing for Models Trained with SGD", NeurIPS
          2019 (arXiv:1906.08473): the derivative along the path of SGD; here with momentum and
          weight decay, for all points at once, and any output.
    """
    recording, rule = kernel.recording, kernel.recording.plan.rule
    if rule.is_adaptive:
        message = (
            f"effects: `kernel` must be of a training by 'sgd', got {rule.optimizer!r}: its scales "
            "depend on all points. Record with `optimizer='sgd'`, or use `contributions`."
        )
        raise ParameterError(message)
    outputs = kernel.outputs(points)
    chosen = outputs.argmax(1) if classes is None else classes
    check_same_rows("effects", points, chosen, "classes")
    check_labels("effects", chosen, points, outputs.shape[1], "classes")
    total = outputs.new_zeros(len(points), len(kernel.points))
    gradients = Gradients(recording.model)
    path = Path(recording, kernel.points, kernel.labels, gradients, kernel.integral)
    with frozen(recording.model):
        size = _most_at_once(kernel)
        for rows in row_batches(len(points), size):
            total[rows] = _backwards(path, points[rows].to(kernel.points), chosen[rows])
    return total


def _most_at_once(kernel: PathKernel) -> int:
    """Return for how many points the path is walked at once: each carries three sets of weights."""
    weights = len(kernel.recording.end())
    batch = kernel.recording.plan.batch_size or len(kernel.points)
    each = 6 * weights + 8 * batch * kernel.points[0].numel()
    return max(kernel.memory // (each * kernel.points.element_size()), 1)


def _backwards(path: Path, points: Tensor, classes: Tensor) -> Tensor:
    """Return the effects on some points, `(m, n)`."""
    rule = path.recording.plan.rule
    total = points.new_zeros(len(points), len(path.points))
    later = _gradients(path, points, classes)
    memory = torch.zeros_like(later)
    for shard in path.recording.shards(backwards=True):
        for number in reversed(range(shard.numbers[0], shard.numbers[-1])):
            step = path.step(shard, number)
            direct, through = rule.weights_of(number)
            memory -= step.rate * through * later
            pull = rule.take * memory - step.rate * direct * later
            curved, moved = _products(path, step, pull)
            total[:, step.rows] += moved
            later = later + curved + rule.weight_decay * pull
            memory *= rule.keep
    return total


def _gradients(path: Path, points: Tensor, classes: Tensor) -> Tensor:
    """Return the gradient of an output of each point in the weights at the end, `(m, p)`."""

    def output(weights: Tensor, point: Tensor, column: Tensor) -> Tensor:
        out = path.gradients.outputs(path.named(weights), point.unsqueeze(0))[0]
        return out.gather(0, column.unsqueeze(0))[0]

    end = path.recording.end()
    return vmap(grad(output), in_dims=(None, 0, 0))(end, points, classes)


def _products(path: Path, step: Step, pull: Tensor) -> tuple[Tensor, Tensor]:
    """Return the products of directions in weight space with the loss of a step.

    Args:
        path: The path.
        step: The step.
        pull: The directions, `(m, p)`.

    Returns:
        Those with its Hessian, `(m, p)`, and with the gradient of each of its points, `(m, b)`.
    """
    points, labels = path.points[step.rows], path.labels[step.rows]
    weights = step.before.detach().requires_grad_()
    factors = weights.new_ones(len(points)).requires_grad_()
    with torch.enable_grad():
        outputs = path.gradients.outputs(path.named(weights), points)
        value = path.recording.loss(outputs, labels)
        (pulls,) = torch.autograd.grad(value, outputs, create_graph=True)
        # The gradient of the loss, each point's part with a factor of its own.
        (whole,) = torch.autograd.grad(
            outputs, weights, factors.unsqueeze(1) * pulls, create_graph=True
        )
    curved, moved = torch.autograd.grad(
        whole, (weights, factors), pull, is_grads_batched=True, allow_unused=True,
        materialize_grads=True,
    )  # fmt: skip
    return curved, moved
