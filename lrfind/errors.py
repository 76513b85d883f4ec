"""The errors, each class with its exit code, and helpers that put numbers and lists into words."""

from __future__ import annotations

import difflib
import importlib
import re
import shlex
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MOST_KNOWN = 40
"""The most names that the message about an unknown name lists; a table may have thousands of columns."""


class LrfindError(Exception):
    """Any failure that lrfind foresees; its text is meant for the person at the terminal."""

    exit_code = 1


class UsageError(LrfindError):
    """Something in the user's request cannot be used: an option, a file or an argument."""

    exit_code = 2


class StorageError(LrfindError, OSError):
    """A file of a run could not be written or read: the disk is full, the directory is gone, or the like.

    What was stored before is kept, so that the run can be resumed when the cause is mended.

    Args:
        message: what happened, where, and what to do.
        number: the number of the system's error, one of the module `errno`; None if it is not known.
    """

    exit_code = 4

    def __init__(self, message: str, number: int | None = None) -> None:
        super().__init__(message)
        self.errno = number


class NoGradient(UsageError):  # noqa: N818 - the name says what is missing
    """The loss does not depend on anything that could be trained."""


class NoSuggestion(LrfindError):  # noqa: N818 - a result with a reason, not a fault
    """A method has no learning rate to suggest.

    Attributes:
        reason: what the curve looks like and what to change.
        cost: the number of gradient steps that were spent.
        start: the lr at which longer trainings may begin, because they may tell what was not seen; None if
            they would tell no more.
    """

    exit_code = 3

    def __init__(self, reason: str, cost: int = 0, start: float | None = None) -> None:
        super().__init__(reason)
        self.reason, self.cost, self.start = reason, cost, start


class Stopped(BaseException):
    """The run was ended from outside (SIGTERM, SIGHUP); no `except Exception` catches it."""

    exit_code = 4


class UsersExit(Exception):  # noqa: N818 - it stands for what may be no error
    """The user's code raised something that is no `Exception`: SystemExit, or a BaseException of its own.

    Its cause is what was raised.
    """


@contextmanager
def as_exception() -> Iterator[None]:
    """Turn whatever the user's code raises inside the block into an `Exception`, which all handlers catch.

    Interruptions (Ctrl-C, `Stopped`) stay what they are.

    Raises:
        UsersExit: in place of a BaseException that is neither an `Exception` nor an interruption.
    """
    try:
        yield
    except (Exception, KeyboardInterrupt, Stopped, GeneratorExit):
        raise
    except BaseException as error:
        raise UsersExit(in_one_line(error)) from error


def text_of(error: BaseException) -> str:
    """Return the text of an exception, also of one whose class fails to give it."""
    try:
        return str(error)
    except BaseException as failure:
        return f"(its text cannot be read: {type(failure).__name__})"


def sentence(text: str) -> str:
    """Return a text that begins with a capital letter.

    >>> sentence("nothing learns.")
    'Nothing learns.'
    """
    return text[:1].upper() + text[1:]


def counted(number: int, noun: str) -> str:
    """Return a number of things in words.

    >>> counted(1, "lane"), counted(2_500, "lane"), counted(0, "batch")
    ('1 lane', '2,500 lanes', '0 batches')
    """
    return f"{number:,} {noun if number == 1 else plural(noun)}"


def times(ratio: float) -> str:
    """Return a ratio with three digits in words.

    >>> times(1.9), times(4583.2)
    ('1.9 times', '4,580 times')
    """
    value = float(f"{ratio:.3g}")
    return f"{value:,.0f} times" if value >= 1000 else f"{value:.3g} times"


def plural(noun: str) -> str:
    """Return the plural of a noun.

    >>> plural("step"), plural("batch"), plural("loss"), plural("entry"), plural("epoch")
    ('steps', 'batches', 'losses', 'entries', 'epochs')
    """
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return f"{noun[:-1]}ies"
    hisses = noun.endswith(("s", "x", "ch", "sh")) and noun != "epoch"
    return f"{noun}es" if hisses else f"{noun}s"


def listed(words: Iterable[object], last: str = "and") -> str:
    """Return a list in words; an empty list gives "".

    >>> listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"], "or")
    ('a', 'a and b', 'a, b or c')
    """
    *first, end = [str(word) for word in words] or [""]
    return f"{', '.join(first)} {last} {end}" if first else end


