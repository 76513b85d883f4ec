"""The code of a replay: the calls of a recording as a Python function, without what need not be done again.

- Views are not made one from another. Each is made at once from the tensor whose memory it shows, and only
  where an operation needs it.
- What does not depend on the function's tensors is computed once.
- The same operation on the same tensors is computed once, and what nobody reads is not computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from lrfind.training.kernels import fastest

Replay = Callable[..., list[Tensor]]
"""A function of tensors that does what a recorded function did."""


class UnrecordableError(Exception):
    """A function cannot be recorded, for a reason that the message gives."""


@dataclass(frozen=True)
class Call:
    """A call of an operation."""

    operation: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    output: Any

    @property
    def tensors(self) -> list[Tensor]:
        """The tensors among the arguments."""
        return [*_tensors([*self.args, *self.kwargs.values()])]

    @property
    def outputs(self) -> list[Tensor]:
        """The tensors that it returned."""
        return [*_tensors([self.output])]

    @property
    def written(self) -> list[Tensor]:
        """The arguments that it wrote into."""
        arguments = self.operation._schema.arguments
        values = dict(zip((argument.name for argument in arguments), self.args, strict=False))
        values |= self.kwargs
        return [*_tensors(values.get(argument.name) for argument in arguments if argument.is_write)]

    @property
    def random(self) -> bool:
        """Whether it drew random numbers."""
        return torch.Tag.nondeterministic_seeded in self.operation.tags


ONLY_SHAPES = {
    getattr(torch.ops.aten, name)
    for name in ("full_like", "ones_like", "zeros_like", "new_full", "new_ones", "new_zeros")
}
"""Operations that read nothing of a tensor but its shape and type."""


@dataclass
class _Memory:
    """A piece of memory of the program: an input, a constant, or what an operation returned.

    Attributes:
        name: its name in the code.
        tensor: the tensor that shows it first, and all of it.
        is_input: whether it is an input, which may begin anywhere in its storage.
        is_constant: whether its numbers are known before the replay.
        views: the names of its views, by their sizes, strides and offsets.
    """

    name: str
    tensor: Tensor
    is_input: bool = False
    is_constant: bool = False
    views: dict[Any, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Line:
    """A line of the code, what it makes and reads by name, and whether it is needed if nobody reads that."""

    code: str
    makes: set[str]
    reads: set[str]
    is_needed: bool = False


class Program:
    """The code of a replay, line by line, and the objects that it names."""

    def __init__(self, inputs: Sequence[Tensor], calls: Sequence[Call]) -> None:
        self._memories: dict[int, _Memory] = {}  # by the identity of each tensor that shows it
        self._objects: dict[str, Any] = {}
        self._names: dict[Any, str] = {}  # of the objects that can be compared
        self._lines: list[_Line] = []
        self._results: dict[Any, list[_Memory]] = {}  # of an operation, by itself and its arguments
        self._written = {storage_of(tensor) for call in calls for tensor in call.written}
        made = [*inputs, *(tensor for call in calls for tensor in call.outputs)]
        self._storages = {storage_of(tensor) for tensor in made}
        self._inputs = [f"input_{number}" for number in range(len(inputs))]
        for name, tensor in zip(self._inputs, inputs, strict=True):
            self._memories[id(tensor)] = _Memory(name, tensor, is_input=True)

    def add(self, call: Call) -> None:
        """Add a call to the code, unless it only returns views or its result is known."""
        sources = {storage_of(tensor): tensor for tensor in reversed(call.tensors)}
        made = []
        for tensor in call.outputs:
            source = sources.get(storage_of(tensor))
            if source is None:
                made.append(tensor)
            elif source.dtype != tensor.dtype or tensor.is_conj() or tensor.is_neg():
                raise UnrecordableError(f"a recording cannot repeat the view that {call.operation} returns")
            else:
                self._memories[id(tensor)] = self._memory(source)
        touched = {*sources, *map(storage_of, made)}
        if call.written or call.random or (made and touched & self._written):
            self._compute(call, made, is_needed=bool(call.written or call.random))
        elif made and (call.operation.overloadpacket in ONLY_SHAPES or self._known(call.tensors)):
            for tensor in made:
                self._keep(tensor)
        elif made:
            reads: set[str] = set()
            key = (call.operation, self._arguments(call, reads))
            if key not in self._results:
                self._results[key] = self._compute(call, made)
            self._memories.update(zip(map(id, made), self._results[key], strict=True))

    def compiled(self, outputs: Sequence[Tensor]) -> Replay:
        """Return the replay, whose results are these tensors."""
        alive: set[str] = set()
        code = [f"return [{', '.join(self._results_of(outputs, alive))}]"]
        for line in reversed(self._lines):
            if line.is_needed or line.makes & alive:
                last_seen = (line.makes | line.reads) - alive - {*self._objects}
                code += [f"del {', '.join(sorted(last_seen))}"] if last_seen else []
                code.append(line.code)
                alive |= line.reads
        code.append(f"def replay({', '.join(self._inputs)}):")
        exec("\n    ".join(reversed(code)), self._objects)
        replay: Replay = self._objects["replay"]
        return replay

    def _results_of(self, outputs: Sequence[Tensor], reads: set[str]) -> Iterator[str]:
        """Return the code of each output, in memory of its own, because the caller may change it in place."""
        given: list[_Memory] = []
        for tensor in outputs:
            memory, name = self._memory(tensor), self._argument(tensor, reads)
            shared = memory.is_input or memory.is_constant or any(memory is other for other in given)
            given.append(memory)
            yield f"{name}.clone()" if shared else name

    def _compute(self, call: Call, made: Sequence[Tensor], *, is_needed: bool = False) -> list[_Memory]:
        """Add a line that calls an operation, and return the memories of the tensors that it makes."""
        memories = [_Memory(f"tensor_{len(self._lines)}_{i}", tensor) for i, tensor in enumerate(made)]
        self._memories.update(zip(map(id, made), memories, strict=True))
        names = {id(memory.tensor): memory.name for memory in memories}
        reads: set[str] = set()
        function = self._object(fastest(call.operation, call.args))
        code = f"{_targets(call.output, names)} = {function}({self._arguments(call, reads)})"
        self._lines.append(_Line(code, {*names.values()}, reads, is_needed))
        return memories

    def _memory(self, tensor: Tensor) -> _Memory:
        """Return the memory that a tensor shows; a tensor that no call returned is a constant."""
        if id(tensor) not in self._memories:
            if storage_of(tensor) in self._storages | self._written:
                raise UnrecordableError("a step uses memory that neither an input nor an operation shows")
            self._keep(tensor)
        return self._memories[id(tensor)]

    def _keep(self, tensor: Tensor) -> None:
        """Keep a tensor as a constant."""
        self._memories[id(tensor)] = _Memory(self._object(tensor), tensor, is_constant=True)

    def _known(self, tensors: Iterable[Tensor]) -> bool:
        return all(self._memory(tensor).is_constant for tensor in tensors)

    def _arguments(self, call: Call, reads: set[str]) -> str:
        """Return the code of a call's arguments, and add the names that it reads."""
        named = [f"{name}={self._argument(value, reads)}" for name, value in call.kwargs.items()]
        return ", ".join([*(self._argument(value, reads) for value in call.args), *named])

    def _argument(self, value: Any, reads: set[str]) -> str:
        if isinstance(value, Tensor):
            name = self._view(value)
            reads.add(name)
            return name
        if isinstance(value, list | tuple):
            return f"[{', '.join(self._argument(part, reads) for part in value)}]"
        return repr(value) if value is None or isinstance(value, int | str) else self._object(value)

    def _view(self, tensor: Tensor) -> str:
        """Return the name of a tensor; add the line that makes it, where it is a view."""
        memory = self._memory(tensor)
        shape = tuple(tensor.shape), tensor.stride(), tensor.storage_offset()
        whole = tuple(memory.tensor.shape), memory.tensor.stride(), memory.tensor.storage_offset()
        if shape == whole:
            return memory.name
        if shape not in memory.views:
            size, stride, offset = shape
            begin = f"{memory.name}.storage_offset() + {offset - whole[2]}" if memory.is_input else offset
            name = memory.views[shape] = f"view_{len(self._lines)}"
            code = f"{name} = {self._object(torch.as_strided)}({memory.name}, {size}, {stride}, {begin})"
            self._lines.append(_Line(code, {name}, {memory.name}))
        return memory.views[shape]

    def _object(self, value: Any) -> str:
        """Return the name of an object that the code cannot spell."""
        key = id(value) if isinstance(value, Tensor) else (type(value), value, repr(value))  # -0.0 == 0.0
        if key not in self._names:
            self._names[key] = f"object_{len(self._names)}"
            self._objects[self._names[key]] = value
        return self._names[key]


def storage_of(tensor: Tensor) -> int:
    """Return the identity of a tensor's storage."""
    storage: Any = tensor.untyped_storage()
    return int(storage._cdata)


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    """Return the tensors among values and in their lists."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def _targets(output: Any, names: Mapping[int, str]) -> str:
    """Return the left side of a line whose right side returns `output`."""
    if isinstance(output, list | tuple):
        return f"({''.join(f'{_targets(part, names)}, ' for part in output)})"
    return names.get(id(output), "_")
