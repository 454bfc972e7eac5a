"""A recorded training, read from its folder one stretch of steps at a time."""

import bisect
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from levelset._recording._files import damaged, read_tensors, unpacked
from levelset._recording._rule import Rule
from levelset._recording._steps import Steps, bits_of
from levelset._tools.arguments import checked
from levelset._tools.checks import check_same_rows
from levelset._tools.digests import checksum
from levelset._tools.modes import evaluating
from levelset._tools.results import Result
from levelset._typing import Summary
from levelset.errors import DataError, FieldError, ParameterError

__all__ = [
    "FORMAT", "LOSSES", "MANIFEST", "Loss", "Plan", "Recording", "Shard", "fingerprint", "identify",
    "layout_of", "logits_matrix", "read_manifest", "with_data",
]  # fmt: skip

Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""What is lowered: `(logits (n, k), labels (n,))` to one number with a gradient."""


def _squared_error(logits: Tensor, labels: Tensor) -> Tensor:
    """Return half the squared distance to the label's unit vector; of one output, to the label."""
    wanted = labels.to(logits).unsqueeze(1) if logits.shape[1] == 1 else _one_hot(logits, labels)
    return 0.5 * (logits - wanted).square().sum(1).mean()


def _one_hot(logits: Tensor, labels: Tensor) -> Tensor:
    return functional.one_hot(labels, logits.shape[1]).to(logits)


def _binary_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(logits[:, 0], labels.to(logits))


LOSSES: dict[str, Loss] = {
    "cross_entropy": functional.cross_entropy,
    "binary_cross_entropy": _binary_cross_entropy,
    "squared_error": _squared_error,
}
"""The losses that a recording knows by name."""

FORMAT = 3
MANIFEST = "recording.json"