def first_few(names: Iterable[str], most: int = 10) -> str:
    """Return the names, with a count in place of those that are too many.

    >>> first_few(["a", "b"]), first_few("abcdefghijkl")
    ('a, b', 'a, b, c, d, e, f, g, h and 4 more')
    """
    all_names = [*names]
    shown = all_names if len(all_names) <= most else all_names[: most - 2]
    hidden = len(all_names) - len(shown)
    return ", ".join(shown) + (f" and {hidden} more" if hidden else "")


def in_shell(path: Path) -> str:
    """Return a path as a command that is pasted into a shell has it.

    >>> in_shell(Path("runs/a")), in_shell(Path("my runs/a"))
    ('runs/a', "'my runs/a'")
    """
    return shlex.quote(str(path))


def in_one_line(error: BaseException, most: int = 1000) -> str:
    r"""Return an exception as its type and its text, in one line with at most `most` characters of text.

    >>> in_one_line(ValueError("bad\n  shape \x1b[2J"))
    'ValueError: bad shape \\x1b[2J'
    """
    if isinstance(error, UsersExit) and error.__cause__ is not None:
        error = error.__cause__
    text = text_of(error)[: 10 * most] or _raising_line(error)
    return f"{type(error).__name__}: {printable(' '.join(text.split()))[:most]}"


def _raising_line(error: BaseException) -> str:
    """Return the line that raised an exception which says nothing itself, such as a bare `assert`."""
    import traceback

    frames = traceback.extract_tb(error.__traceback__)
    if not frames or not frames[-1].line:
        return ""
    last = frames[-1]
    return f"raised by `{last.line}` in {last.filename}, line {last.lineno}"


_NEVER_PRINTED = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f"  # the control characters, of which a line break and a tab are good
    r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # marks that turn the direction of the text after them
    r"\u200b-\u200d\u2028\u2029\u2060-\u2065\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"  # invisible ones
    r"\ud800-\udfff]"  # halves of surrogate pairs
)


def printable(text: str) -> str:
    r"""Return a text in which all characters that a terminal would obey, or not show, are escaped.

    >>> print(printable("red \x1b[31m, moved \u202e, half \udc80, fine: é中"))
    red \x1b[31m, moved \u202e, half \udc80, fine: é中
    """
    return _NEVER_PRINTED.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def shortened(text: str, most: int) -> str:
    """Return a text of at most about `most` characters: its begin and its end.

    >>> shortened("a long message that ends here", 20)
    'a long message  [... 9 characters left out ...]  here'
    """
    if len(text) <= most:
        return text
    end = most // 4
    return (
        f"{text[: most - end]} [... {len(text) - most:,} characters left out ...] {text[len(text) - end :]}"
    )


def unknown(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """Return the error for an unknown name; it shows the names that contain it, or else the nearest ones.

    >>> print(unknown("model", "small_cn", ["linear", "small_cnn"]))
    unknown model 'small_cn'; did you mean small_cnn?
    >>> print(unknown("loss", "BCE", ["bce_with_logits", "huber"]))
    unknown loss 'BCE'; did you mean bce_with_logits?
    """
    names, given = sorted(known), name.casefold()
    by_folded = {known_name.casefold(): known_name for known_name in names}
    containing = [folded for folded in by_folded if given in folded and (len(given) > 2 or given == folded)]
    close = sorted(containing, key=len)[:2] or difflib.get_close_matches(given, by_folded, n=2, cutoff=0.5)
    meant = " or ".join(by_folded[folded] for folded in close)
    hint = f"did you mean {meant}?" if meant else f"known: {first_few(names, MOST_KNOWN)}."
    return UsageError(f"unknown {kind} '{name}'; {hint}")


def import_optional(package: str, purpose: str, extra: str = "search") -> Any:
    """Import a package of an extra of lrfind.

    Raises:
        UsageError: if it is not installed; the message says what needs the package and how to install it.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise not_installed(package, purpose, extra) from error


def not_installed(package: str, purpose: str, extra: str) -> UsageError:
    """Return the error for a package of an extra that is missing.

    >>> print(not_installed("mlflow", "the sink mlflow", "sinks"))
    the sink mlflow needs mlflow, which is not installed: pip install 'lrfind[sinks]'.
    """
    name = package.split(".")[0]
    return UsageError(f"{purpose} needs {name}, which is not installed: pip install 'lrfind[{extra}]'.")
