"""What can go wrong, as exceptions and warnings.

Each error has a second, builtin parent, so that `except ValueError` works without knowing us.
"""

__all__ = [
    "BracketError",
    "DataError",
    "FieldError",
    "LevelSetError",
    "LevelSetWarning",
    "MissingExtraError",
    "ModeWarning",
    "NoGradientError",
    "NotConvergedError",
    "ParameterError",
    "PrecisionWarning",
    "RunError",
    "ShapeError",
]


class LevelSetError(Exception):
    """Parent of every error that this package raises on purpose."""


class ShapeError(LevelSetError, ValueError):
    """An array has the wrong shape, dtype, device or length."""


class FieldError(LevelSetError, ValueError):
    """A callable breaks the contract of a field: shape, finite values, gradient, rows apart."""


class NoGradientError(FieldError):
    """A field has no gradient to follow: none at all, or zero wherever it was asked for one."""


class ParameterError(LevelSetError, ValueError):
    """An option is out of its range."""


class BracketError(LevelSetError, ValueError):
    """Both ends of a segment lie on the same side of the level set."""


class DataError(LevelSetError, ValueError):
    """Data or weights on disk are missing, damaged, unsafe, or not what they say."""


class RunError(LevelSetError, RuntimeError):
    """A folder of results cannot be written, or cannot be resumed."""


class NotConvergedError(LevelSetError, RuntimeError):
    """Points missed the level set, and the caller asked to be told."""


class MissingExtraError(LevelSetError, ImportError):
    """An optional dependency is absent; the message names the extra that brings it."""


class LevelSetWarning(UserWarning):
    """Parent of every warning that this package gives: something the caller can mend."""


class ModeWarning(LevelSetWarning):
    """A field is in training mode where its layers couple rows or draw random numbers."""


class PrecisionWarning(LevelSetWarning):
    """A tolerance is finer than the dtype of the points can resolve, or than was reached."""
