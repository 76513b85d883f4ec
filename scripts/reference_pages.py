"""The pages of the reference, generated from the code: commands, config keys, names, Python.

Each function returns a page in Markdown; `scripts/site_hooks.py` puts them into the site.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import click

import lrfind
from lrfind.cli.listing import LISTS, listing
from lrfind.cli.main import cli
from lrfind.config.experiment import Experiment

WIDTH = 80
"""The columns of the help texts, and of signatures."""

SETTINGS: dict[str, Any] = {"terminal_width": WIDTH, "max_content_width": WIDTH}

Schema = dict[str, Any]

TYPES = {
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "string": "text",
    "object": "a mapping",
}
BOUNDS = {
    "minimum": "at least",
    "exclusiveMinimum": "above",
    "maximum": "at most",
    "exclusiveMaximum": "below",
}


def commands_page() -> str:
    """Return the help text of every command."""
    top = click.Context(cli, info_name="lrfind", **SETTINGS | cli.context_settings)
    parts = ["# Commands", "What `lrfind COMMAND --help` prints.", _fenced(cli.get_help(top))]
    for name in cli.list_commands(top):
        command = cli.get_command(top, name)
        assert command is not None
        context = click.Context(command, top, name, **SETTINGS | command.context_settings)
        parts += [f"## lrfind {name}", _fenced(command.get_help(context))]
    return _joined(parts)


def names_page() -> str:
    """Return what `lrfind ls` lists: the names that a config or an option can use."""
    parts = ["# Names", "What `lrfind ls` lists. Instead of a name of models, data sets, losses, optimizers,"]
    parts[-1] += " schedules, samplers and sinks, a config may give `pkg.module:attr` for code of your own."
    for what in LISTS:
        rows = [(f"`{name}`", summary) for name, summary in listing(what).items()]
        parts += [f"## {what.capitalize()}", _table(("name", "what it is"), rows)]
    return _joined(parts)


def config_page() -> str:
    """Return every key of a config, with its type, its bounds and its default, from the JSON Schema."""
    schema = Experiment.model_json_schema()
    sections = {name: _mapping(part) for name, part in schema["$defs"].items()}
    first = [part["$ref"].rpartition("/")[2] for part in schema["properties"].values() if "$ref" in part]
    parts = [
        "# Config keys",
        "A config is a YAML file with these keys. `lrfind schema` prints the same as a JSON Schema for your"
        " editor, and `lrfind check` compares a config with it. The default of a key is what a config that"
        " omits the key gets.",
        "## The whole config",
        _keys_table(schema),
    ]
    for name in dict.fromkeys((*first, *sections)):
        section = sections[name]
        parts += [f"## {_title(name)}", section["description"].partition("\n\n")[0], _keys_table(section)]
    return _joined(parts)


def python_page() -> str:
    """Return the signatures and the docstrings of the public names of lrfind."""
    parts = ["# Python", f"```python\n{inspect.cleandoc(_example(lrfind.__doc__ or ''))}\n```"]
    for name in sorted(lrfind.__all__, key=lambda name: (name[0].isupper(), name)):
        parts += _documented(f"lrfind.{name}", getattr(lrfind, name), "##")
    return _joined(parts)


def _example(text: str) -> str:
    """Return the indented lines of a docstring."""
    return "\n".join(line for line in text.splitlines() if line.startswith("    ") or not line).strip("\n")


def _documented(name: str, thing: Any, level: str) -> Iterator[str]:
    """Yield the heading, the signature and the docstring of a function or a class, and of its members."""
    yield f"{level} {name}"
    if not (inspect.isclass(thing) and issubclass(thing, Exception)):
        yield f"```python\n{_signature(name, thing)}\n```"
    yield _markdown(inspect.getdoc(thing) or "")
    if not inspect.isclass(thing):
        return
    for base in _bases(thing)[1:]:
        _, attributes, rest = (inspect.getdoc(base) or "").partition("Attributes:\n")
        yield _markdown(attributes + rest)
    for member in _members(thing):
        value = inspect.getattr_static(thing, member)
        short = f"{name.rpartition('.')[2]}.{member}"
        if isinstance(value, property):
            yield f"#### {short}"
            yield _markdown(inspect.getdoc(value) or "")
        elif callable(value):
            yield from _documented(short, value, "####")


def _bases(kind: type) -> list[type]:
    """Return a class and its bases in lrfind."""
    return [base for base in kind.__mro__ if base.__module__.startswith("lrfind.")]


def _members(kind: type) -> list[str]:
    """Return the public methods and properties that a class or a base of it in lrfind documents."""
    names = dict.fromkeys(name for base in _bases(kind) for name in vars(base) if not name.startswith("_"))
    values = {name: inspect.getattr_static(kind, name) for name in names}
    return [n for n, value in values.items() if isinstance(value, property) or inspect.isfunction(value)]


def _signature(name: str, thing: Callable[..., Any]) -> str:
    """Return a call with its arguments and their types, one on each line where there are many."""
    signature = inspect.signature(thing)
    if inspect.isclass(thing):
        signature = signature.replace(return_annotation=signature.empty)
    parameters = [one for one in signature.parameters.values() if one.name != "self"]
    text = f"{name}{signature.replace(parameters=parameters)}"
    if len(text) > WIDTH:
        lines = [str(one) for one in parameters]
        by_name = [one.kind is one.KEYWORD_ONLY for one in parameters]
        if True in by_name:
            lines.insert(by_name.index(True), "*")
        end = str(signature.replace(parameters=[])).removeprefix("(")
        text = "\n    ".join([f"{name}(", *(f"{line}," for line in lines)]) + f"\n{end}"
    return re.sub(r"(: |-> )'([^']+)'", r"\1\2", text)


def _markdown(docstring: str) -> str:
    """Return a docstring in Google's style as Markdown: a list for each part, doctests in fences."""
    text = re.sub(r"^(Args|Attributes|Returns|Raises|Yields):$", r"**\1:**\n", docstring, flags=re.MULTILINE)
    text = re.sub(r"^    (\w+): ", r"- `\1`: ", text, flags=re.MULTILINE)
    return re.sub(
        r"((?:^(?:>>>|\.\.\.).*\n(?:(?!>>>)\S.*\n?)*)+)", r"```pycon\n\1\n```", text, flags=re.MULTILINE
    )


