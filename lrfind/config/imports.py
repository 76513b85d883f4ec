"""Which code a config may import: anything it names, what matches a pattern, or nothing of its own.

The command line sets this (`--no-import-paths`, `--allow-import`), and never a config. It holds for the whole
process, and for every name with a colon, pkg.module:attr; the built-in names are always allowed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from lrfind.errors import UsageError, listed


@dataclass(frozen=True)
class ImportPolicy:
    """The rule for names such as pkg.module:attr.

    Attributes:
        patterns: the names that are allowed; None if all are, and empty if none is. In a pattern, * stands
            for any text within the module or within the attribute. Without a colon, it names modules.
    """

    patterns: Sequence[str] | None = None

    def allows(self, path: str) -> bool:
        """Return whether "pkg.module:attr" may be imported.

        >>> ImportPolicy(["mine.*", "other:Net"]).allows("mine.nets.small:Net")
        True
        >>> ImportPolicy(["mine.*", "other:Net"]).allows("other:os.system")
        False
        """
        return self.patterns is None or any(_matches(pattern, path) for pattern in self.patterns)


def _matches(pattern: str, path: str) -> bool:
    """Return whether a path fits a pattern. A * in an attribute matches no dot: dots may lead elsewhere."""
    module, colon, attribute = pattern.partition(":")
    parts = [(module, "[^:]*"), (attribute if colon else "*", "[^:.]*")]
    expression = ":".join(re.escape(text).replace(r"\*", any_text) for text, any_text in parts)
    return re.fullmatch(expression, path) is not None


_policy = ImportPolicy()


@contextmanager
def imports_limited_to(policy: ImportPolicy) -> Iterator[None]:
    """Apply a policy inside the block, in the whole process."""
    global _policy
    before, _policy = _policy, policy
    try:
        yield
    finally:
        _policy = before


def import_policy() -> ImportPolicy:
    """Return the policy in force, for example to hand it to another process that trains for this one."""
    return _policy


def refuse_import(section: str, path: str) -> None:
    """Refuse a name that the policy in force does not allow.

    Args:
        section: the kind of thing that is named, such as "model".
        path: the name, "pkg.module:attr".

    Raises:
        UsageError: if it is not allowed; the message says which option forbids it.
    """
    if _policy.allows(path):
        return
    if not _policy.patterns:
        raise UsageError(f"importing the {section} '{path}' is forbidden by --no-import-paths")
    patterns = listed((f"'{pattern}'" for pattern in _policy.patterns), "or")
    raise UsageError(
        f"importing the {section} '{path}' is forbidden, because it does not match --allow-import {patterns}"
    )
