"""YAML documents that record the place of every value, so that a message can point at a mistake.

PyYAML reads `1e-3` as a string and `on` as a boolean, and accepts a key twice. Here scalars follow the YAML
1.2 core schema, duplicate keys are mistakes, and size, depth and alias expansion are limited.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from lrfind.config.yaml12 import CONSTRUCTORS, CoreLoader, DumpLoader, UnfitNumberError
from lrfind.errors import UsageError, counted, printable

MAX_BYTES = 1_000_000
MAX_NODES = 50_000  # after aliases are expanded
MAX_DEPTH = 50
MOST_SHOWN = 100  # mistakes that a message lists

LINE_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")  # the line breaks that PyYAML counts

KeyPath = tuple[str | int, ...]


@dataclass(frozen=True)
class Place:
    """A position in a source: the line and the column, both counted from 1, and the text of that line."""

    source: str
    line: int
    column: int
    text: str


@dataclass(frozen=True)
class Mistake:
    """One thing that is wrong, and its place."""

    place: Place
    message: str

    def __str__(self) -> str:
        place = self.place
        head = f"{place.source}:{place.line}:{place.column}: error: {self.message}"
        start = max(0, place.column - 60)  # a long line is shown only around the mistake
        excerpt = place.text[start : start + 120].replace("\t", " ")
        before, after = (
            printable(part)
            for part in (excerpt[: place.column - 1 - start], excerpt[place.column - 1 - start :])
        )
        return f"{head}\n    {before}{after}\n    {' ' * len(before)}^"


class ConfigError(UsageError):
    """All the mistakes in a config, each with its place."""

    def __init__(self, mistakes: list[Mistake]) -> None:
        self.mistakes = sorted(mistakes, key=lambda m: (m.place.source, m.place.line, m.place.column))
        lines = [str(mistake) for mistake in self.mistakes[:MOST_SHOWN]]
        more = len(self.mistakes) - MOST_SHOWN
        super().__init__("\n".join([*lines, *([f"and {counted(more, 'more mistake')}"] if more > 0 else [])]))


@dataclass(frozen=True)
class Override:
    """A value from the command line, for a key of the config.

    Attributes:
        key: the path to the value, such as "a.b".
        value: the value as YAML.
        source: the option that gave it, such as "--set".
        text: the text as typed, in which messages mark a mistake.
        start: the column at which the value starts in `text`; 0 if there is no value.
    """

    key: str
    value: str
    source: str
    text: str
    start: int

    @classmethod
    def of(cls, argument: str) -> Override:
        """Make an override from the "a.b=VALUE" of --set."""
        key, equals, value = argument.partition("=")
        return cls(key.strip(), value, "--set", argument, len(key) + 2 if equals else 0)

    @classmethod
    def option(cls, name: str, key: str, value: str) -> Override:
        """Make an override from an option for one key, such as `--steps 100`."""
        return cls(key, value, name, f"{name} {value}", len(name) + 2)


@dataclass
class Document:
    """Plain values (dict, list, str, int, float, bool, None), with the places of their keys and values."""

    value: Any
    values: dict[KeyPath, Place] = field(default_factory=dict)
    keys: dict[KeyPath, Place] = field(default_factory=dict)
    mistakes: list[Mistake] = field(default_factory=list)

    def place(self, path: KeyPath, *, of_key: bool = False) -> Place:
        """Return the place of the value at `path` (or of its key), or of the nearest thing around it."""
        path = tuple(map(str, path))
        places = self.keys if of_key else self.values
        for end in range(len(path), -1, -1):
            if (place := places.get(path[:end]) or self.values.get(path[:end])) is not None:
                return place
        raise AssertionError("a document has a place for its root")

    def set(self, override: Override) -> None:
        """Apply an override. Its mistakes are collected with those of the file."""
        path: KeyPath = tuple(_index_or_key(part) for part in override.key.split("."))
        start = override.start

        def at(column: int) -> Place:
            return Place(override.source, 1, column, override.text)

        if len(path) > MAX_DEPTH:
            self.mistakes.append(Mistake(at(1), f"nested more than {MAX_DEPTH} levels deep"))
            return
        if not start or "" in path:
            self.mistakes.append(Mistake(at(1), "expected KEY.KEY=VALUE, e.g. optimizer.lr=1e-3"))
            return
        if override.source != "--set" and not override.value.strip():
            self.mistakes.append(Mistake(at(start), "there is no value; give one, or leave this option out"))
            return
        new = parse(override.value, override.source)
        for mistake in new.mistakes:
            self.mistakes.append(Mistake(at(start + mistake.place.column - 1), mistake.message))
        if new.mistakes:
            return
        try:
            self.value = _with(self.value, path, new.value)
        except IndexError as error:
            self.mistakes.append(Mistake(at(1), str(error)))
            return
        self._forget(path)
        path = tuple(map(str, path))  # the keys of the places are paths of strings
        self._forget(path)
        for end in range(1, len(path) + 1):
            self.values.setdefault(path[:end], at(start))
            self.keys.setdefault(path[:end], at(1))
        for new_places, places in ((new.values, self.values), (new.keys, self.keys)):
            for inner, place in new_places.items():
                places[path + inner] = at(start + place.column - 1)

    def drop(self, path: KeyPath) -> None:
        """Remove the value at `path`, if there is one."""
        holder = self.value
        for part in path[:-1]:
            holder = holder.get(part) if isinstance(holder, dict) else None
        if isinstance(holder, dict) and path[-1] in holder:
            del holder[path[-1]]
            self._forget(path)

    def _forget(self, path: KeyPath) -> None:
        for places in (self.keys, self.values):
            for inner in [p for p in places if p[: len(path)] == path]:
                del places[inner]


def _index_or_key(part: str) -> str | int:
    part = part.strip()
    return int(part) if part.isascii() and part.isdecimal() and len(part) < 10 else part


def _with(value: Any, path: KeyPath, new: Any) -> Any:
    """Return `value` with `new` at `path`. A bare string along the path stands for {name: ...}."""
    if not path:
        return new
    first, rest = path[0], path[1:]
    if isinstance(value, list):
        if not (isinstance(first, int) and first < len(value)):
            raise IndexError(f"there is no item '{first}' in a list of {counted(len(value), 'item')}")
        return [*value[:first], _with(value[first], rest, new), *value[first + 1 :]]
    if isinstance(value, str):
        value = {"name": value}
    holder = dict(value) if isinstance(value, dict) else {}
    holder[str(first)] = _with(holder.get(str(first)), rest, new)
    return holder


def parse(text: str, source: str, *, dumped: bool = False) -> Document:
    """Read YAML. Mistakes are collected in `.mistakes`, and the rest is still read where that is possible.

    Args:
        text: the YAML.
        source: the name of the text in messages, for example a file's name.
        dumped: whether `lrfind.config.yaml12.dump` returned the text.
    """
    lines = LINE_BREAK.split(text)

    def place(mark: yaml.Mark | None) -> Place:
        line, column = (mark.line, mark.column) if mark else (0, 0)
        return Place(source, line + 1, column + 1, lines[line].rstrip("\r") if line < len(lines) else "")

    if len(text.encode(errors="replace")) > MAX_BYTES:
        start = Place(source, 1, 1, lines[0])
        return Document(None, mistakes=[Mistake(start, f"larger than {MAX_BYTES:,} bytes")])
    try:
        root = _composed(text, dumped)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        return Document(None, mistakes=[Mistake(place(mark), _reworded(error, lines))])
    except yaml.reader.ReaderError as error:
        before = LINE_BREAK.split(text[: error.position])
        bad = text[error.position]
        where = Place(source, len(before), len(before[-1]) + 1, lines[len(before) - 1].replace(bad, "?"))
        return Document(None, mistakes=[Mistake(where, f"the character {bad!r} is not allowed in YAML")])
    except (ValueError, OverflowError):  # an escape such as \UFFFFFFFF
        return Document(
            None, mistakes=[Mistake(place(None), "an escape sequence in this text stands for no character")]
        )
    except RecursionError:
        return Document(None, mistakes=[Mistake(place(None), "nested too deeply")])
    if root is None:
        return Document(None, values={(): place(None)})
    return _Builder(place).build(root)


def _composed(text: str, dumped: bool) -> yaml.Node | None:
    if dumped:
        with contextlib.suppress(yaml.YAMLError, ValueError):  # the other loader says what is wrong
            return yaml.compose(text, Loader=DumpLoader)
    return yaml.compose(text, Loader=CoreLoader)


def _reworded(error: yaml.MarkedYAMLError, lines: list[str]) -> str:
    """Return the message of a PyYAML error, in plainer words for common errors."""
    mark = error.problem_mark
    if mark and mark.line < len(lines) and "\t" in lines[mark.line][: mark.column + 1]:
        return "a tab is not allowed as indentation in YAML; use spaces"
    if error.context == "expected a single document in the stream":
        return "a second document begins here, and a config is one; put it into a file of its own"
    problem = error.problem or "not valid YAML"
    if "could not find expected ':'" in problem:
        return "expected 'key: value'; is a colon missing?"
    if problem.startswith("mapping values are not allowed here"):
        return (
            "unexpected ':' here; is a ':' missing in the line above? If it is part of a text, quote the text"
        )
    return f"{problem} ({error.context})" if error.context else problem


class _Builder:
    """Turns PyYAML's nodes into plain values, and records places and mistakes on the way."""

    def __init__(self, place: Any) -> None:
        self._place = place
        self._document = Document(None)
        self._count = 0

    def build(self, root: yaml.Node) -> Document:
        try:
            self._document.value = self._value(root, ())
        except _TooMuchError as error:
            self._document.mistakes.append(Mistake(self._place(root.start_mark), str(error)))
        return self._document

    def _value(self, node: yaml.Node, path: KeyPath) -> Any:
        self._count += 1
        if self._count > MAX_NODES:
            raise _TooMuchError(f"more than {MAX_NODES:,} values once aliases are expanded")
        if len(path) > MAX_DEPTH:
            raise _TooMuchError(f"nested more than {MAX_DEPTH} levels deep")
        self._document.values[path] = self._place(node.start_mark)
        if isinstance(node, yaml.MappingNode):
            return dict(self._items(node, path))
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, (*path, str(i))) for i, item in enumerate(node.value)]
        return self._scalar(node)

    def _items(self, node: yaml.MappingNode, path: KeyPath) -> Iterator[tuple[str, Any]]:
        seen: set[str] = set()
        for key_node, value_node in node.value:
            key = str(key_node.value)
            place = self._place(key_node.start_mark)
            if not isinstance(key_node, yaml.ScalarNode):
                self._document.mistakes.append(Mistake(place, "a key must be plain text"))
            elif why := _why_not_text(key):
                self._document.mistakes.append(Mistake(place, f"this key holds {why}"))
            elif key in seen:
                first = self._document.keys[*path, key].line
                self._document.mistakes.append(
                    Mistake(place, f"duplicate key '{key}'; it is already in line {first}")
                )
            else:
                seen.add(key)
                self._document.keys[*path, key] = place
                yield key, self._value(value_node, (*path, key))

    def _scalar(self, node: yaml.Node) -> Any:
        text = str(node.value)
        if node.tag not in CONSTRUCTORS:
            self._document.mistakes.append(
                Mistake(self._place(node.start_mark), f"the tag '{node.tag}' is not allowed here")
            )
            return None
        try:
            value = CONSTRUCTORS[node.tag](text)
        except UnfitNumberError as error:
            self._document.mistakes.append(Mistake(self._place(node.start_mark), f"{text[:40]} {error}"))
            return None
        except (ValueError, KeyError):
            self._document.mistakes.append(
                Mistake(
                    self._place(node.start_mark), f"'{text[:40]}' is not a valid {node.tag.split(':')[-1]}"
                )
            )
            return None
        if isinstance(value, str) and (why := _why_not_text(value)):
            self._document.mistakes.append(Mistake(self._place(node.start_mark), f"this text holds {why}"))
        return value


def _why_not_text(text: str) -> str | None:
    """Return what a text holds that no file, path or database can hold; None if it holds nothing such."""
    if "\0" in text:
        return "a null character; leave it out"
    if any("\ud800" <= character <= "\udfff" for character in text):
        return "half of a surrogate pair, which is no character; write the character itself"
    return None


class _TooMuchError(Exception):
    pass
