"""The way from a name to an object: "mlp" through the catalog, or "pkg.module:attr" for users' own code.

Nothing is imported until `resolve` is called. `definition` reads a function's arguments from its source file
without importing it, so a config can be checked in a fraction of the time that importing torch takes.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.util
import inspect
import re
import shlex
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from lrfind.catalog import CATALOGS
from lrfind.config.imports import refuse_import
from lrfind.errors import UsageError, as_exception, in_one_line, unknown


def import_path(section: str, name: str) -> str:
    """Turn a name in a section of the config into "pkg.module:attr". A name with a colon already is one.

    Raises:
        UsageError: if the name is not in the section's catalog, or may not be imported (`config.imports`).
    """
    if ":" in name:
        refuse_import(section, name)
        return name
    if name not in CATALOGS[section]:
        raise UsageError(
            f"{unknown(section, name, CATALOGS[section])} For your own code give pkg.module:attr."
        )
    return CATALOGS[section][name]


_roots: list[Path] = []  # the last --import-root; none if the command had none


def set_import_root(folder: Path | None) -> None:
    """Let names like pkg.module:attr find the modules in a folder, until another one is set."""
    _roots[:] = [] if folder is None else [folder.resolve()]
    if folder is not None and str(folder.resolve()) not in _installed():
        sys.path.insert(0, str(folder.resolve()))


def import_root() -> str | None:
    """Return the folder of the user's own modules that this command was given; None if there is none."""
    return str(_roots[0]) if _roots else None


def command_line(arguments: Sequence[str], root: str | None) -> str:
    """Return a command of lrfind to paste into a shell, with the folder of the user's own modules.

    >>> command_line(["find", "my net.yaml"], "/home/me/nets")
    "lrfind find 'my net.yaml' --import-root /home/me/nets"
    """
    return shlex.join(["lrfind", *arguments, *(["--import-root", root] if root else [])])


def _installed() -> set[str]:
    """Return the folders of installed packages, which keep their place on the import path."""
    return {str(Path(folder).resolve()) for folder in sysconfig.get_paths().values()}


def folder_of(path: str) -> Path | None:
    """Return the folder from which "pkg.module:attr" would be imported now; None if there is no such file."""
    package = path.partition(":")[0].partition(".")[0]
    source = _source_file(package)
    return None if source is None else source.parents[1 if source.name == "__init__.py" else 0]


def _hint(missing: str) -> str:
    """Say what may help if a module was not found: another name, or its folder."""
    package = missing.partition(".")[0]
    other = getattr(sys.modules.get(package), "__file__", None)
    if other is None:
        return "If it is your own file, give its folder with --import-root DIR."
    return f"'{package}' was imported from {other}; rename yours, or give it an __init__.py."


