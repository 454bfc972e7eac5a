"""Errors have two parents: ours, and one that everybody knows."""

import inspect

import pytest

from levelset import errors

PARENTS = {
    "BracketError": ValueError,
    "DataError": ValueError,
    "FieldError": ValueError,
    "MissingExtraError": ImportError,
    "NotConvergedError": RuntimeError,
    "ParameterError": ValueError,
    "RunError": RuntimeError,
    "ShapeError": ValueError,
}


@pytest.mark.parametrize("name", PARENTS)
def test_each_error_is_caught_by_both_its_parents(name):
    error = getattr(errors, name)
    assert error.__bases__ == (errors.LevelSetError, PARENTS[name])
    for parent in (errors.LevelSetError, PARENTS[name]):
        with pytest.raises(parent, match="what was wrong"):
            raise error("what was wrong")


@pytest.mark.parametrize("name", ["ModeWarning", "PrecisionWarning"])
def test_warnings_are_told_apart_from_those_of_others(name):
    warning = getattr(errors, name)
    assert warning.__bases__ == (errors.LevelSetWarning,)
    assert issubclass(warning, UserWarning)


def test_nothing_is_left_out():
    classes = {
        name for name, thing in vars(errors).items()
        if inspect.isclass(thing) and thing.__module__ == errors.__name__
    }  # fmt: skip
    assert classes == set(errors.__all__)
    assert classes == set(PARENTS) | {
        "LevelSetError", "LevelSetWarning", "ModeWarning", "NoGradientError", "PrecisionWarning",
    }  # fmt: skip
    assert errors.NoGradientError.__bases__ == (errors.FieldError,)
    assert all(inspect.getdoc(getattr(errors, name)) for name in classes)
