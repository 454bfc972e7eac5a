"""Losses as text: their names in `levelset.losses`, with options, weights and schedules."""

import ast
import inspect
import re
from typing import Any

from levelset import losses
from levelset._tools.arguments import checked
from levelset.errors import DataError, ParameterError
from levelset.training._cross_entropy import cross_entropy
from levelset.training._objective import Loss, Objective, Term
from levelset.training._schedule import LearningRate, Ramp, Schedule, Steps

__all__ = ["build_loss", "build_schedule", "loss_names"]

_SCHEDULES = {"ramp": Ramp, "steps": Steps}


@checked
def build_loss(spec: str) -> Objective:
    """Return a loss, or a sum of losses, by name.

    Args:
        spec: Such as `cross_entropy`, `hinge(margin=2)` or `robust_distance(radius=0.3)`: a
            function of [`levelset.losses`](losses.md) that takes a model, points and labels. The
            name may be written with `-` for `_`; options are plain Python literals. Several are
            added, each with a number before it where it has a weight:
            `interval_bound(radius=0.3) + 0.5 * robust_distance(radius=0.4)`. In place of a number,
            `ramp({0: 0.01, 50: 0.2})` goes in a line from 0.01 at the start to 0.2 after 50
            epochs, and `steps({50: 0.1})` jumps from 1 to 0.1 there; times may be shares of the
            epochs, as in `ramp({"0%": 0.1, "30%": 0.4})`. Nothing in `spec` is evaluated.

    Returns:
        The loss, for [`train`][levelset.training.train].

    Raises:
        DataError: If there is no such loss, it does not take such options, wants one that is not
            given, or the text cannot be read.

    Example:
        >>> from levelset.training import build_loss
        >>> build_loss("0.5*hinge + robust-distance(radius=ramp({0: 0.1, 10: 0.3}))")
        Objective(0.5 * hinge + robust_distance(radius=ramp({0: 0.1, 10: 0.3})))
    """
    # A hyphen in a name, not a minus: there is none between two losses.
    text = re.sub(r"(?<=[A-Za-z])-(?=[A-Za-z])", "_", spec)
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError) as error:
        raise _unreadable(spec) from error
    return Objective(*(_term(spec, node) for node in _summands(tree)))


@checked
def build_schedule(spec: str) -> LearningRate:
    """Return a schedule of the learning rate from text.

    Args:
        spec: `cosine`, `constant`, or values at some epochs or shares of them, which multiply the
            learning rate: `steps({50: 0.5, 100: 0.25})`, `ramp({"0%": 0.1, "30%": 1, "100%": 0})`.

    Raises:
        DataError: If it is none of them.

    Example:
        >>> from levelset.training import build_schedule
        >>> build_schedule("steps({50: 0.5, 100: 0.25})")
        steps({50: 0.5, 100: 0.25})
    """
    if spec == "cosine":
        return "cosine"
    if spec == "constant":
        return "constant"
    try:
        value = _value(spec, ast.parse(spec.strip(), mode="eval").body)
    except (SyntaxError, ValueError):
        value = None
    if not isinstance(value, Schedule):
        message = (
            f"build_schedule: a schedule is cosine, constant, steps({{50: 0.5, 100: 0.25}}) or "
            f"ramp({{0: 0.1, 5: 1}}), got {spec!r}."
        )
        raise DataError(message)
    return value


def loss_names() -> list[str]:
    """Return the names of the losses that classifiers are trained with."""
    names = {"cross_entropy"}
    for name in losses.__all__:
        function = getattr(losses, name)
        if inspect.isfunction(function):
            first = list(inspect.signature(function).parameters)[:3]
            names |= {name} if first == ["model", "points", "labels"] else set()
    return sorted(names)


def _summands(node: ast.expr) -> list[ast.expr]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return [*_summands(node.left), *_summands(node.right)]
    return [node]


def _term(spec: str, node: ast.expr) -> Term:
    weight: Any = 1.0
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        number, node = node.left, node.right
        if _called(node) in _SCHEDULES or isinstance(node, ast.Constant):
            number, node = node, number
        weight = _value(spec, number)
        if not isinstance(weight, int | float | Schedule):
            raise _unreadable(spec)
    name, options = _called(node), _options(spec, node)
    if name not in loss_names():
        message = (
            f"build_loss: {name or spec!r} is no loss known here. "
            f"Known are: {', '.join(loss_names())}."
        )
        raise DataError(message)
    function = cross_entropy if name == "cross_entropy" else getattr(losses, name)
    _check_options(spec, name, function, options)
    return Term(function, options, weight)


def _called(node: ast.expr) -> str:
    """Return the name in `name` or `name(...)`; empty where it is something else."""
    function = node.func if isinstance(node, ast.Call) else node
    return function.id if isinstance(function, ast.Name) else ""


def _options(spec: str, node: ast.expr) -> dict[str, Any]:
    """Return the options in brackets; those without a name by an empty one."""
    if not isinstance(node, ast.Call):
        return {}
    pairs = [("", argument) for argument in node.args]
    pairs += [(keyword.arg or "", keyword.value) for keyword in node.keywords]
    return {key: _value(spec, value) for key, value in pairs}


def _value(spec: str, node: ast.expr) -> Any:
    """Return a literal, or a schedule made of literals."""
    name = _called(node)
    try:
        if isinstance(node, ast.Call) and name in _SCHEDULES and len(node.args) == 1:
            return _SCHEDULES[name](ast.literal_eval(node.args[0]))
        return ast.literal_eval(node)
    except ParameterError as error:
        message = f"build_loss: {spec!r} has a schedule that cannot be: {error}"
        raise DataError(message) from error
    except ValueError as error:
        message = (
            f"build_loss: the options of {spec!r} must be plain literals such as 0.3 or "
            f'"project", or a schedule such as ramp({{0: 0.1, 50: 0.4}}), got {ast.unparse(node)}.'
        )
        raise DataError(message) from error


def _check_options(spec: str, name: str, function: Loss, options: dict[str, Any]) -> None:
    """Refuse options that the loss does not take, and one that it needs and has not."""
    parameters = inspect.signature(function).parameters
    takes = [p.name for p in parameters.values() if p.kind is p.KEYWORD_ONLY and p.name != "watch"]
    wrong = [option or "options without a name" for option in options if option not in takes]
    if wrong:
        known = ", ".join(takes) or "none"
        message = f"build_loss: {spec!r} has {wrong[0]}; {name} takes the options: {known}."
        raise DataError(message)
    missing = [o for o in takes if parameters[o].default is inspect.Parameter.empty]
    missing = [option for option in missing if option not in options]
    if missing:
        example = f"{name}({', '.join(f'{option}=...' for option in missing)})"
        message = f"build_loss: {name} needs `{missing[0]}`, got {spec!r}. Write {example!r}."
        raise DataError(message)


def _unreadable(spec: str) -> DataError:
    message = (
        f"build_loss: {spec!r} cannot be read. Write a loss, as `hinge(margin=2)`, or a sum of "
        "them with weights, as `0.5 * hinge + robust_distance(radius=0.3)`."
    )
    return DataError(message)
