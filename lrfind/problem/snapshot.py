"""Snapshots: the state of a training, captured and restored bit for bit."""

from __future__ import annotations

import operator
from array import array
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import CellType
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor, nn

from lrfind.errors import LrfindError, UsageError, counted, in_one_line
from lrfind.problem.captured import CapturedTensor, captured
from lrfind.problem.randomness import capture, restore, set_state, state_of
from lrfind.problem.reachable import reachable

MOST_ROUNDING = 1e-3  # of the norm of the weights; less is the rounding of a step that adds and subtracts
MISSING = object()  # the value of a global variable that the training creates
NUMBERS = (bool, int, float, complex, str, bytes, type(None))


class Snapshot:
    """The state of everything that a training may change, at one moment.

    A snapshot captures:

    - of the modules and the optimizers, also those inside other ones: the values of all parameters, buffers
      and other tensors and arrays, plain Python attributes (also in lists and dicts), `.grad` and
      `requires_grad`, train or eval mode, hooks, param groups and random generators;
    - of the objects and functions of the user's that these refer to: attributes, and the variables that the
      functions enclose or assign; see `problem.reachable`;
    - of the data: attributes such as positions and epochs, and generators, but no tensors over 16 MiB;
    - the positions of files that are open for reading only;
    - the random state of Python, NumPy, torch and every device;
    - the thread count, the default dtype and whether algorithms are deterministic.

    `restore` may be called any number of times. Tensors and containers keep their identity: the objects that
    the user holds references to are restored in place. A list that only grew by numbers or texts, and to
    which a function refers directly, is a log and stays as it is.

    Args:
        trained: the model, the optimizers, and the functions that compute the loss or take the step.
        data: where the batches come from.
        kept: further objects that the training changes.
        with_data: whether the loaders to which the functions refer are captured too.
        copy_grads: whether the values of `.grad` are copied. Without it, call `clear_grads` before training.

    Attributes:
        lost: what cannot be set back, in words.
        optimizers: the optimizers that can be reached.
        generators: the random generators that can be reached.
        data_generators: those that the data refers to.
    """

    def __init__(
        self,
        trained: Iterable[Any],
        data: Iterable[Any] = (),
        *,
        kept: Iterable[Any] = (),
        with_data: bool = True,
        copy_grads: bool = False,
    ) -> None:
        trained = [*trained]
        _reshard(trained)
        reached = reachable(trained, data, kept=kept, with_data=with_data)
        self.lost, self.optimizers = reached.lost, reached.optimizers
        self.generators, self.data_generators = reached.generators, reached.data_generators
        self._modules = reached.modules
        self._containers = [(c, _plain_copy(c), id(c) in reached.logs) for c in reached.containers]
        self._tensors = captured(reached.tensors, reached.in_data, copy_grads)
        self._large = [(tensor, tensor._version) for tensor in reached.large if not tensor.is_inference()]
        self._arrays = [(values, values.copy()) for values in reached.arrays]
        self._generators = [(generator, state_of(generator)) for generator in reached.generators]
        self._files = [(file, file.tell()) for file in reached.files]
        self._attributes = [(o, name, _attribute(o, name)) for o, name in reached.attributes]
        self._cells = [(cell, _contents(cell)) for cell in reached.cells]
        self._variables = [(names, name, names.get(name, MISSING)) for names, name in reached.variables]
        self._random = capture()
        self._threads, self._dtype = torch.get_num_threads(), torch.get_default_dtype()
        self._deterministic = torch.are_deterministic_algorithms_enabled()

    def restore(self) -> None:
        """Restore everything in place.

        Raises:
            LrfindError: if some part cannot be restored; all others have been restored by then.
        """
        failures: list[str] = []
        _reshard(self._modules)
        parts: list[tuple[Callable[..., None], Iterable[tuple[Any, ...]]]] = [
            (_restore_cell, self._cells),
            (_restore_variable, self._variables),
            (_restore_attribute, self._attributes),
            (_restore_container, self._containers),
            (CapturedTensor.restore, zip(self._tensors, strict=True)),
            (_restore_array, self._arrays),
            (set_state, self._generators),
            (_restore_file, self._files),
            (_check_unchanged, self._large),
            (Snapshot._restore_surroundings, [(self,)]),
        ]
        for restore_part, entries in parts:
            for entry in entries:
                try:
                    restore_part(*entry)
                except Exception as error:
                    failures.append(in_one_line(error))
        if failures:
            raise LrfindError(
                f"{counted(len(failures), 'part')} of the state of the training could not be restored; the"
                f" first error is {failures[0]}"
            )

    def _restore_surroundings(self) -> None:
        restore(self._random)
        if torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        if torch.get_default_dtype() != self._dtype:
            torch.set_default_dtype(self._dtype)
        if torch.are_deterministic_algorithms_enabled() != self._deterministic:
            torch.use_deterministic_algorithms(self._deterministic)

    def moved(self, tensors: Iterable[Tensor]) -> bool:
        """Return whether these tensors moved by more than rounding since the snapshot."""
        before = {id(entry.tensor): entry for entry in self._tensors}
        norms = [before[id(tensor)].norms for tensor in tensors if id(tensor) in before]
        changes, sizes = (sum(norm**2 for norm in column) for column in zip(*norms, strict=True))
        return bool(changes > MOST_ROUNDING**2 * sizes)

    def clear_grads(self) -> None:
        """Set every `.grad` to None, so that nothing is written into the captured gradients."""
        for entry in self._tensors:
            if entry.tensor.is_leaf:
                entry.tensor.grad = None