def _title(name: str) -> str:
    """Return the words of the name of a section: 'RangeTestSection' becomes 'Range test'."""
    words = re.findall(r"[A-Z][a-z0-9]*", name.removesuffix("Section"))
    return " ".join(words).capitalize()


def _mapping(part: Schema) -> Schema:
    """Return the schema of the mapping, for a section that a bare name may stand for."""
    return next((one for one in part.get("anyOf", ()) if "properties" in one), part)


def _keys_table(section: Schema) -> str:
    required = section.get("required", ())
    rows = [
        (
            f"`{key}`",
            part.get("description", "See the section of this name."),
            _form(part),
            "required" if key in required else _default(part),
        )
        for key, part in section["properties"].items()
    ]
    return _table(("key", "what it is", "form", "default"), rows)


def _form(part: Schema) -> str:
    """Return in words which values a part of the schema allows."""
    if "$ref" in part:
        title = _title(part["$ref"].rpartition("/")[2])
        return f"[{title.lower()}](#{title.lower().replace(' ', '-')})"
    if "anyOf" in part:
        return ", or ".join(_form(one) for one in part["anyOf"] if one != {"type": "null"})
    if "const" in part:
        return f"`{part['const']}`"
    if "enum" in part:
        return ", ".join(f"`{value}`" for value in part["enum"])
    if "pattern" in part:
        return f"text like `{part['pattern']}`"
    if part.get("type") == "array":
        return f"a list: {_form(part['items'])}" if "items" in part else "a list"
    bounds = [f"{words} {part[key]:,}" for key, words in BOUNDS.items() if key in part]
    return " ".join([TYPES[part["type"]], " and ".join(bounds)]).strip()


def _default(part: Schema) -> str:
    default = part.get("default")
    if isinstance(default, dict) and default:
        return "those of the section"
    if isinstance(default, list):
        return f"`[{', '.join(one['name'] if isinstance(one, dict) else str(one) for one in default)}]`"
    return (
        "none" if default is None else f"`{str(default).lower() if isinstance(default, bool) else default}`"
    )


def _table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    lines = [heads, ["---"] * len(heads), *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _fenced(text: str) -> str:
    return f"```text\n{text}\n```"


def _joined(parts: list[str]) -> str:
    return "\n\n".join(parts) + "\n"


PAGES = {
    "commands.md": commands_page,
    "config_keys.md": config_page,
    "names.md": names_page,
    "python.md": python_page,
}
"""The name of each page, and the function that writes it."""
