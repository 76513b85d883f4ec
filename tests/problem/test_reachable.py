"""What a training can reach, and that a snapshot sets all of it back."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, Sampler

from lrfind.errors import LrfindError
from lrfind.problem.reachable import LARGE, generators_of, reachable
from lrfind.problem.references import in_library
from lrfind.problem.snapshot import Snapshot, preserved

STATE: dict[str, Any] = {"hidden": None}
EPOCH = 0


class Average:
    """An exponential average of weights, as users write it: an object with a dict of tensors and a counter."""

    def __init__(self, model: nn.Module) -> None:
        self.shadow = {name: p.detach().clone() for name, p in model.named_parameters()}
        self.updates = 0

    def update(self, model: nn.Module) -> None:
        self.updates += 1
        for name, p in model.named_parameters():
            self.shadow[name].lerp_(p.detach(), 0.5)


class Slotted:
    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 1


class Computed(Slotted):
    """A class that computes what its base keeps in a slot, as mpmath's constants do."""

    __slots__ = ()

    def __init__(self) -> None:
        pass

    @property
    def value(self) -> list[int]:  # type: ignore[override]
        return [1]


def assigns_globals(batch: Any) -> None:
    global EPOCH
    EPOCH += 1
    STATE["hidden"] = torch.ones(2)


def closure_of_a_counter() -> tuple[Callable[[], None], Callable[[], int]]:
    count = 0

    def step() -> None:
        nonlocal count
        count += 1

    return step, lambda: count


def test_variables_that_a_function_encloses_or_assigns_are_set_back() -> None:
    step, count = closure_of_a_counter()
    with preserved([step, assigns_globals]):
        step()
        assigns_globals(None)
        assert (count(), EPOCH) == (1, 1)
    assert (count(), EPOCH, STATE) == (0, 0, {"hidden": None})


@pytest.mark.parametrize("place", ["optimizer", "module", "tensor"])
def test_an_average_that_a_hook_updates_is_set_back(place: str) -> None:
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    average = Average(model)
    if place == "optimizer":
        optimizer.register_step_post_hook(lambda *_: average.update(model))
    elif place == "module":
        model.register_forward_hook(lambda *_: average.update(model))
    else:
        model.weight.register_post_accumulate_grad_hook(lambda *_: average.update(model))
    before = {name: tensor.clone() for name, tensor in average.shadow.items()}
    with preserved([model, optimizer]):
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        model(torch.ones(1, 2)).sum().backward()
        assert average.updates > 0
    assert average.updates == 0
    assert all(torch.equal(average.shadow[name], before[name]) for name in before)


def test_an_optimizer_inside_another_and_a_scheduler_in_a_step_are_set_back() -> None:
    model = nn.Linear(2, 1)
    inner = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.StepLR(inner, step_size=1)

    class Outer:
        def __init__(self) -> None:
            self.inner = inner

    outer = Outer()

    def step() -> None:
        model(torch.ones(1, 2)).sum().backward()
        outer.inner.step()
        scheduler.step()

    with preserved([step]):
        step()
        step()
    assert (inner.state, scheduler.last_epoch, inner.param_groups[0]["lr"]) == ({}, 0, 0.1)


def test_attributes_slots_queues_and_arrays_of_objects_are_set_back() -> None:
    class Holder:
        def __init__(self) -> None:
            self.slotted, self.queue, self.array = Slotted(), deque([1]), np.zeros(2)
            self.rng = np.random.default_rng(0)

        def __call__(self) -> None:
            self.slotted.value, self.new = 2, 1
            self.queue.append(2)
            self.array += self.rng.normal()

    holder = Holder()
    state = str(holder.rng.bit_generator.state)
    with preserved([lambda batch: holder()]):
        holder()
        assert holder.array[0] != 0
    assert (holder.slotted.value, list(holder.queue), holder.array.tolist()) == (1, [1], [0, 0])
    assert str(holder.rng.bit_generator.state) == state
    assert not hasattr(holder, "new")


