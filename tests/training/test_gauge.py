"""The gauge's looks at layers, against autograd by hand; and at stacks, against lanes one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lrfind.analysis.health import LayerHealth
from lrfind.problem.setup import Recipe, Setup
from lrfind.training.loop import gauge_of, train
from lrfind.training.stack import Stack

ROWS = 8


class Net(nn.Module):
    """A frozen layer, a dead unit, a norm, an unused layer, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = nn.Linear(5, 4).requires_grad_(False)
        self.hidden = nn.Linear(4, 3)
        self.norm = nn.LayerNorm(3)
        self.unused = nn.Linear(2, 2)
        self.head = nn.Linear(3, 2)
        with torch.no_grad():
            self.hidden.bias[1] = -100.0  # after relu, this unit is never active

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.hidden(self.frozen(x)).relu()))


def setup(recipe: Recipe | None = None, net: type[nn.Module] = Net) -> Setup:
    torch.manual_seed(0)
    model = net().double()
    generator = torch.Generator().manual_seed(1)

    def batches() -> object:
        while True:
            x = torch.randn(ROWS, 5, dtype=torch.float64, generator=generator)
            yield x, torch.randint(0, 2, (ROWS,), generator=generator)

    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.1)
    return Setup(model, optimizer, nn.CrossEntropyLoss(), batches(), recipe or Recipe())


def looks_of(parts: Setup, lr: list[float], steps: range) -> list[LayerHealth]:
    gauge = gauge_of(parts, steps)
    for _ in train(parts, np.array(lr), gauge=gauge):
        pass
    (rows,) = gauge.take()
    return rows


def test_a_look_has_what_autograd_says() -> None:
    rows = {row.layer: row for row in looks_of(setup(), [0.2], range(1))}
    assert list(rows) == ["frozen", "hidden", "norm", "unused", "head"]
    other = setup()
    x, y = next(other.batches)
    other.loss_fn(other.model(x), y).backward()
    gradient = torch.cat([p.grad.flatten() for p in other.model.hidden.parameters()])
    weights = torch.cat([p.detach().flatten() for p in other.model.hidden.parameters()])
    hidden = rows["hidden"]
    assert (hidden.step, hidden.size, hidden.trained, hidden.matrix) == (0, 15, True, True)
    assert hidden.grad_norm == pytest.approx(float(gradient.norm()), rel=1e-12)
    assert hidden.weight_norm == pytest.approx(float(weights.norm()), rel=1e-12)
    assert hidden.update_ratio == pytest.approx(0.2 * float(gradient.norm() / weights.norm()), rel=1e-9)
    assert hidden.relative == pytest.approx(float(gradient.norm() / weights.norm()), rel=1e-12)
    assert hidden.zero_share == pytest.approx(float((gradient == 0).double().mean()))
    assert (hidden.nonfinite_share, hidden.dead_share) == (0, pytest.approx(1 / 3))
    assert (rows["norm"].matrix, rows["norm"].dead_share) == (False, None)
    assert (rows["frozen"].trained, rows["frozen"].grad_norm, rows["frozen"].size) == (False, None, 24)
    assert (rows["unused"].trained, rows["unused"].grad_norm) == (True, None)
    assert rows["head"].clipped_share is None


def test_a_unit_is_dead_only_if_no_look_of_the_last_four_wakes_it() -> None:
    parts = setup()
    gauge = gauge_of(parts, range(99))
    name, dead_shares = "hidden", []
    for awake in ([0], [1], [2], [2], [2], [2]):
        gradients = {key: torch.zeros(1, *p.shape) for key, p in parts.model.named_parameters()}
        gradients[f"{name}.weight"][0, awake] = 1.0
        weights = {key: p.detach()[None] for key, p in parts.model.named_parameters()}
        gauge.look(len(dead_shares), weights, gradients)
        dead_shares.append(next(row for row in gauge.take()[0] if row.layer == name).dead_share)
    assert dead_shares == pytest.approx([2 / 3, 1 / 3, 0, 0, 1 / 3, 2 / 3])


@pytest.mark.parametrize(
    ("recipe", "share"),
    [(Recipe(clip_norm=1e-6), 1.0), (Recipe(clip_norm=1e6), 0.0), (Recipe(clip_value=1e6), 0.0)],
)
def test_a_look_has_the_share_that_clipping_changes(recipe: Recipe, share: float) -> None:
    rows = looks_of(setup(recipe), [0.1, 0.1], range(2))
    assert {row.clipped_share for row in rows if row.layer == "head"} == {share}
    plain = looks_of(setup(), [0.1], range(1))
    assert [row.grad_norm for row in rows[:5]] == [row.grad_norm for row in plain]  # before clipping