@dataclass(frozen=True)
class Plan:
    """What one training does, and what is kept of it: equal for two runs that end alike.

    Attributes:
        steps: How many.
        learning_rate: Before the schedule.
        schedule: What it is multiplied by, in words.
        rule: The optimiser's rule.
        batch_size: Points a step; `None` for all.
        loss: Name of the loss.
        every: The path has the state after each `every` steps, and is straight between them.
        stride: A state is written after each `stride` steps, with what the optimiser remembers; the
            steps between are taken again when the path is read.
        half: Whether differences are kept in half precision.
        seed: Of the order of the points.
        model: Names, shapes and dtype of the weights, as a hash.
        data: Hash of points and labels.
        points: How many training points.
    """

    steps: int
    learning_rate: float
    schedule: str
    rule: Rule
    batch_size: int | None
    loss: str
    every: int
    stride: int
    half: bool
    seed: int
    model: str
    data: str
    points: int

    def to_json(self) -> dict[str, Any]:
        """Return the plan, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Plan":
        """Return the plan that was written."""
        rule = content["rule"] | {"betas": tuple(content["rule"]["betas"])}
        return cls(**(content | {"rule": Rule(**rule)}))


@dataclass(frozen=True, eq=False)
class Shard:
    """A stretch of steps.

    Attributes:
        first: Number of its first step.
        numbers: The steps before which the states are kept, `(t + 1,)`, ascending.
        rates: The learning rate of each step, `(steps,)`.
        weights: The states, `(t + 1, p)`: a row a kept state, the end of the stretch among them.
        rows: The training points of each step, `(steps, b)`, -1 where a batch is smaller; `None`
            where every step has all.
    """

    first: int
    numbers: list[int]
    rates: list[float]
    weights: Tensor
    rows: Tensor | None

    def state(self, step: int) -> Tensor:
        """Return the weights before a step, `(p,)`: on the segment between the kept states."""
        index = bisect.bisect_left(self.numbers, step)
        if self.numbers[index] == step:
            return self.weights[index]
        low, high = self.numbers[index - 1 : index + 1]
        share = (step - low) / (high - low)
        return torch.lerp(self.weights[index - 1], self.weights[index], share)

    def rate(self, step: int) -> float:
        """Return the learning rate of a step."""
        return self.rates[step - self.first]

    def batch(self, step: int) -> Tensor | None:
        """Return the training points of a step, `(b,)`; `None` for all."""
        if self.rows is None:
            return None
        rows = self.rows[step - self.first].long()
        return rows[rows >= 0]


def layout_of(model: nn.Module) -> dict[str, torch.Size]:
    """Return the names and shapes of the weights that are trained, in the order of the path."""
    return {name: p.shape for name, p in model.named_parameters() if p.requires_grad}


def identify(model: nn.Module) -> str:
    """Return what tells a model's weights from another's: kind, size, and a hash of the layout."""
    layout = {name: tuple(shape) for name, shape in layout_of(model).items()}
    dtypes = sorted({str(p.dtype) for p in model.parameters()})
    size = sum(p.numel() for p in model.parameters())
    return f"{size} parameters, layout {checksum(repr((layout, dtypes)), {})[:8]}"


def fingerprint(points: Tensor, labels: Tensor) -> str:
    """Return 16 hexadecimal digits that change with any point or label, or with their order."""
    return checksum("", {"points": points, "labels": labels})[:16]


def logits_matrix(out: Any) -> Tensor:
    """Return what a model returned as `(n, k)`; one output a point becomes a column.

    Raises:
        FieldError: If it is something else.
    """
    if isinstance(out, Tensor) and out.is_floating_point() and out.dim() in (1, 2):
        return out if out.dim() == 2 else out.unsqueeze(1)
    got = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
    message = f"record: `model` must map (n, *d) to logits (n, k), got {got}."
    raise FieldError(message)


@dataclass(frozen=True, eq=False, repr=False)
class Recording(Result):
    """A training with the path of its weights, in a folder.

    It comes from [`record`][levelset.training.record], or from a folder by `Recording.read`.

    Attributes:
        folder: Where it is: `recording.json`, `shard-*.safetensors` and `state.safetensors`.
        model: The network, with the weights at the end of the path.
        loss: What was lowered, of logits and labels.
        plan: What the training did.
        rounding: Largest difference between a weight and what is kept of it, over the path, as a
            share of the way from start to end; what is lost by keeping a part.
        layout: Names and shapes of the weights that were trained, in the order of the path.
        data: The training points, `(n, *d)`, and their labels, `(n,)`, if they are at hand.
    """

    folder: Path
    model: nn.Module
    loss: Loss
    plan: Plan
    rounding: float
    layout: dict[str, torch.Size]
    data: tuple[Tensor, Tensor] | None = None

    _headline = ("steps", "parameters", "points", "shards", "rounding")

    @property
    def steps(self) -> int:
        """Number of steps."""
        return self.plan.steps

    def summary(self) -> Summary:
        """Return the size of the recording, and how exact it is, ready for JSON."""
        files = self._shards()
        return {
            "steps": self.plan.steps,
            "points": self.plan.points,
            "parameters": sum(shape.numel() for shape in self.layout.values()),
            "shards": len(files),
            "bytes": sum(path.stat().st_size for path in files),
            "every": self.plan.every,
            "stride": self.plan.stride,
            "rounding": self.rounding,
        }

    @classmethod
    @checked
    def read(
        cls, folder: str | Path, model: nn.Module, *, loss: Callable[..., Tensor] | None = None,
        points: Tensor | None = None, labels: Tensor | None = None,
    ) -> "Recording":  # fmt: skip
        """Return the recording in a folder, and put the model into the state at its end.

        Args:
            folder: What `record` wrote.
            model: A network of the same kind; its weights and buffers are replaced.
            loss: The loss of the recording, if it was a function of the caller's.
            points: The training points, `(n, *d)`: to read the steps of small batches, which are
                taken again. A `PathKernel` has them.
            labels: Theirs, `(n,)`.

        Raises:
            DataError: If steps are missing or damaged, named, or the training was stopped.
            ParameterError: If the model is of another kind, the loss must be given, or the points
                or labels are not the recording's.
        """
        folder = Path(folder)
        content = read_manifest(folder)
        plan = Plan.from_json(content["plan"])
        if identify(model) != plan.model:
            message = (
                f"Recording.read: `model` must be the network of the recording ({plan.model}), got "
                f"{identify(model)}."
            )
            raise ParameterError(message)
        known = LOSSES.get(plan.loss) if loss is None else loss
        if known is None:
            message = (
                f"Recording.read: `loss` must be given, as the recording's ({plan.loss}) is a "
                f"function of its own. Known by name: {', '.join(LOSSES)}."
            )
            raise ParameterError(message)
        if "rounding" not in content:
            message = (
                f"Recording.read: the training in {folder} was stopped before its end. Go on with "
                "`record(..., resume=True)`."
            )
            raise DataError(message)
        recording = cls(folder, model, known, plan, content["rounding"], layout_of(model))
        recording._check_shards()
        if points is not None and labels is not None:
            recording = with_data("Recording.read", recording, points, labels)
        # Last, so that a model is as it was where something is refused.
        state = read_tensors(folder / "state.safetensors")[1]
        model.load_state_dict({k[6:]: v for k, v in state.items() if k.startswith("model.")})
        return recording

    def shards(self, *, backwards: bool = False) -> Iterator[Shard]:
        """Yield the stretches of steps, in order, or from the last to the first.

        Cost: where a state is written after several steps only, that of the training itself.

        Raises:
            DataError: If one is missing or damaged, or steps taken again end elsewhere.
        """
        self._check_shards()
        files = self._shards()
        for path in reversed(files) if backwards else files:
            shard, memory = self._read(path)
            yield shard if self.plan.stride == 1 else self._filled(shard, memory)

    def start(self) -> Tensor:
        """Return the weights before the first step, `(p,)`."""
        self._check_shards()
        return self._read(self._shards()[0])[0].weights[0]

    def end(self) -> Tensor:
        """Return the weights after the last step, `(p,)`, as they are kept."""
        self._check_shards()
        return self._read(self._shards()[-1])[0].weights[-1]

    def named(self, weights: Tensor) -> dict[str, Tensor]:
        """Return the weights of a state by their names, each in its shape; views."""
        parts = torch.split(weights, [shape.numel() for shape in self.layout.values()])
        return {
            name: part.view(shape)
            for (name, shape), part in zip(self.layout.items(), parts, strict=True)
        }

    def _shards(self) -> list[Path]:
        return sorted(self.folder.glob("shard-*.safetensors"))

    def _check_shards(self) -> None:
        """Refuse a recording whose steps are not all there, by the names of the files."""
        step = 0
        for path in self._shards():
            first, last = (int(part) for part in path.stem.split("-")[1:])
            if first != step:
                break
            step = last
        if step != self.plan.steps:
            message = (
                f"Recording: steps {step} to {self.plan.steps - 1} are missing in {self.folder}: "
                f"there is no file shard-{step:07d}-*.safetensors. Record again, or resume."
            )
            raise DataError(message)

    def _read(self, path: Path) -> tuple[Shard, Tensor]:
        """Return a stretch as it is written, and the optimiser's memory at its states."""
        metadata, tensors = read_tensors(path)
        first, every, last = (int(metadata[name]) for name in ("first", "every", "last"))
        numbers = [*range(first, last, every), last]
        start, rows = tensors["start"], tensors.get("rows")
        weights, memory = self._states(start, tensors["differences"], tensors.get("scales"))
        device = next(self.model.parameters()).device
        shard = Shard(
            first, numbers, tensors["rates"].tolist(), weights.to(device),
            None if rows is None else rows.to(device),
        )  # fmt: skip
        first_memory = tensors.get("memory", start.new_zeros(0, len(start)))
        return shard, torch.cat([first_memory.unsqueeze(0), memory]).to(device)

    def _states(
        self, start: Tensor, differences: Tensor, scales: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return states `(t + 1, p)` of the differences from each to the next, and memories."""
        p = len(start)
        weights = start.new_empty(len(differences) + 1, p)
        weights[0] = start
        if scales is None:
            bits = bits_of(weights)
            for index, difference in enumerate(differences):
                torch.add(bits[index], difference[:p], out=bits[index + 1])
            memory = differences[:, p:].contiguous().view(start.dtype)
            return weights, memory.view(len(differences), -1, p)
        sizes = [shape.numel() for shape in self.layout.values()]
        for index, difference in enumerate(differences):
            weights[index + 1] = weights[index] + unpacked(difference, scales[index], sizes, start)
        return weights, start.new_zeros(len(differences), 0, p)

    def _filled(self, shard: Shard, memory: Tensor) -> Shard:
        """Return a stretch with the steps between its states, which are taken again."""
        if self.data is None:
            message = (
                "Recording: the steps between the states that are kept are taken again, for which "
                "the training points are needed. Give `points` and `labels` to `Recording.read`."
            )
            raise DataError(message)
        numbers = list(range(shard.numbers[0], shard.numbers[-1] + 1))
        weights = shard.weights.new_empty(len(numbers), shard.weights.shape[1])
        moving = torch.empty_like(weights[0])
        names = self.named(moving)
        parameters = [nn.Parameter(part) for part in names.values()]
        by_name: dict[str, Tensor] = dict(zip(names, parameters, strict=True))
        steps = Steps(
            parameters,
            lambda points: logits_matrix(functional_call(self.model, by_name, (points,))),
            self.loss, self.plan.rule,
        )  # fmt: skip
        with evaluating(self.model):
            for index, number in enumerate(shard.numbers):
                if index:
                    _check_arrival(shard, index, moving)
                moving.copy_(shard.weights[index])
                weights[number - shard.first] = moving
                steps.remember(number, memory[index])
                for step in range(number, shard.numbers[index + 1]) if number < numbers[-1] else ():
                    steps.differentiate(*self.data, shard.batch(step))
                    steps.move(shard.rate(step))
                    weights[step + 1 - shard.first] = moving
        return replace(shard, numbers=numbers, weights=weights)


def _check_arrival(shard: Shard, index: int, weights: Tensor) -> None:
    """Refuse steps that were taken again and do not arrive at the state that was written."""
    before, after = shard.weights[index - 1 : index + 1]
    off, way = float((weights - after).norm()), float((after - before).norm())
    if not off <= 0.01 * way + 1e3 * torch.finfo(after.dtype).eps * float(after.norm()):
        message = (
            f"Recording: steps {shard.numbers[index - 1]} to {shard.numbers[index] - 1}, taken "
            f"again, end {off / way if way else off:.2g} of their way from where they ended. The "
            "buffers, frozen weights or `loss` of the network are not those of the recording."
        )
        raise DataError(message)


def with_data(function: str, recording: Recording, points: Tensor, labels: Tensor) -> Recording:
    """Return a recording with its training points, if they are its own.

    Raises:
        ShapeError: If points and labels do not fit together.
        ParameterError: If they are not those of the recording.
    """
    check_same_rows(function, points, labels, "labels")
    if len(points) != recording.plan.points:
        message = (
            f"{function}: `points` must be the {recording.plan.points} training points of the "
            f"recording, got {len(points)}."
        )
        raise ParameterError(message)
    if fingerprint(points, labels) != recording.plan.data:
        message = (
            f"{function}: `points` and `labels` must be those of the recording, in its order, but "
            "they differ from them. Give the very tensors that `record` was given."
        )
        raise ParameterError(message)
    return replace(recording, data=(points, labels))


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return what `recording.json` of a folder says."""
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version = content["format"]
    except FileNotFoundError as error:
        message = f"Recording: {folder} has no recording: {MANIFEST} is missing."
        raise DataError(message) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise damaged(path, str(error)) from error
    if version != FORMAT:
        raise damaged(path, "it was written by another version of levelset")
    return content
