"""The paper's training: level sets pulled to their distances from the points."""

import math
import time
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn, optim

from levelset._projection import Newton, project
from levelset._tools.arguments import checked
from levelset._tools.checks import check_instance
from levelset._tools.digests import checksum
from levelset._tools.least_norm import least_norm
from levelset._tools.locks import sole_user
from levelset._tools.point_tree import PointTree
from levelset._tools.random import draw_seed, mixed_seed, private_stream
from levelset._typing import PerPoint, Points
from levelset.errors import NotConvergedError, ParameterError, RunError
from levelset.losses import reconstruction
from levelset.networks import fc_1, fc_2
from levelset.reconstruction._history import Step, Watch
from levelset.reconstruction._settings import Paper
from levelset.training import Checkpoint

__all__ = ["as_sphere", "follow", "paper_network", "stream", "train_paper"]

_TOLERANCE = 1e-4  # of the zero level set, in units of the cloud's radius
_RADIUS = 0.5  # of the sphere that a surface's network begins as


@checked
def train_paper(
    points: Points,
    settings: Paper,
    *,
    network: nn.Module | None = None,
    curve: bool = False,
    noise: float = 0.005,
    out: str | Path | None = None,
    resume: bool = False,
    generator: torch.Generator | None = None,
    progress: Watch | None = None,
) -> tuple[nn.Module, tuple[Step, ...]]:
    r"""Train a network on raw points by Eq. 13, as the paper did.

    Every step takes a batch of the points and adds noise to them. One half is projected onto the
    zero level set, the other stays on the levels where it is; both are attached. The loss pulls
    each sample's distance from the whole cloud to the size of its level, and |F| on the batch to
    zero. For a curve (two values in space) all are projected.

    Where it departs from the paper: distances are to all points, by a kd-tree; a sample of the
    zero level set serves `settings.lifetime` steps, see [`Paper`][levelset.reconstruction.Paper];
    and the two halves count the same (the sum over levels of Eq. 13), where the released code
    takes the mean of both together.

    It ends after `settings.epochs`, after `settings.seconds`, or by Ctrl-C or any
    `KeyboardInterrupt` of the hook, with the network as it is then. With `out`, a checkpoint is
    written after each epoch, whole; a run that was stopped goes on from it bit for bit.

    Args:
        points: The cloud in its unit frame, `(n, d)`: centred, radius 1.
        settings: The options.
        network: What is trained, in place; `None` for FC-2 that begins as a sphere, or for a
            curve in space FC-1 with two values.
        curve: Whether the points lie on a curve in space.
        noise: Standard deviation of the points' noise, for the estimate of quality alone.
        out: Folder of the checkpoint; `None` for none.
        resume: Go on from the checkpoint in `out`, if there is one.
        generator: Draws one number, the seed of all; `None` for a new one of seed 0.
        progress: Called with a `Step` after each epoch.

    Returns:
        The network, and one `Step` an epoch; its residual is the median of |F| on the points, in
        the unit frame.

    Raises:
        NotConvergedError: If the loss is no longer finite.
        ParameterError: If `resume` comes without `out`.
        RunError: If the checkpoint cannot be written, is of another run, or is damaged.
    """
    if network is not None:
        check_instance("train_paper", "network", network, nn.Module)
    if resume and out is None:
        message = "train_paper: `resume` needs the folder of the run, got out=None. Give `out`."
        raise ParameterError(message)
    data = points.detach().float()
    seed = draw_seed(generator or torch.Generator().manual_seed(0))
    trained = network if network is not None else paper_network(data, curve, seed)
    trainer = _Trainer(data, settings, trained, noise, seed)
    with nullcontext() if out is None else sole_user("train_paper", Path(out)):
        if out is not None:
            trainer.open_folder(Path(out) / "checkpoint.safetensors", resume)
        with suppress(KeyboardInterrupt):
            trainer.run(progress)
    for parameter in trained.parameters():
        parameter.grad = None
    return trained, trainer.history()