def resolve(path: str) -> Any:
    """Import the object that "pkg.module:attr" names. `attr` may have dots.

    Raises:
        UsageError: if the module or the attribute does not exist, or importing the module fails.
    """
    module_name, _, attribute = path.partition(":")
    try:
        with as_exception():
            value: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        if not (module_name == missing or module_name.startswith(missing + ".")):
            raise UsageError(f"importing '{module_name}' failed: {error}") from error
        is_file = module_name.endswith(".py")
        hint = f"Name a module without .py: {module_name[:-3]}:{attribute}." if is_file else _hint(missing)
        raise UsageError(f"there is no module '{missing}' on the import path. {hint}") from error
    except SyntaxError as error:
        line = f"{error.filename}:{error.lineno}"
        raise UsageError(f"importing '{module_name}' failed: {line}: {error.msg}") from error
    except Exception as error:
        raise UsageError(f"importing '{module_name}' failed: {in_one_line(error)}") from error
    for part in attribute.split("."):
        if not hasattr(value, part):
            close = difflib.get_close_matches(part, dir(value), n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise UsageError(f"'{module_name}' has no attribute '{attribute}'{hint}")
        value = getattr(value, part)
    return value


def load(path: str) -> Any:
    """Import a part of lrfind that a row of the catalog names. A failure is a bug and is raised as it is."""
    module_name, _, attribute = path.partition(":")
    return getattr(importlib.import_module(module_name), attribute)


@dataclass(frozen=True)
class Definition:
    """The facts about a function or a class that its source contains.

    Attributes:
        is_class: whether it is a class; otherwise it is a function.
        summary: the first sentence of its docstring; empty if it has none.
        signature: its arguments without `self`, with annotations as source text. For a class, these are the
            arguments of its `__init__`, or of the `__init__` of its base in the same file. None if the source
            does not show them.
    """

    is_class: bool
    summary: str
    signature: inspect.Signature | None


def definition(path: str) -> Definition | None:
    """Read the definition of "pkg.module:attr" from its source, without importing anything.

    Returns:
        The definition. None if the source does not show it, which is so for a compiled module or a name
        that is made at import time.
    """
    module_name, _, attribute = path.partition(":")
    source = _source_file(module_name)
    if source is None:
        return None
    try:
        tree = _parsed(source, source.stat().st_mtime_ns)
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    nodes = {n.name: n for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    node = nodes.get(attribute)
    if node is None:
        return None
    summary = _first_sentence(ast.get_docstring(node) or "")
    if isinstance(node, ast.FunctionDef):
        return Definition(False, summary, None if node.decorator_list else _signature_of(node))
    init = _init_of(node, nodes)
    return Definition(True, summary, None if init is None else _signature_of(init, skip_self=True))


@lru_cache(maxsize=100)
def _parsed(source: Path, modified: int) -> ast.Module:
    """Parse a source file; it is parsed again only if it was modified, at another time in nanoseconds."""
    return ast.parse(source.read_text(encoding="utf-8"))


def _first_sentence(docstring: str) -> str:
    """Return the first sentence of a docstring in one line, without the marks of Sphinx."""
    paragraph = " ".join(docstring.partition("\n\n")[0].split())
    return re.split(r"(?<=\.) (?=[A-Z])", re.sub(r":\w+:`([^`]*)`", r"\1", paragraph))[0]


def _init_of(
    node: ast.ClassDef, nodes: Mapping[str, ast.FunctionDef | ast.ClassDef]
) -> ast.FunctionDef | None:
    """Return a class's `__init__`, or that of its first base in the same file."""
    if node.decorator_list or node.keywords:
        return None
    for inner in node.body:
        if isinstance(inner, ast.FunctionDef) and inner.name == "__init__":
            return inner
    for base in node.bases:
        base_node = nodes.get(base.id) if isinstance(base, ast.Name) else None
        if isinstance(base_node, ast.ClassDef) and base_node is not node:
            return _init_of(base_node, nodes)
    return None


def _source_file(module_name: str) -> Path | None:
    """Find a module's file, step by step from its top package, which is located but not imported."""
    top, *rest = module_name.split(".")
    module = sys.modules.get(top)
    try:
        spec = module.__spec__ if module is not None else importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    folders = spec.submodule_search_locations
    if spec.origin is None and not folders:
        return None
    path = Path(spec.origin) if spec.origin else Path(next(iter(folders or ()))) / "__init__.py"
    for part in rest:
        folder = path.parent / part
        path = folder / "__init__.py" if folder.is_dir() else path.parent / f"{part}.py"
    return path if path.suffix == ".py" and path.is_file() else None


def _signature_of(node: ast.FunctionDef, *, skip_self: bool = False) -> inspect.Signature:
    positional = [*node.args.posonlyargs, *node.args.args]
    first_default = len(positional) - len(node.args.defaults)
    parameters = [
        _parameter(arg, inspect.Parameter.POSITIONAL_OR_KEYWORD, required=i < first_default)
        for i, arg in enumerate(positional)
    ]
    if node.args.vararg:
        parameters.append(_parameter(node.args.vararg, inspect.Parameter.VAR_POSITIONAL))
    parameters += [
        _parameter(arg, inspect.Parameter.KEYWORD_ONLY, required=default is None)
        for arg, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
    ]
    if node.args.kwarg:
        parameters.append(_parameter(node.args.kwarg, inspect.Parameter.VAR_KEYWORD))
    return inspect.Signature(parameters[1:] if skip_self else parameters)


def _parameter(arg: ast.arg, kind: Any, *, required: bool = True) -> inspect.Parameter:
    return inspect.Parameter(
        arg.arg,
        kind,
        default=inspect.Parameter.empty if required else None,
        annotation=ast.unparse(arg.annotation) if arg.annotation else inspect.Parameter.empty,
    )