def test_a_log_of_numbers_that_only_grows_keeps_what_was_written() -> None:
    log: list[Any] = []
    kept: list[Any] = []

    def step() -> None:
        log.append([0.1, 0.2])
        kept.append(torch.zeros(1))

    with preserved([step]):
        step()
    assert (log, kept) == ([[0.1, 0.2]], [])


class Positioned(Sampler[int]):
    """A sampler of a sampler, with a position and a generator, as resumable samplers have."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.position, self.rng = inner, 0, np.random.default_rng(1)

    def __iter__(self) -> Iterator[int]:
        for index in self.inner:
            self.position += 1
            yield int(self.rng.integers(4)) if index else 0

    def __len__(self) -> int:
        return 4


class Augmented(Dataset[Any]):
    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.transform = lambda x: x + rng.normal()
        self.rng = rng

    def __getitem__(self, index: int) -> Any:
        return torch.tensor(self.transform(float(index)))

    def __len__(self) -> int:
        return 4


def test_positions_and_generators_of_samplers_transforms_and_collate_functions_are_set_back() -> None:
    noise = torch.Generator().manual_seed(3)
    data, sampler = Augmented(), Positioned(Positioned(range(4)))
    loader = DataLoader(data, 2, sampler=sampler, collate_fn=lambda rows: torch.stack(rows) + torch.rand(1, generator=noise))  # fmt: skip
    found = generators_of(loader)
    assert {id(data.rng), id(noise), id(sampler.rng), id(sampler.inner.rng)} <= {*map(id, found)}
    states = [str(data.rng.bit_generator.state), noise.get_state().tolist()]
    with preserved([], [loader]):
        assert len([*loader, *loader]) == 4
        assert sampler.inner.position == 8
    assert (sampler.position, sampler.inner.position) == (0, 0)
    assert [str(data.rng.bit_generator.state), noise.get_state().tolist()] == states


def test_a_module_that_a_loader_calls_is_set_back() -> None:
    generator = nn.BatchNorm1d(2)

    class Generated:
        def __iter__(self) -> Iterator[Any]:
            yield generator(torch.randn(4, 2)).detach()

    with preserved([], [Generated()]) as snapshot:
        next(iter(Generated()))
        assert generator.num_batches_tracked == 1
        assert snapshot.lost == []
    assert generator.num_batches_tracked == 0


def test_an_iterator_in_a_step_is_reported_because_it_cannot_be_set_back() -> None:
    batches = iter([1, 2])
    (lost,) = Snapshot([lambda: next(batches)]).lost
    assert "list_iterator" in lost


def test_the_position_of_a_file_that_is_read_is_set_back_and_what_is_written_stays(tmp_path: Path) -> None:
    path = tmp_path / "rows.txt"
    path.write_text("1\n2\n3\n4\n")
    with path.open() as rows, path.open("rb") as raw, (tmp_path / "log.txt").open("w+") as log:
        rows.readline(), raw.read(2)

        def batch() -> str:
            log.write("a line\n")
            return next(rows) + raw.readline().decode()

        first = Snapshot([], [batch])
        assert first.lost == []
        batch(), batch()
        first.restore()
        assert batch() == "2\n2\n"
        assert log.tell() == 3 * len("a line\n")
        (lost,) = Snapshot([], [batch]).lost
        assert "a file that does not tell its position (TextIOWrapper)" in lost


class Scripted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Dropout()
        self.calls, self.hidden = 0, torch.zeros(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.hidden = self.hidden + x
        return self.inner(x)


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning", "ignore:.*torch.jit:DeprecationWarning")
def test_the_attributes_of_a_module_of_torchscript_are_set_back() -> None:
    model = torch.jit.script(Scripted()).eval()
    hidden = model.hidden
    with preserved([model]):
        model.train()
        model(torch.ones(2))
        assert (model.calls, model.inner.training) == (1, True)
    assert (model.calls, model.training, model.inner.training) == (0, False, False)
    assert model.hidden is hidden
    assert not hidden.any()


def test_a_large_tensor_outside_of_modules_is_not_copied_but_a_change_of_it_is_noticed() -> None:
    data = torch.zeros(LARGE // 4 + 1)
    reached = reachable([lambda batch: data])
    assert [tensor.data_ptr() for tensor in reached.large] == [data.data_ptr()]
    assert reachable([lambda batch: data], kept=[data]).large == []

    def train() -> None:
        data.add_(1)

    with pytest.raises(LrfindError, match=r"16 MiB outside of its modules .* keep=\[\.\.\.\]"):  # noqa: SIM117
        with preserved([train]):
            train()


def test_gradients_are_set_back_by_value_where_steps_accumulate_them() -> None:
    weight = nn.Parameter(torch.ones(2))
    weight.grad = torch.full((2,), 3.0)
    gradient = weight.grad
    snapshot = Snapshot([], kept=[weight], copy_grads=True)
    (weight.sum() * 2).backward()
    assert gradient.tolist() == [5, 5]
    snapshot.restore()
    assert weight.grad is gradient
    assert gradient.tolist() == [3, 3]


class Counting(nn.Module):
    """A module whose class counts its calls, and which starts other optimizers' hooks in its first call."""

    calls = 0

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))

    def forward(self) -> torch.Tensor:
        Counting.calls += 1
        self.weight.register_hook(lambda gradient: 2 * gradient)
        return self.weight.sum()


