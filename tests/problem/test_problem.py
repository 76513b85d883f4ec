from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path

import pytest
import torch
from torch import nn

from lrfind.config.experiment import check
from lrfind.errors import UsageError
from lrfind.problem.components import import_names
from lrfind.problem.problem import choose_device, from_config

OWN = """
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

class Rows(Dataset):
    def __init__(self, n=40):
        self.x = torch.arange(n * 2.0).reshape(n, 2)
    def __len__(self):
        return len(self.x)
    def __getitem__(self, i):
        return self.x[i], self.x[i, :1]

class Stream(IterableDataset):
    def __iter__(self):
        return iter([(torch.ones(2), torch.ones(1))] * 10)

class OncePassed(Stream):
    rows = iter([(torch.ones(2), torch.ones(1))] * 10)
    def __iter__(self):
        return self.rows

class Inheriting(nn.CrossEntropyLoss):
    pass

def pair():
    return Rows(24), Rows(8)

def loaders():
    return DataLoader(Rows(24), batch_size=6), DataLoader(Rows(8), batch_size=8)

def holes():
    x = torch.ones(9, 2)
    x[3] = torch.nan
    return TensorDataset(x, torch.ones(9, 1))

def nothing():
    return 3

class FrozenNorm(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Dropout(), nn.Linear(3, 1))
    def train(self, mode=True):
        super().train(mode)
        self[1].eval()
        return self

def evaluated():
    return nn.Sequential(nn.Linear(4, 1), nn.Dropout()).eval()

def partly_evaluated():
    model = nn.Sequential(nn.Linear(4, 1), nn.Dropout())
    model[1].eval()
    return model

class Sparse(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(4, 1, sparse=True)

class Complex(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, dtype=torch.complex64))

class Leaving(Rows):
    def __getitem__(self, i):
        raise SystemExit(0)

def half_broken():
    return Rows(24), Leaving(8)

tensors = TensorDataset(torch.randn(30, 2), torch.randn(30, 1))
net = nn.Linear(2, 1)

class Net(nn.Module):
    def __init__(self, in_features, width=3):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(in_features, width), nn.Linear(width, 1))
    def forward(self, x):
        return self.layers(x)

def fixed():
    return nn.Flatten()

def half(output, y, scale=0.5):
    return scale * (output - y).square().mean()
"""

BASE = """
model: linear
data: {name: regression, batch_size: 16, args: {samples: 40, features: 4}}
loss: mse
optimizer: sgd
"""


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_for_problem.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)


def problem(*overrides: str, held_out: bool = False):
    overrides = tuple(o.replace("own:", "own_for_problem:") for o in overrides)
    return from_config(check(BASE, overrides), held_out=held_out)


def first_loss(setup) -> float:
    x, y = next(setup.batches)
    return setup.loss_fn(setup.model(x), y).item()


def test_the_same_seed_gives_the_same_lane_and_another_seed_another() -> None:
    regression = problem()
    one, same, other = (regression.setup(seed) for seed in (5, 5, 6))
    assert torch.equal(one.model.affine.weight, same.model.affine.weight)
    assert not torch.equal(one.model.affine.weight, other.model.affine.weight)
    a, b, c = (next(setup.batches)[0] for setup in (one, same, other))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


@pytest.mark.parametrize(
    ("data", "rows"),
    [
        ("{name: 'own:Rows', batch_size: 12}", 12),
        ("{name: 'own:Rows', batch_size: 12, args: {n: 20}}", 12),  # the rest of an epoch is left out
        ("{name: 'own:pair', batch_size: 12}", 12),
        ("{name: 'own:loaders'}", 6),
        ("{name: 'own:tensors', batch_size: 12}", 12),
        ("{name: 'own:tensors', batch_size: full}", 27),
        ("{name: 'own:Stream', batch_size: 5}", 5),
    ],
)
def test_every_form_of_a_users_data_gives_batches_and_sizes(data: str, rows: int) -> None:
    setup = problem(f"data={data}").setup(0)
    assert [len(batch[0]) for batch in islice(setup.batches, 2)] == [rows] * 2
    assert setup.model.affine.in_features == 2
    assert first_loss(setup) > 0


