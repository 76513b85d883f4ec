"""The small error tree. Each class carries the exit code that the command line ends with."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LrfindError(Exception):
    """Any failure that lrfind foresees; its text is meant for the person at the terminal."""

    exit_code = 1


class UsageError(LrfindError):
    """Something that was asked for cannot be done as asked: an option, a file, an argument."""

    exit_code = 2


class NoGradient(UsageError):  # noqa: N818 - named for what is not there
    """The loss does not depend on anything that could be trained."""


class NoSuggestion(LrfindError):  # noqa: N818 - a result with a reason, not a fault
    """A method has no learning rate to suggest.

    Attributes:
        reason: what the curve looks like and what to change; one sentence.
        cost: gradient steps that it took to know.
    """

    exit_code = 3

    def __init__(self, reason: str, cost: int = 0) -> None:
        super().__init__(reason)
        self.reason, self.cost = reason, cost


class Stopped(BaseException):
    """The surroundings ended the run (SIGTERM); like KeyboardInterrupt, no `except Exception` catches it."""

    exit_code = 4


def unknown(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """The error for a name that is not known, with the nearest ones that are.

    >>> print(unknown("model", "small_cn", ["linear", "small_cnn"]))
    unknown model 'small_cn'; did you mean small_cnn?
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=2, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(names)}."
    return UsageError(f"unknown {kind} '{name}'; {hint}")