@contextmanager
def preserved(
    trained: Iterable[Any], data: Iterable[Any] = (), *, kept: Iterable[Any] = ()
) -> Iterator[Snapshot]:
    """Allow any training inside the block; restore everything afterwards, also after an exception.

    Inside, gradients are on, and an autocast that is under way does not keep converted weights, which would
    be stale after an update.
    """
    snapshot = Snapshot(trained, data, kept=kept)
    snapshot.clear_grads()
    caching = torch.is_autocast_cache_enabled()
    try:
        with torch.inference_mode(False), torch.enable_grad():
            torch.set_autocast_cache_enabled(False)
            torch.clear_autocast_cache()
            yield snapshot
    finally:
        torch.set_autocast_cache_enabled(caching)
        snapshot.restore()


def _reshard(values: Iterable[Any]) -> None:
    """Put the weights of FSDP modules back into their shards; a forward pass may have gathered them."""
    for value in values:
        for module in value.modules() if isinstance(value, nn.Module) else ():
            reshard = getattr(module, "reshard", None)
            if callable(reshard) and hasattr(module, "unshard"):
                reshard()


def _plain_copy(container: Any) -> Any:
    """Make a shallow copy with the base class's methods.

    A subclass may refuse to be copied or changed.
    """
    if isinstance(container, dict):
        return dict(dict.items(container))
    if isinstance(container, bytearray | array):
        return container[:]
    return set(container) if isinstance(container, set) else list(container)


def _restore_container(container: Any, copy: Any, log: bool) -> None:
    if log and _only_grew(container, copy):
        return
    if isinstance(container, dict):
        # An OrderedDict stores its order itself.
        base: Any = OrderedDict if isinstance(container, OrderedDict) else dict
        same_keys = len(container) == len(copy) and all(map(operator.is_, base.keys(container), copy))
        if not same_keys or not all(map(operator.is_, base.values(container), copy.values())):
            base.clear(container)
            base.update(container, copy)
    elif isinstance(container, list):
        list.__setitem__(container, slice(None), copy)
    elif isinstance(container, bytearray | array):
        if container != copy:
            container[:] = copy
    elif isinstance(container, set):
        if set.symmetric_difference(container, copy):
            set.clear(container)
            set.update(container, copy)
    else:
        deque.clear(container)
        deque.extend(container, copy)


def _restore_array(values: np.ndarray[Any, Any], copy: np.ndarray[Any, Any]) -> None:
    if values.shape != copy.shape:
        values.resize(copy.shape, refcheck=False)
    if values.tobytes() != copy.tobytes():
        np.copyto(values, copy)


def _only_grew(values: list[Any], before: list[Any]) -> bool:
    """Return whether a list only grew, and only by numbers, texts and lists of them."""
    same = all(new is old for new, old in zip(values, before, strict=False))
    return len(values) > len(before) and same and all(map(_is_plain, values[len(before) :]))


def _is_plain(value: Any, depth: int = 3) -> bool:
    if isinstance(value, list | tuple):
        return depth > 0 and all(_is_plain(part, depth - 1) for part in value)
    return isinstance(value, NUMBERS)


def _contents(cell: CellType) -> Any:
    return cell.cell_contents if cell != CellType() else MISSING


def _restore_cell(cell: CellType, contents: Any) -> None:
    if contents is not MISSING:
        cell.cell_contents = contents
    elif cell != CellType():
        del cell.cell_contents


def _restore_variable(variables: dict[str, Any], name: str, value: Any) -> None:
    if value is MISSING:
        variables.pop(name, None)
    else:
        variables[name] = value


def _attribute(holder: Any, name: str) -> Any:
    return vars(holder).get(name, MISSING) if isinstance(holder, type) else getattr(holder, name, MISSING)


def _restore_attribute(holder: Any, name: str, before: Any) -> None:
    if _attribute(holder, name) is before:
        return
    if before is MISSING:
        delattr(holder, name)
    elif isinstance(holder, type | Tensor | torch.jit.ScriptModule):
        setattr(holder, name, before)
    else:
        object.__setattr__(holder, name, before)


def _restore_file(file: IO[Any], position: int) -> None:
    if not file.closed:
        file.seek(position)


def _check_unchanged(tensor: Tensor, version: int) -> None:
    if tensor._version != version:
        size = tensor.numel() * tensor.element_size() / 2**20
        raise UsageError(
            f"the training changes a tensor of {size:.0f} MiB outside of its modules and optimizers, which"
            " lrfind takes for data; name it in keep=[...]"
        )
