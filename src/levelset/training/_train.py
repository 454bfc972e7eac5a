"""Training a classifier: what a user calls."""

import hashlib
import math
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from levelset._tools.arguments import checked
from levelset._tools.checks import check_at_least_one, check_positive
from levelset._tools.locks import sole_user
from levelset._tools.random import draw_seed, private_stream
from levelset._tools.stops import finishing, postpone, stop_asked
from levelset._typing import Progress
from levelset.errors import LevelSetError, NotConvergedError, ParameterError
from levelset.training._augmentation import Augmentation, check_images, warn_of_searches
from levelset.training._checkpoint import Checkpoint, Options, Store
from levelset.training._cross_entropy import cross_entropy
from levelset.training._data import Examples, check_examples, fingerprint, warn_of_missing
from levelset.training._history import Epoch, History, Watch
from levelset.training._logs import check_tensorboard
from levelset.training._loop import (
    OPTIMIZERS,
    Loop,
    Optimizer,
    Statistics,
    in_training,
    share_right,
)
from levelset.training._objective import Loss, Objective
from levelset.training._precision import Precision, check_precision
from levelset.training._ranks import Ranks, warn_of_batches
from levelset.training._schedule import LearningRate

__all__ = ["train"]


@checked
def train(
    model: nn.Module,
    data: Examples,
    *,
    loss: Loss = cross_entropy,
    epochs: int,
    optimizer: Optimizer = "adamw",
    learning_rate: float = 1e-3,
    weight_decay: float = 1e-4,
    schedule: LearningRate = "cosine",
    clip_norm: float | None = None,
    batch_size: int = 128,
    statistics: Statistics = "running",
    precision: Precision = "full",
    augmentation: Augmentation | None = None,
    held_out: Examples | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    tensorboard: bool = False,
    generator: torch.Generator | None = None,
    progress: Progress | None = None,
    watch: Watch | None = None,
) -> History:
    r"""Train a classifier in place, on shuffled batches.

    The one function that changes the model it is given: parameters that require a gradient, and
    buffers such as BatchNorm's. Training flags, `requires_grad` and `.grad` come back as they were
    found. It does not draw initial weights: [`initialise`][levelset.training.initialise] does.

    All randomness, the shuffling and what layers such as Dropout draw, follows from one draw of
    `generator`; torch's global generator is left alone if one is given. The same seed on the same
    machine with the same number of threads gives the same weights bit for bit, and so does a run
    that was stopped anywhere and resumed.

    Where `torch.distributed` is set up, as by `torchrun`, its processes train together: each calls
    `train` with the same arguments, takes its share of the rows of every batch, and ends with the
    same weights, which are those of one process to rounding. The first one writes; a run is resumed
    by any number of processes. Each layer of BatchNorm normalises by its process's share of a
    batch, and Dropout draws alike in all.

    With `out`, a folder, `checkpoint.safetensors` is written before the first epoch and after
    each, whole or not at all, and `log.csv` with a row an epoch; at the end `weights.safetensors`,
    the state of the model, and `history.json`. A run in progress is not overwritten: it is
    resumed, or refused, by the name of what differs: loss, schedules, optimiser, model or data.

    Training stops as soon as the loss, a gradient or a parameter is no longer finite: the message
    names the term of the loss that broke, and the last good checkpoint.

    Cost: one forward and backward pass of `loss` a step, and a forward pass of the model where
    `loss` never asks it about the batch as it is. Each checkpoint writes three times the model.

    Args:
        model: Maps `(n, *d)` to logits `(n, k)`.
        data: Points `(n, *d)` and labels `(n,)`, on the device of the model.
        loss: Maps `(model, points, labels)` of one batch to a scalar with a gradient; or an
            [`Objective`][levelset.training.Objective], a sum of losses whose numbers may follow
            schedules, such as [`build_loss`][levelset.training.build_loss] returns.
        epochs: How often each point is seen.
        optimizer: `"adamw"`, `"adam"`, `"sgd"`; `"momentum"` or `"nesterov"`: SGD with that kind
            of momentum, 0.9.
        learning_rate: Before the schedule.
        weight_decay: On all parameters: AdamW's own, of the others a term of the gradient.
        schedule: `"cosine"`: a linear rise over a 20th of the steps, then half a cosine to 0;
            `"constant"`; or factors by the epoch, as [`Steps`][levelset.training.Steps] or
            [`Ramp`][levelset.training.Ramp].
        clip_norm: Largest L2 norm of a step's gradient, all parameters together: a longer one is
            shortened to it. `None` for no limit.
        batch_size: Most points a step.
        statistics: What BatchNorm layers normalise by where a loss evaluates the model in
            evaluation mode, to find samples of level sets and to tie them to the parameters, alike:
            `"running"` or those of the `"batch"` of inputs. Training mode, as for the plain
            cross-entropy, is left as it is. A ConvNet with three BatchNorm layers (3,000 MNIST
            images, 8 epochs of cross-entropy and robust distance to a radius of 0.2, two seeds)
            withstood 0.1 on 60 and 55 % of test images by the running ones, on 25 and 11 % by
            those of the batch, whose field is not the one that is tested: its accuracy there
            fell to 36 % in between.
        precision: `"full"`, that of parameters and points; or `"bfloat16"`: the loss evaluates the
            model with products and convolutions in 16 bits; parameters, logits, gradients and
            steps stay in float32. Where a processor multiplies in bfloat16, a step of ConvNet-4a by
            the cross-entropy or by `adversarial` takes about half the time.
        augmentation: Shifts and reflections of images, drawn anew each time that one is seen; a
            search that goes on from where it ended moves along with its image, but few steps may
            then miss what is there, of which a `LevelSetWarning` warns. `None` for images as they
            are.
        held_out: Classified after each epoch; never trained on.
        out: Folder for checkpoints and weights; `None` keeps all in memory.
        resume: Go on from the checkpoint in `out`; from the start if there is none. A generator
            that is given must be seeded as before; `None` takes the run's own seed.
        tensorboard: Write event files for TensorBoard to `out/tensorboard` too.
        generator: Draws one number, the seed of all; `None` for torch's global generator.
        progress: Called as `progress(steps, all_steps)` after each step.
        watch: Called with the [`Health`][levelset.training.Health] after each step.

    Returns:
        Loss, accuracies, terms, samples and time of every epoch, those before a resume included.

    Raises:
        DataError: If the data are empty, or hold NaN or infinity.
        ShapeError: If points or labels have another shape or dtype, or lie on another device; or an
            augmentation gets points that are no images.
        ParameterError: If an option is out of range, or a label outside the model's classes.
        FieldError: If the model returns something else than `(n, k)`, or `loss` than a scalar with
            a gradient.
        NotConvergedError: If the loss, a gradient or a parameter is no longer finite. The model
            keeps what the steps so far made of it, the last checkpoint stays.
        RunError: If `out` cannot be written, holds a run already, or one of other settings, or a
            damaged checkpoint, or another process is at work in it.
        MissingExtraError: If `tensorboard` is wanted and not installed.

    Example:
        >>> import torch
        >>> from levelset.datasets import Images
        >>> from levelset.networks import fc
        >>> from levelset.training import initialise, train
        >>> generator = torch.Generator().manual_seed(0)
        >>> points = torch.rand(100, 2, generator=generator)
        >>> data = Images(points, (points[:, 0] > 0.5).long(), ("left", "right"), "halves")
        >>> network = initialise(fc(2, 2), generator=generator)
        >>> history = train(network, data, epochs=20, learning_rate=0.1, generator=generator)
        >>> len(history), bool(history.accuracy[-1] > 0.9)
        (20, True)

    References:
        - I. Loshchilov, F. Hutter, "Decoupled Weight Decay Regularization", ICLR 2019: AdamW.
    """
    options: Options = {
        "epochs": epochs,
        "optimizer": optimizer,
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
        "schedule": str(schedule),
        "clip_norm": clip_norm,
        "batch_size": batch_size,
        "statistics": statistics,
        "precision": precision,
        "augmentation": None if augmentation is None else str(augmentation),
    }
    check_at_least_one("train", "epochs", epochs)
    check_positive("train", "learning_rate", learning_rate)
    if clip_norm is not None:
        check_positive("train", "clip_norm", clip_norm)
    if not (math.isfinite(weight_decay) and weight_decay >= 0):
        message = f"train: `weight_decay` must be 0 or positive, got {weight_decay}."
        raise ParameterError(message)
    _check_folder(out, resume=resume, tensorboard=tensorboard)
    objective, parameters = Objective.of(loss), _trainable(model)
    classes = check_examples(model, data, "data")
    if held_out is not None:
        check_examples(model, held_out, "held_out")
    warn_of_missing(data, classes)
    if augmentation is not None:
        check_images(augmentation, data.points)
        warn_of_searches(objective.resuming)
    check_precision(model, data.points, precision)
    stepper = OPTIMIZERS[optimizer](parameters, lr=learning_rate, weight_decay=weight_decay)
    ranks = Ranks.here()
    loop = Loop(
        model, data, objective, stepper, learning_rate, schedule, clip_norm, batch_size, statistics,
        precision, augmentation, epochs, progress, watch, ranks,
    )  # fmt: skip
    warn_of_batches(model, ranks)
    ranks.share_state(model)
    if out is None:
        return _run(loop, held_out, None, ranks.gathered(draw_seed(generator))[0], ())
    identity = options | _identity(model, objective, data, held_out)
    store = Store(Path(out), identity, model, stepper, tensorboard, loop.starts)
    with ExitStack() as stack:

        def begin() -> tuple[int, tuple[Epoch, ...], Checkpoint | None]:
            stack.enter_context(sole_user("train", store.folder))
            seed, epochs = store.begin(generator, resume=resume)
            return seed, epochs, store.state(seed) if ranks.count > 1 else None

        seed, epochs_done, state = ranks.of_first(begin)
        if state is not None and not ranks.is_first:
            store.restore(state)
        history = _run(loop, held_out, store, seed, epochs_done)
        if ranks.is_first:
            store.finish(history)
    return history