def test_a_gradient_that_is_cut_below_the_largest_norm_is_not_scaled_down_too() -> None:
    parts = setup(Recipe(clip_value=0.5, clip_norm=2.0))
    gauge = gauge_of(parts, range(1))
    weights = {key: p.detach()[None] for key, p in parts.model.named_parameters()}
    gradients = {key: torch.full_like(p, 0.01) for key, p in weights.items()}
    gradients["head.weight"][0, 0, 0] = 100.0
    gauge.look(0, weights, gradients)
    cut = [torch.nn.Parameter(p) for p in weights.values()]
    for parameter, gradient in zip(cut, gradients.values(), strict=True):
        parameter.grad = gradient.clone()
    torch.nn.utils.clip_grad_value_(cut, 0.5)
    assert torch.nn.utils.clip_grad_norm_(cut, 2.0) < 2  # what torch measures after the first clipping
    rows = {row.layer: row.clipped_share for row in gauge.take()[0]}
    assert (rows["head"], rows["hidden"]) == (1 / 8, 0)


def test_a_gradient_that_is_not_finite_is_counted() -> None:
    parts = setup()
    gauge = gauge_of(parts, range(1))
    weights = {key: p.detach()[None] for key, p in parts.model.named_parameters()}
    gradients = {key: torch.ones_like(p) for key, p in weights.items()}
    gradients["head.weight"][0, 0, 0] = torch.nan
    gauge.look(0, weights, gradients)
    rows = {row.layer: row for row in gauge.take()[0]}
    assert (rows["head"].grad_norm, rows["head"].nonfinite_share) == (np.inf, 1 / 8)
    assert rows["hidden"].nonfinite_share == 0


def test_the_looks_at_a_stack_are_those_at_its_lanes_one_by_one() -> None:
    class Used(Net):
        def __init__(self) -> None:
            super().__init__()
            del self.unused

    lrs, steps = [0.01, 0.1, 0.5], 9
    looks = range(0, steps, 3)
    stacked = setup(net=Used)
    stack, gauge = Stack(stacked, len(lrs)), gauge_of(stacked, looks)
    stack.train(np.tile(lrs, (5, 1)), gauge=gauge)
    first = gauge.take()
    stack.keep([0, 2])
    gauge.keep([0, 2])
    stack.train(np.tile([lrs[0], lrs[2]], (4, 1)), start=5, gauge=gauge)
    second = gauge.take()
    for lane, place in ((0, 0), (2, 1)):
        alone = looks_of(setup(net=Used), [lrs[lane]] * steps, looks)
        both = first[lane] + second[place]
        assert [row[:5] for row in both] == [row[:5] for row in alone]
        ours, theirs = (
            np.array([[np.nan if value is None else value for value in row[5:]] for row in rows])
            for rows in (both, alone)
        )
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)


def test_looking_changes_nothing() -> None:
    watched, plain = setup(), setup()
    losses = [
        [step.loss for step in train(parts, np.full(6, 0.1), gauge=gauge)]
        for parts, gauge in ((watched, gauge_of(watched, range(6))), (plain, None))
    ]
    assert losses[0] == losses[1]
    for ours, theirs in zip(watched.model.parameters(), plain.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


class Odd(nn.Module):
    """A parameter of no axes, one of the model itself, one without numbers, and a linear layer with more."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.weight = nn.Parameter(torch.randn(5, 4))
        self.low_rank = nn.Linear(4, 6)
        self.low_rank.down = nn.Parameter(torch.randn(3, 4))
        self.empty = nn.ParameterList([torch.zeros(0, 6)])
        self.head = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.low_rank(x @ self.weight) + self.low_rank.down.sum()
        return self.scale * self.head(x) + self.empty[0].sum()


def test_parameters_of_any_shape_can_be_looked_at() -> None:
    rows = {row.layer: row for row in looks_of(setup(net=Odd), [0.1, 0.1], range(2))}
    assert [(row.layer, row.size) for row in rows.values()] == [
        ("(model)", 21),
        ("low_rank", 42),
        ("head", 14),
    ]
    assert rows["low_rank"].dead_share is None  # its rows are not its units alone
    assert rows["head"].dead_share == 0


def test_a_look_that_fails_ends_no_training() -> None:
    parts = setup()
    gauge = gauge_of(parts, range(9))
    gauge.trained = None  # type: ignore[assignment]
    with pytest.warns(RuntimeWarning, match="no further looks at the layers, because one failed: TypeError"):
        losses = [step.loss for step in train(parts, np.full(9, 0.1), gauge=gauge)]
    assert len(losses) == 9
    assert gauge.take() == []