def test_exhausted_data_is_distinguished_from_empty_data() -> None:
    setup = problem("data={name: 'own:OncePassed', batch_size: 5}").setup(0)
    with pytest.raises(UsageError, match="yielded 2 batches, and none when it was read again"):
        list(islice(setup.batches, 2))


def test_a_users_dataset_is_shuffled_and_split_by_the_seed() -> None:
    rows = problem("data={name: 'own:Rows', batch_size: 36}", held_out=True)
    one, same, other = (rows.setup(seed) for seed in (0, 0, 1))
    a, b, c = (next(setup.batches)[0] for setup in (one, same, other))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    held_out = one.held_out_batch[0]
    assert len(held_out) == 4
    assert not set(held_out[:, 0].tolist()) & set(a[:, 0].tolist())


def test_a_users_model_and_loss_get_their_arguments() -> None:
    scaled = problem("model={name: 'own:Net', args: {width: 7}}", "loss={name: 'own:half', args: {scale: 2}}")
    setup = scaled.setup(0)
    assert [layer.out_features for layer in setup.model.layers] == [7, 1]
    plain = problem("model={name: 'own:Net', args: {width: 7}}", "loss='own:half'").setup(0)
    assert first_loss(setup) == pytest.approx(4 * first_loss(plain))


def test_the_weights_of_classes_are_given_as_lists() -> None:
    images, model = (
        "data={name: mnist_mini, args: {digits: [0, 1, 2]}}",
        "model={name: mlp, args: {hidden: []}}",
    )
    weights = [1.0, 2.0, 0.5]
    setup = problem(images, model, f"loss={{name: cross_entropy, args: {{weight: {weights}}}}}").setup(0)
    x, y = next(setup.batches)
    expected = nn.functional.cross_entropy(setup.model(x), y, torch.tensor(weights))
    torch.testing.assert_close(setup.loss_fn(setup.model(x), y), expected)
    for name in ("own:Inheriting", "torch.nn.functional:cross_entropy"):
        loss = (
            problem(images, model, f"loss={{name: '{name}', args: {{weight: {weights}}}}}").setup(0).loss_fn
        )
        torch.testing.assert_close(loss(setup.model(x), y), expected)
    binary = problem("loss={name: bce_with_logits, args: {pos_weight: [3]}}").setup(0).loss_fn
    assert torch.equal(binary.pos_weight, torch.tensor([3.0]))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        *((f"loss={{name: cross_entropy, args: {{weight: {weight}}}}}", "^loss: weight must be a list of numbers, .*found ") for weight in ("[1, a]", "[1, null]", "[]", "2.0", "balanced", "[1, .nan]", "[-1, 2]", "[0, 0]")),
        ("data={name: 'own:holes'}", "data set holds NaN or inf .2 in all, the first in row 3"),
        ("data={name: 'own:Leaving', batch_size: 4}", "reading the first batch of .* failed: SystemExit"),
        ("data={name: 'own:nothing'}", "gives an object of type int; expected a Dataset"),
        ("data={name: regression, batch_size: 99, args: {samples: 40}}", "99 is more than the 40 training rows"),
        ("data={name: regression, args: {samples: 2, features: 4}}", "samples > features"),
        ("model='own:net'", "is a module that exists already; name its class"),
        ("model='own:fixed'", "has no parameters to train"),
        ("model='own:nothing'", "returned an object of type int, not a torch module"),
        ("model=small_cnn", "determine in_channels of 'small_cnn'; .* or use a model for rows of numbers: linear, logistic, mlp"),
        ("model=lstm", "determine step_features or vocabulary of 'lstm'; .* a model for rows of numbers"),
        ("data={name: text}", "determine in_features of 'linear'; .* a model for tokens: transformer, lstm"),
        ("data={name: mnist_mini, validation: 0.3}", "data.validation: 'mnist_mini' has a validation split of its own"),
        ("model={name: mlp, args: {hidden: [-3]}}", r"mlp\(.*hidden=\[-3\]\) failed: RuntimeError"),
        ("optimizer={name: sgd, args: {nesterov: true}}", "sgd.* failed: ValueError: Nesterov"),
        ("loss={name: mse, args: {reduction: sum}}", "^loss: mse has `reduction: sum`.* leave it out"),
        ("optimizer={name: sgd, args: {maximize: true}}", "^optimizer: 'sgd' has maximize=True.* leave maximize out"),
        ("optimizer='builtins:dict'", "^optimizer: 'builtins:dict' returned an object of type dict, not a torch optimizer"),
        ("model='own:missing'", "has no attribute 'missing'"),
    ],
)  # fmt: skip
def test_the_reason_why_a_part_cannot_be_created_is_given(override: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        problem(override).setup(0)


def test_held_out_rows_that_cannot_be_read_are_reported() -> None:
    with pytest.raises(UsageError, match="reading the first batch of .* failed"):
        problem("data={name: 'own:half_broken', batch_size: 4}", held_out=True)


def test_a_model_that_changes_a_validation_batch_in_place_leaves_the_next_evaluation_as_it_is() -> None:
    validation = problem().validation
    before = [part.clone() for part in next(iter(validation()))]
    next(iter(validation()))[0].zero_()
    assert all(map(torch.equal, next(iter(validation())), before))


def test_a_held_out_batch_without_validation_data_is_refused() -> None:
    with pytest.raises(UsageError, match="no validation part"):
        problem("data={name: 'own:Stream', batch_size: 5}", held_out=True)


def test_classes_are_counted_from_the_data_and_convolutions_use_channels_last() -> None:
    model = (
        from_config(check("model: small_cnn\ndata: mnist_mini\nloss: cross_entropy\noptimizer: adam"))
        .setup(0)
        .model
    )
    assert model.head[-1].out_features == 10
    assert model.features[3].weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("channels", "channels_last"), [([15, 20], False), ([16, 20], True), ([6], True)])