def test_class_variables_and_hooks_that_a_step_registers_are_set_back() -> None:
    model = Counting()
    with preserved([model]):
        model().backward()
        assert Counting.calls == 1
    assert Counting.calls == 0
    model.weight.sum().backward()
    assert model.weight.grad.tolist() == [1, 1]


def creates_globals() -> None:
    global CREATED_IN_A_STEP
    CREATED_IN_A_STEP = 1


def test_a_property_in_the_place_of_a_slot_is_not_set_back() -> None:
    computed = Computed()
    Snapshot([computed]).restore()
    assert computed.value == [1]


@pytest.mark.parametrize("folder", ["site-packages", "dist-packages"])
def test_packages_of_another_environment_are_no_code_of_the_user(folder: str) -> None:
    assert in_library(f"/home/me/.local/lib/python3.11/{folder}/mpmath/ctx_mp.py")
    assert not in_library("/home/me/nets/model.py")


def test_what_a_step_creates_is_gone_afterwards() -> None:
    def step() -> None:
        nonlocal late
        creates_globals()
        step.attribute = slotted.value = late = 1

    slotted = Slotted()
    del slotted.value
    late: int
    with preserved([step]):
        step()
    assert "CREATED_IN_A_STEP" not in globals()
    assert not hasattr(step, "attribute")
    assert not hasattr(slotted, "value")


def test_a_tensor_gets_its_own_memory_back() -> None:
    weight, other = nn.Parameter(torch.ones(4)), torch.zeros(4)
    view, place = weight.data.view(2, 2), weight.data_ptr()
    with preserved([], kept=[weight, other]):
        weight.data = other
        weight.data.add_(5)
        other.data = torch.full((4,), 7.0)
    assert (weight.tolist(), other.tolist(), view.flatten().tolist()) == ([1] * 4, [0] * 4, [1] * 4)
    assert weight.data_ptr() == place


def test_tensors_that_cannot_be_written_are_left_alone() -> None:
    with torch.inference_mode():
        features = torch.ones(3)
    fixed = np.ones(3, dtype=np.float32)
    fixed.flags.writeable = False
    with pytest.warns(UserWarning, match="not writable"):
        read_only = torch.from_numpy(fixed)
    with preserved([lambda batch: features.sum() + read_only.sum()]):
        pass
    assert features.sum() + read_only.sum() == 6