class _Trainer:
    """The state of one training: network, optimiser, samples, epochs done."""

    def __init__(
        self, points: Tensor, settings: Paper, network: nn.Module, noise: float, seed: int
    ) -> None:
        self.points, self.settings, self.network = points, settings, network
        self.noise, self.seed = noise, seed
        self.tree = PointTree(points)
        self.parameters = [p for p in network.parameters() if p.requires_grad]
        self.optimizer = optim.Adam(self.parameters, lr=settings.learning_rate)
        with torch.no_grad():
            values = network(points[:1])
        self.equations = 1 if values.dim() == 1 else values.shape[1]
        self.zero = points[:0]
        self.epochs: tuple[tuple[float, float, float | None, float], ...] = ()
        self.file: Path | None = None
        self.turn = 0

    def run(self, progress: Watch | None) -> None:
        """Go on to the last epoch, or until the time is over."""
        limit = math.inf if self.settings.seconds is None else self.settings.seconds
        end = time.perf_counter() + limit - sum(epoch[3] for epoch in self.epochs)
        for epoch in range(len(self.epochs), self.settings.epochs):
            self._epoch(epoch, end)
            over = time.perf_counter() >= end
            if self.file is not None and not over:
                self._save(self.file)
            if progress is not None:
                progress(self._step_of(epoch))
            if over:
                return

    def _epoch(self, epoch: int, end: float) -> None:
        """Train on every point once, or stop at `end`; an interrupted epoch counts too."""
        began, generator = time.perf_counter(), stream(self.seed, epoch)
        losses: list[float] = []
        sizes: list[Tensor] = []
        order = torch.randperm(len(self.points), generator=generator)
        try:
            for rows in torch.split(order.to(self.points.device), self.settings.batch_size):
                loss, size = self.step(rows, epoch, generator)
                losses.append(loss)
                sizes.append(size)
                if time.perf_counter() >= end:
                    break
        finally:
            if losses:
                far = torch.cat(sizes)
                quality = float((far <= 2.0 * self.noise).double().mean())
                spent = time.perf_counter() - began
                done = (float(np.mean(losses)), quality, float(far.median()), spent)
                self.epochs = (*self.epochs, done)

    def step(self, rows: Tensor, epoch: int, generator: torch.Generator) -> tuple[float, Tensor]:
        """Take one step of training on a batch; return its loss, and |F| on the batch."""
        settings, batch = self.settings, self.points[rows]
        starts = self._starts(batch, generator)
        half = len(starts) if self.equations > 1 else -(-len(starts) // 2)
        self._renew(starts[:half])
        where = torch.cat([self.zero[:half], starts[half:]])
        share = (torch.arange(len(where), device=where.device) < half).to(where)
        samples, levels = follow(self.network, where, share, max_step=settings.sigma)
        values: list[Tensor] = []

        def values_of(x: Tensor) -> Tensor:
            values.append(self.network(x))
            return values[0]

        loss = reconstruction(
            values_of, samples, levels, self.tree, batch,
            weight=settings.weight_at(epoch), power=settings.power,
        )  # fmt: skip
        if not bool(loss.isfinite()):
            message = (
                f"train_paper: the loss is no longer finite in epoch {epoch + 1}. "
                "Lower `learning_rate`."
            )
            raise NotConvergedError(message)
        gradients = torch.autograd.grad(loss, self.parameters)
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
        for group in self.optimizer.param_groups:
            group["lr"] = settings.rate_at(epoch)
        self.optimizer.step()
        self.zero[:half] = samples.detach()[:half]
        return float(loss.detach()), values[0].detach().reshape(len(batch), -1).abs().sum(1)

    def _starts(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Return the batch in another order, with noise."""
        order = torch.randperm(len(batch), generator=generator)
        noise = torch.randn(batch.shape, generator=generator)
        return batch[order.to(batch.device)] + self.settings.sigma * noise.to(batch)

    def _renew(self, starts: Tensor) -> None:
        """Project the samples of the zero level set whose lifetime is over, or that are missing."""
        some = min(len(self.zero), len(starts))
        first = min(self.turn % self.settings.lifetime, some)
        fresh = torch.arange(first, some, self.settings.lifetime)
        fresh = torch.cat([fresh, torch.arange(some, len(starts))])
        self.turn += 1
        method = Newton(max_iter=self.settings.iterations, max_step=5.0 * self.settings.sigma)
        projection = project(self.network, starts[fresh], method=method, tol=_TOLERANCE)
        finite = projection.points.isfinite().all(1, keepdim=True)
        if len(starts) > some:
            self.zero = torch.cat([self.zero, starts[some:]])
        self.zero[fresh] = torch.where(finite, projection.points, starts[fresh])

    def history(self) -> tuple[Step, ...]:
        """Return one step an epoch."""
        return tuple(self._step_of(k) for k in range(len(self.epochs)))

    def _step_of(self, k: int) -> Step:
        loss, quality, residual, _ = self.epochs[k]
        spent = sum(epoch[3] for epoch in self.epochs[: k + 1])
        all_ = self.settings.epochs
        return Step("training", k + 1, all_, spent, loss, residual or 0.0, quality)

    def _save(self, file: Path) -> None:
        """Write the checkpoint."""
        checkpoint = Checkpoint.of(
            self.network, self.optimizer,
            settings=self._identity(), seed=self.seed,
            epochs=tuple(
                {"loss": loss, "quality": quality, "residual": residual, "seconds": seconds}
                for loss, quality, residual, seconds in self.epochs
            ),
            more={"samples.zero": self.zero, "samples.turn": torch.tensor(self.turn)},
        )  # fmt: skip
        checkpoint.write(file)

    def open_folder(self, file: Path, resume: bool) -> None:
        """Write checkpoints to a file, and go on from the one in it if `resume`."""
        self.file = file
        if not file.exists():
            return
        if not resume:
            message = (
                f"train_paper: {file.parent} holds a training already. Give `resume=True` to "
                "go on with it, or choose another `out`."
            )
            raise RunError(message)
        checkpoint = Checkpoint.read(file)
        identity = self._identity()
        differing = [name for name in identity if checkpoint.settings.get(name) != identity[name]]
        if differing:
            message = (
                f"train_paper: the training in {file.parent} was of another "
                f"{', '.join(differing)}. Give the same as before, or choose another `out`."
            )
            raise RunError(message)
        self.zero = checkpoint.tensors["samples.zero"].to(self.points)
        self.turn = int(checkpoint.tensors["samples.turn"])
        checkpoint.restore(self.network, self.optimizer)
        self.seed = checkpoint.seed
        self.epochs = tuple(
            (e["loss"], e["quality"], e["residual"], e["seconds"]) for e in checkpoint.epochs
        )

    def _identity(self) -> dict[str, int | float | str | None]:
        options = {k: str(v) for k, v in asdict(self.settings).items() if k != "seconds"}
        state = {name: tuple(p.shape) for name, p in self.network.state_dict().items()}
        return {
            **options,
            "network": repr(state),
            "points": checksum("", {"points": self.points.cpu()}),
        }


def follow(
    network: nn.Module, points: Points, share: PerPoint, *, max_step: float
) -> tuple[Tensor, Tensor]:
    r"""Move points towards the zero level set by one Newton step, and attach them there.

    A sample that lay on the level set before the parameters took a small step lies close to it
    afterwards. `project` would take a Newton step from it, and `attach` evaluate the field and
    its derivative once more at the end. Both are made of one evaluation here: the value at the
    point moves it, its derivative ties it to the parameters, as in Eq. 9 with c = 0:

    $$p(\theta) = p - s\,D_xF(p;\theta_0)^{+} F(p;\theta_0)
      - D_xF(p;\theta_0)^{+} \bigl[F(p;\theta) - F(p;\theta_0)\bigr].$$

    What it leaves out is of second order in the step. With s = 0 a point stays, on its own level:
    that is `attach` of `Projection.at`.

    Args:
        network: The field; maps `(n, d)` to `(n,)` or `(n, l)`.
        points: Where the samples are, `(n, d)`.
        share: The part s of the Newton step each takes, 0 or 1, `(n,)`.
        max_step: Longest step; a step that is cut leaves its sample on a level of its own.

    Returns:
        The samples, `(n, d)`, differentiable in the parameters, and the levels they are on to
        first order, `(n,)`: 0 after a whole step. For more than one equation all levels are 0.
    """
    leaf = points.detach().clone().requires_grad_()
    values = network(leaf)
    values = values.unsqueeze(1) if values.dim() == 1 else values
    rows = values.unbind(1)
    jacobian = torch.stack(
        [torch.autograd.grad(v.sum(), leaf, retain_graph=True)[0] for v in rows], dim=1
    )
    detached = values.detach()
    step = least_norm(jacobian, detached)
    step = torch.where(step.isfinite().all(1, keepdim=True), step, 0.0)
    length = torch.linalg.vector_norm(step, dim=1)
    damping = share * (max_step / length.clamp(min=max_step))
    levels = (1.0 - damping) * detached[:, 0] if len(rows) == 1 else torch.zeros_like(share)
    moved = points.detach() - damping[:, None] * step
    return moved - least_norm(jacobian, values - detached), levels


def stream(seed: int, epoch: int) -> torch.Generator:
    """Return the generator of one epoch of a training."""
    return torch.Generator().manual_seed(mixed_seed(seed, epoch))


def paper_network(points: Tensor, curve: bool, seed: int) -> nn.Module:
    """Return the paper's network; for a surface it begins as a sphere."""
    axes = points.shape[1]
    # No epoch has this number.
    with private_stream(torch.device("cpu"), seed, 2**32):
        network = fc_1(axes, axes - 1) if curve else fc_2(axes, 1)
    if not curve:
        network = as_sphere(network, axes, stream(seed, 2**32))
    return network.to(points.device)


def as_sphere(network: nn.Module, axes: int, generator: torch.Generator) -> nn.Module:
    """Draw weights with which a network of ReLUs is nearly |x| less a radius, as released.

    Random layers that keep lengths make the sum of the last features grow as |x|; the factor is
    measured on the unit sphere instead of worked out, as skips add to it.
    """
    layers: Sequence[nn.Linear] = [m for m in network.modules() if isinstance(m, nn.Linear)]
    with torch.no_grad():
        for layer in layers[:-1]:
            layer.bias.zero_()
            layer.weight.normal_(0.0, math.sqrt(2.0 / layer.out_features), generator=generator)
        last = layers[-1]
        last.bias.zero_()
        last.weight.normal_(1.0, 1e-4, generator=generator)
        around = torch.randn(1024, axes, generator=generator)
        around = around / around.norm(dim=1, keepdim=True)
        last.weight /= network(around).mean()
        last.bias.sub_(_RADIUS)
    return network