def test_strided_1x1_convolutions_of_few_channels_are_not_channels_last(
    channels: list[int], channels_last: bool
) -> None:
    model = (
        problem(f"model={{name: small_resnet, args: {{channels: {channels}}}}}", "data=digits").setup(0).model
    )
    convolution = model.stages[0].residual[0]
    assert convolution.weight.is_contiguous(memory_format=torch.channels_last) is channels_last


def test_adam_and_sgd_are_fused_unless_set_otherwise() -> None:
    for name in ("adam", "sgd"):
        assert problem(f"optimizer={name}").setup(0).optimizer.defaults["fused"] is True
    assert (
        problem("optimizer={name: adam, args: {fused: false}}").setup(0).optimizer.defaults["fused"] is False
    )
    assert (
        problem("optimizer={name: adam, args: {foreach: true}}").setup(0).optimizer.defaults["fused"] is None
    )


@pytest.mark.parametrize("model", ["Sparse", "Complex"])
def test_an_optimizer_is_not_fused_where_torch_does_not_allow_it(model: str) -> None:
    setup = problem(f"model='own:{model}'", "optimizer=sgd").setup(0)
    assert not setup.optimizer.defaults["fused"]


@pytest.mark.parametrize(
    "name", ["sgd", "adam", "adamw", "nadam", "radam", "adamax", "rmsprop", "adagrad", "adadelta"]
)
def test_every_optimizer_takes_a_step(name: str) -> None:
    setup = problem(f"optimizer={name}").setup(0)
    before = setup.model.affine.weight.clone()
    x, y = next(setup.batches)
    setup.loss_fn(setup.model(x), y).backward()
    setup.optimizer.step()
    assert not torch.equal(before, setup.model.affine.weight)