def _run(
    loop: Loop,
    held_out: Examples | None,
    store: Store | None,
    seed: int,
    epochs: tuple[Epoch, ...],
) -> History:
    """Go on after the `epochs` done, to the last, keeping each in the store."""
    device, ranks = loop.data.points.device, loop.ranks
    writer = store if ranks.is_first else None
    logging = nullcontext(lambda epochs: None) if writer is None else writer.logging(epochs)
    with in_training(loop.model), logging as log:
        for index in range(len(epochs), loop.epochs):
            start = time.perf_counter()
            with nullcontext() if store is None else finishing():
                with private_stream(device, seed, index), _failures(loop, writer, index):
                    epoch = loop.epoch(index)
                score = math.nan if held_out is None else share_right(loop.model, held_out, ranks)
                seconds = time.perf_counter() - start
                epochs = (*epochs, replace(epoch, held_out=score, seconds=seconds))
                if writer is not None:
                    writer.keep(seed, epochs)
                if any(ranks.gathered(stop_asked())):
                    postpone()  # where one process stops, all do
                log(epochs)
    return History.of(epochs)


@contextmanager
def _failures(loop: Loop, store: Store | None, done: int) -> Iterator[None]:
    """Name the last good checkpoint when numbers break; leave no run whose first step failed."""
    try:
        yield
    except NotConvergedError as error:
        if store is None:
            raise
        message = f"{error} {store.last_good(done)}"
        raise NotConvergedError(message) from error
    except LevelSetError:
        if store is not None and not loop.steps_done:
            store.discard()
        raise


