"""The words of a command, checked before anything slow is imported: what is wrong, what was meant.

tyro turns words into options and writes the help; it knows neither near misses nor the other ways
in which a norm or a method may be written.
"""

import difflib
import math
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from levelset.errors import ParameterError

__all__ = ["UsageError", "check_name", "check_words", "closest", "count", "number", "text"]


class UsageError(ParameterError):
    """The words of a command are wrong: the message says which, and the exit code is 2."""


def count(default: Any = MISSING, *, least: int = 1) -> Any:
    """Return a field of a command that must be `least` or more where it is given."""
    return field(default=default, metadata={"least": least})


def text(*names: str) -> Any:
    """Return a field of a command, by default `None`, that takes some names and other text."""
    return field(default=None, metadata={"names": names})


def closest(word: str, known: Iterable[str]) -> str:
    """Return ` Did you mean X?` for the known word nearest to `word`, or nothing."""
    by_key = {_key(one): one for one in known}
    near = difflib.get_close_matches(_key(word), by_key, n=1, cutoff=0.6)
    return f" Did you mean {by_key[near[0]]}?" if near else ""


def number(flag: str, word: str) -> float:
    """Return the number that a word writes, a fraction such as 8/255 among them.

    Raises:
        UsageError: If it writes none, or one that is not positive and finite.
    """
    try:
        value = float(Fraction(word.strip())) if "/" in word else float(word)
    except (ValueError, ZeroDivisionError):
        value = math.nan
    if not 0 < value < math.inf:
        message = f"{flag} must be a positive number, such as 0.3 or 8/255, got {word!r}."
        raise UsageError(message)
    return value


def check_name(flag: str, word: str, known: Sequence[str], also: str = "") -> None:
    """Refuse a bare name that is not among those known; `also` says what else may be given.

    Raises:
        UsageError: If `word` looks like a name, not like a path or `module:callable`, and is none.
    """
    name = word.partition("(")[0].strip()
    if name.replace("-", "_") not in known and name.replace("-", "_").isidentifier():
        near = closest(name, known)
        message = f"{flag}: there is no {word!r}.{near} Known are {', '.join(known)}{also}."
        raise UsageError(message)


@dataclass(frozen=True)
class _Option:
    """What one option of a command takes: words of a kind, or some of a few choices."""

    flag: str
    kind: Any
    choices: tuple[str, ...]
    several: bool
    least: int | None
    names: tuple[str, ...]

    @classmethod
    def of(cls, name: str, hint: Any, metadata: Mapping[Any, Any]) -> "_Option":
        """Return what the field `name` of a command takes, by its type."""
        if get_origin(hint) in (Union, types.UnionType):
            (hint,) = (part for part in get_args(hint) if part is not type(None))
        several = get_origin(hint) is tuple
        kind = get_args(hint)[0] if several else hint
        choices = get_args(kind) if get_origin(kind) is Literal else ()
        least, names = metadata.get("least"), metadata.get("names", ())
        return cls("--" + name.replace("_", "-"), kind, choices, several, least, names)

    def checked(self, word: str) -> str:
        """Return the word as tyro takes it."""
        if self.choices:
            return self._chosen(word)
        if self.names:
            check_name(self.flag, word, self.names)
        if self.kind in (int, float):
            self._check_number(word)
        # words may be paths too, as that of --data
        return str(Path(word).expanduser()) if self.kind is Path or word.startswith("~") else word

    def _chosen(self, word: str) -> str:
        by_key = {_key(choice): choice for choice in self.choices}
        if _key(word) in by_key:
            return by_key[_key(word)]
        message = (
            f"{self.flag} must be {'among' if self.several else 'one of'} "
            f"{', '.join(self.choices)}, got {word!r}.{closest(word, self.choices)}"
        )
        raise UsageError(message)

    def _check_number(self, word: str) -> None:
        try:
            value = self.kind(word)
        except ValueError:
            value = math.nan
        if math.isnan(value):
            what = "a whole number" if self.kind is int else "a number"
            raise UsageError(f"{self.flag} must be {what}, got {word!r}.")
        if self.least is not None and value < self.least:
            raise UsageError(f"{self.flag} must be at least {self.least}, got {word}.")


def check_words(prog: str, command: type, words: Sequence[str]) -> list[str]:
    """Return the words as tyro takes them, near misses of spelling put right.

    Raises:
        UsageError: If an option or a choice is unknown, a number is none, or a value is missing.
    """
    if "-h" in words or "--help" in words:
        return list(words)
    options, positional = _options(command)
    checked: list[str] = []
    for flag, values in _groups(words, options):
        if flag is None:
            if values and positional is None:
                raise UsageError(f"{prog}: {values[0]!r} belongs to no option.")
            checked += [positional.checked(value) if positional else value for value in values]
            continue
        if flag not in options:
            message = (
                f"{prog} has no option {flag}.{closest(flag, options)} "
                f"`levelset {prog} --help` lists them."
            )
            raise UsageError(message)
        checked += [options[flag].flag, *_values(options[flag], values)]
    return checked


def _options(command: type) -> tuple[dict[str, _Option], _Option | None]:
    """Return the options of a command by flag and alias, and that of its words without a flag."""
    from tyro import conf

    options: dict[str, _Option] = {}
    positional = None
    without_flag = get_args(conf.Positional[int])[1]
    hints = get_type_hints(command)
    marked = get_type_hints(command, include_extras=True)
    for one in fields(command):
        option = _Option.of(one.name, hints[one.name], one.metadata)
        marks = getattr(marked[one.name], "__metadata__", ())
        if without_flag in marks:
            positional = option
            continue
        options[option.flag] = option
        for mark in marks:
            options |= dict.fromkeys(getattr(mark, "aliases", None) or (), option)
    return options, positional


def _groups(
    words: Sequence[str], options: dict[str, _Option]
) -> Iterator[tuple[str | None, list[str]]]:
    """Yield each flag with the words that belong to it; words without a flag under `None`."""
    flag: str | None = None
    values: list[str] = []
    room = math.inf
    for word in words:
        if _is_flag(word):
            yield flag, values
            flag, equals, value = word.partition("=")
            flag = flag.replace("_", "-")
            values = [value] if equals else []
            option = options.get(flag)
            room = math.inf if option is None or option.several else int(option.kind is not bool)
        elif len(values) < room:
            values.append(word)
        else:
            yield flag, values
            flag, values, room = None, [word], math.inf
    yield flag, values


def _values(option: _Option, values: list[str]) -> list[str]:
    if option.kind is bool:
        if values:
            raise UsageError(f"{option.flag} takes no value, got {values[0]!r}.")
        return []
    if not values:
        what = f", one or several of {', '.join(option.choices)}" if option.choices else ""
        raise UsageError(f"{option.flag} needs a value{what}.")
    return [option.checked(value) for value in values]


def _is_flag(word: str) -> bool:
    return len(word) > 1 and word[0] == "-" and (word[1] == "-" or word[1].isalpha())


def _key(word: str) -> str:
    """Return a word without what does not tell one choice from another: `L-inf` is `inf`."""
    plain = word.lower().lstrip("-").replace("_", "").replace("-", "")
    return plain[1:] if plain in ("l0", "l1", "l2", "linf") else plain