def test_a_device_that_is_not_there_is_refused() -> None:
    assert choose_device("cpu").type == "cpu"
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="cuda is not available"):
            choose_device("cuda")


@pytest.mark.skipif(
    not hasattr(torch.backends, "fp32_precision"), reason="this torch has no precision of a single backend"
)
def test_a_user_may_set_the_precision_of_matrix_products_of_one_backend() -> None:
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    try:
        problem().setup(0)
        assert torch.backends.cuda.matmul.fp32_precision == "tf32"
    finally:
        torch.set_float32_matmul_precision("highest")


NEEDY = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, in_features, depth): ...

class Loss(nn.Module):
    def __init__(self, weight): ...

class Optimizer(torch.optim.SGD):
    def __init__(self, params, base, lr=0.1): ...

class Unnamed(torch.optim.SGD):
    def __init__(self, parameters, lr=0.1): ...

class Rateless(torch.optim.SGD):
    def __init__(self, params): ...

def rows(path): ...

def loss(output, y, *, weight): ...

def schedule(step, steps, low): ...
"""


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model='needy:Net'", "^model: needy:Net: missing a required argument: 'depth'$"),
        ("data='needy:rows'", "^data: needy:rows: missing a required argument: 'path'$"),
        ("loss='needy:Loss'", "^loss: needy:Loss: missing a required argument: 'weight'$"),
        ("loss='needy:loss'", "missing a required .*argument: 'weight'$"),
        ("optimizer='needy:Optimizer'", "^optimizer: needy:Optimizer: missing a required argument: 'base'$"),
        ("optimizer='needy:Unnamed'", "^optimizer: needy:Unnamed: missing a required argument: 'parameters'$"),
        ("optimizer='needy:Rateless'", "^optimizer: needy:Rateless: got an unexpected keyword argument 'lr'$"),
        ("compare={optimizers: [sgd, 'needy:Optimizer']}", "missing a required argument: 'base'"),
        ("training={steps: 9, schedule: 'needy:schedule'}", "^schedule: needy:schedule is called with step and steps: missing a required argument: 'low'$"),
        ("compare={schedules: [cosine, 'needy:schedule']}", "missing a required argument: 'low'"),
        ("training={steps: 9, schedule: {name: join, args: {at: [4], parts: [constant, 'needy:schedule']}}}", "missing a required argument: 'low'"),
        ("optimizer={name: sgd, args: {nesterov: true}}", "^optimizer: sgd.* failed: ValueError: Nesterov momentum requires"),
        ("optimizer={name: adam, args: {betas: [0.9, 1.0]}}", "^optimizer: adam.* failed: ValueError: Invalid beta"),
    ],
)  # fmt: skip
def test_an_import_shows_what_a_run_cannot_call(
    override: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "needy_parts.py").write_text(NEEDY)
    (tmp_path / "needy.py").write_text("from needy_parts import *\n")  # so that the source shows no argument
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match=message):
        import_names(check(BASE, [override]))
    monkeypatch.delitem(sys.modules, "needy", raising=False)
    monkeypatch.delitem(sys.modules, "needy_parts", raising=False)


def test_names_are_imported_on_request() -> None:
    import_names(check(BASE, ["model='own_for_problem:Net'", "data='own_for_problem:tensors'"]))
    with pytest.raises(UsageError, match=r"loss: .*no module 'not_there'"):
        import_names(check(BASE, ["loss='not_there:x'"]))


@pytest.mark.parametrize(
    ("name", "modes"),
    [
        ("FrozenNorm", [True, False, True, True]),
        ("evaluated", [True, True]),
        ("partly_evaluated", [True, False]),
    ],
)
def test_a_models_own_train_decides_which_parts_are_in_training_mode(name: str, modes: list[bool]) -> None:
    model = problem(f"model='own:{name}'").setup(0).model
    assert [part.training for part in model.children()] == modes