def _trainable(model: nn.Module) -> list[nn.Parameter]:
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        message = (
            "train: `model` must have a parameter that requires a gradient, got none. "
            "Thaw it with `model.requires_grad_()`."
        )
        raise ParameterError(message)
    return parameters


def _identity(
    model: nn.Module, objective: Objective, data: Examples, held_out: Examples | None
) -> Options:
    """Return what tells one training from another, beside its options."""
    return {
        "loss": str(objective),
        "model": _describe_model(model),
        "data": fingerprint(data),
        "held_out": None if held_out is None else fingerprint(held_out),
    }


def _check_folder(out: str | Path | None, *, resume: bool, tensorboard: bool) -> None:
    for name, wanted in (("resume", resume), ("tensorboard", tensorboard)):
        if wanted and out is None:
            message = f"train: `{name}` needs the folder of the run, got out=None. Give `out`."
            raise ParameterError(message)
    if tensorboard:
        check_tensorboard()


def _describe_model(model: nn.Module) -> str:
    """Return the kind and size of a model, and a hash of the names and shapes of its state."""
    state = {k: (tuple(v.shape), str(v.dtype)) for k, v in model.state_dict().items()}
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    digest = hashlib.sha256(repr((state, trained)).encode()).hexdigest()[:8]
    size = sum(p.numel() for p in model.parameters())
    return f"{type(model).__name__} with {size} parameters, layout {digest}"
