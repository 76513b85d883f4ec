"""The errors, each class with its exit code, and helpers that put numbers and lists into words."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from typing import Any


class LrfindError(Exception):
    """Any failure that lrfind foresees; its text is meant for the person at the terminal."""

    exit_code = 1


class UsageError(LrfindError):
    """Something in the user's request cannot be used: an option, a file or an argument."""

    exit_code = 2


class NoGradient(UsageError):  # noqa: N818 - the name says what is missing
    """The loss does not depend on anything that could be trained."""


class NoSuggestion(LrfindError):  # noqa: N818 - a result with a reason, not a fault
    """A method has no learning rate to suggest.

    Attributes:
        reason: what the curve looks like and what to change; one sentence.
        cost: the number of gradient steps that were spent.
    """

    exit_code = 3

    def __init__(self, reason: str, cost: int = 0) -> None:
        super().__init__(reason)
        self.reason, self.cost = reason, cost


class Stopped(BaseException):
    """The run was ended from outside (SIGTERM); like KeyboardInterrupt, no `except Exception` catches it."""

    exit_code = 4


def counted(number: int, noun: str) -> str:
    """Return a number of things in words.

    >>> counted(1, "lane"), counted(2_500, "lane"), counted(0, "batch")
    ('1 lane', '2,500 lanes', '0 batches')
    """
    return f"{number:,} {noun if number == 1 else plural(noun)}"


def plural(noun: str) -> str:
    """Return the plural of a noun.

    >>> plural("step"), plural("batch"), plural("loss"), plural("entry")
    ('steps', 'batches', 'losses', 'entries')
    """
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}es" if noun.endswith(("s", "x", "ch", "sh")) else f"{noun}s"


def listed(words: Iterable[object], last: str = "and") -> str:
    """Return a list in words; an empty list gives "".

    >>> listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"], "or")
    ('a', 'a and b', 'a, b or c')
    """
    *first, end = [str(word) for word in words] or [""]
    return f"{', '.join(first)} {last} {end}" if first else end


def in_one_line(error: BaseException, most: int | None = None) -> str:
    r"""Return an exception as its type and its text, in one line with at most `most` characters of text.

    >>> in_one_line(ValueError("bad\n  shape"))
    'ValueError: bad shape'
    """
    return f"{type(error).__name__}: {' '.join(str(error).split())[:most]}"


def unknown(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """Return the error for an unknown name; it shows the nearest known names.

    >>> print(unknown("model", "small_cn", ["linear", "small_cnn"]))
    unknown model 'small_cn'; did you mean small_cnn?
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=2, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(names)}."
    return UsageError(f"unknown {kind} '{name}'; {hint}")


def import_optional(package: str, purpose: str, extra: str = "search") -> Any:
    """Import a package of an extra of lrfind.

    Raises:
        UsageError: if it is not installed; the message says what needs the package and how to install it.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"{purpose} needs {package.split('.')[0]}, which is not installed: pip install 'lrfind[{extra}]'."
        ) from error
