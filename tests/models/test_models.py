"""The built-in models compared with torch's own layers, with formulas, and as stacked lanes."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import repeat
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn, optim
from torch.nn import functional

from lrfind.catalog import MODELS
from lrfind.config.registry import resolve
from lrfind.config.sections import Component
from lrfind.errors import UsageError
from lrfind.models.lenet import LeNet
from lrfind.models.linear import Linear, Logistic
from lrfind.models.mlp import MLP, DeepMLP
from lrfind.models.parts import ACTIVATIONS
from lrfind.models.recurrent import GRU, LSTM, RNN
from lrfind.models.resnet import ResNet
from lrfind.models.small_cnn import SmallCNN
from lrfind.models.torchvision_models import torchvision_model
from lrfind.models.transformer import Attention, Transformer
from lrfind.problem.components import make_model
from lrfind.problem.data import sizes_of
from lrfind.problem.setup import Setup
from lrfind.training.loop import train
from lrfind.training.stack import Stack

IMAGE = {"in_channels": 1, "image_size": (28, 28), "out_features": 10}
TEXT = {"vocabulary": 7, "sequence_length": 6, "out_features": 7}

ROWS = torch.zeros(3, 5)
IMAGES = torch.zeros(3, 1, 28, 28)
NUMBERS = torch.zeros(3, 6, 4)
TOKENS = torch.zeros(3, 6, dtype=torch.int64)


def residual(before: int, after: int) -> int:
    """Count the parameters of two 3x3 convolutions and, where the shape changes, one of 1x1, with batch norms."""
    shortcut = 0 if before == after else before * after + 2 * after
    return 9 * before * after + 9 * after * after + 4 * after + shortcut


@pytest.mark.parametrize(
    ("model", "x", "output", "parameters"),
    [
        (Linear(5, 2), ROWS, (3, 2), 12),
        (Logistic(5, 2), ROWS, (3, 2), 12),
        (MLP(784, 10), IMAGES, (3, 10), 784 * 128 + 128 + 128 * 64 + 64 + 64 * 10 + 10),
        (MLP(5, 1, hidden=[], dropout=0.5), ROWS, (3, 1), 6),
        (MLP(5, 1, hidden=[4], norm="batch"), ROWS, (3, 1), 24 + 8 + 5),
        (DeepMLP(5, 2), ROWS, (3, 2), 6 * 64 + 11 * (64 * 64 + 64) + 2 * 65),
        (DeepMLP(5, 2, depth=3, width=4, norm="layer"), ROWS, (3, 2), 24 + 2 * 20 + 3 * 8 + 10),
        # The Keras tutorial's network: 93,322 parameters.
        (SmallCNN(**IMAGE, channels=(32, 64, 64)), IMAGES, (3, 10), 93_322),
        (SmallCNN(**IMAGE, norm="group"), IMAGES, (3, 10), 93_322 + 2 * (32 + 64 + 64 + 64)),
        (SmallCNN(**IMAGE, channels=(4,), hidden=8), IMAGES, (3, 10), 40 + 26 * 26 * 4 * 8 + 8 + 90),
        (ResNet(1, 10), IMAGES, (3, 10), 176 + residual(16, 16) + residual(16, 32) + residual(32, 64) + 650),
        # ResNet-20 with option B, as it is known for CIFAR-10.
        (ResNet(3, 10, blocks=3), torch.zeros(3, 3, 32, 32), (3, 10), 272_474),
        (ResNet(1, 2, channels=(3, 6), norm="layer", activation="silu"), IMAGES, (3, 2), 33 + 174 + 554),
        (RNN(2, step_features=4, hidden=8), NUMBERS, (3, 2), 8 * (4 + 8 + 2) + 18),
        (GRU(2, step_features=4, hidden=8, layers=2), NUMBERS, (3, 2), 3 * 8 * (14 + 18) + 18),
        (LSTM(2, step_features=4, hidden=8, each_step=True), NUMBERS, (3, 2, 6), 4 * 8 * 14 + 18),
        (LSTM(7, vocabulary=7, hidden=8), TOKENS, (3, 7, 6), 56 + 4 * 8 * 18 + 63),
        (LSTM(2, vocabulary=7, hidden=8, each_step=False), TOKENS, (3, 2), 56 + 4 * 8 * 18 + 18),
        (Transformer(**TEXT, width=8), TOKENS, (3, 7, 6), 56 + 48 + 2 * (12 * 64 + 13 * 8) + 16 + 63),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_a_model_has_the_documented_output_shape_and_size(
    model: nn.Module, x: Tensor, output: tuple[int, ...], parameters: int
) -> None:
    assert model(x).shape == output
    assert sum(p.numel() for p in model.parameters()) == parameters


@pytest.mark.parametrize(
    ("names", "x", "y"),
    [
        (["linear", "logistic", "mlp", "deep_mlp"], ROWS, torch.arange(3)),
        (["lenet", "small_cnn", "small_resnet", "mlp"], IMAGES, torch.arange(3)),
        (["rnn", "lstm", "gru", "mlp"], NUMBERS, torch.arange(3)),
        (["rnn", "lstm", "gru", "transformer"], TOKENS, TOKENS),
    ],
    ids=["rows", "images", "numbers", "tokens"],
)
def test_a_model_given_by_name_takes_its_sizes_from_the_data(names: list[str], x: Tensor, y: Tensor) -> None:
    for name in names:
        model = make_model(
            Component(name=name),
            resolve(MODELS[name]),
            sizes_of(x, y, classes=3, vocabulary=9 if x is TOKENS else None),
        )
        assert nn.functional.cross_entropy(model(x), y).isfinite()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: SmallCNN(**IMAGE, channels=[4] * 5),
            "no pixel of a 28x28 image is left after 5 convolutions; give a shorter list",
        ),
        (lambda: LSTM(10), "LSTM needs either step_features.* or vocabulary.*; found neither"),
        (lambda: GRU(10, step_features=3, vocabulary=5), "found both"),
        (
            lambda: Transformer(**TEXT, width=10),
            "a width of 10 cannot be divided among 4 heads; use a multiple of 4",
        ),
        (lambda: Transformer(**TEXT)(TOKENS.repeat(1, 2)), "12 tokens is longer than the .*length of 6"),
        (lambda: torchvision_model("resnet18", 10, in_channels=4), "3 channels or 1 channel; found 4"),
    ],
)
def test_sizes_that_a_model_cannot_have_are_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_an_image_may_be_as_small_as_the_convolutions_allow() -> None:
    assert SmallCNN(1, (18, 19), 2, channels=[4] * 3, norm="batch")(torch.zeros(3, 1, 18, 19)).shape == (3, 2)
    with pytest.raises(ValueError, match="no pixel of a 17x18 image is left"):
        SmallCNN(1, (17, 18), 2, channels=[4] * 3)


@pytest.mark.parametrize(
    ("make", "layers", "names"),
    [
        (
            lambda: MLP(6, 3, hidden=(5, 4), dropout=0.1),
            lambda: [nn.Linear(6, 5), nn.Linear(5, 4), nn.Linear(4, 3)],
            ["layers.0", "layers.3", "layers.6"],
        ),
        (
            lambda: SmallCNN(**IMAGE, channels=(4, 5), hidden=6),
            lambda: [nn.Conv2d(1, 4, 3), nn.Conv2d(4, 5, 3), nn.Linear(605, 6), nn.Linear(6, 10)],
            ["features.0", "features.3", "head.0", "head.3"],
        ),
        (
            lambda: LeNet(**IMAGE),
            lambda: [nn.Conv2d(1, 20, 5), nn.Conv2d(20, 50, 5), nn.Linear(800, 500), nn.Linear(500, 10)],
            ["features.0", "features.2", "head.0", "head.2"],
        ),
    ],
)
def test_the_default_weights_are_those_that_torch_draws(
    make: Callable[[], nn.Module], layers: Callable[[], list[nn.Module]], names: list[str]
) -> None:
    torch.manual_seed(3)
    weights = make().state_dict()
    torch.manual_seed(3)
    expected = {
        f"{name}.{key}": value
        for name, layer in zip(names, layers(), strict=True)
        for key, value in layer.state_dict().items()
    }
    assert list(weights) == list(expected)
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    ("init", "activation", "deviation"),
    [
        ("he", "relu", math.sqrt(2 / 400)),
        ("he", "tanh", math.sqrt(2 / 400)),
        ("xavier", "relu", math.sqrt(2) * math.sqrt(2 / 700)),
        ("xavier", "tanh", 5 / 3 * math.sqrt(2 / 700)),
        ("xavier", "gelu", math.sqrt(2 / 700)),
        ("small", "relu", 0.01),
    ],
)
def test_an_init_has_the_deviation_of_its_paper(init: Any, activation: Any, deviation: float) -> None:
    torch.manual_seed(0)
    model = MLP(400, 10, hidden=[300], activation=activation, norm="batch", init=init)
    affine, norm = model.layers[0], model.layers[1]
    assert affine.weight.std().item() == pytest.approx(deviation, rel=0.01)
    assert affine.weight.mean().abs() < 0.02 * deviation
    assert not affine.bias.any()
    assert torch.equal(norm.weight, torch.ones(300))


def test_he_counts_all_inputs_of_a_convolution() -> None:
    torch.manual_seed(0)
    weight = SmallCNN(**IMAGE, channels=(64, 64), init="he").features[3].weight
    assert weight.std().item() == pytest.approx(math.sqrt(2 / (9 * 64)), rel=0.02)


def test_orthogonal_matrices_keep_lengths_in_every_gate() -> None:
    model = LSTM(2, step_features=4, hidden=4, init="orthogonal")
    for name in ("weight_ih_l0", "weight_hh_l0"):
        for gate in getattr(model.recurrent, name).chunk(4):
            torch.testing.assert_close(gate @ gate.T, torch.eye(4), atol=1e-6, rtol=0)
    assert not model.recurrent.bias_hh_l0.any()
    wide = MLP(9, 3, hidden=[5], init="orthogonal").layers[0].weight
    torch.testing.assert_close(wide @ wide.T, torch.eye(5), atol=1e-6, rtol=0)


def test_a_deep_tanh_chain_loses_its_gradient_unless_its_weights_are_drawn_for_it() -> None:
    def share(init: Any) -> float:
        torch.manual_seed(0)
        model = DeepMLP(20, 3, init=init)
        model(torch.randn(32, 20)).square().mean().backward()
        first, last = (model.layers[i].weight.grad.norm() for i in (2, -3))
        return float(first / last)

    assert share("default") < 1e-2
    assert share("xavier") > 0.1


def test_logistic_regression_begins_at_the_loss_of_guessing() -> None:
    loss = nn.functional.cross_entropy(Logistic(5, 7)(torch.randn(4, 5)), torch.arange(4))
    assert loss.item() == pytest.approx(math.log(7))


def test_every_activation_equals_the_one_of_that_name_in_torch() -> None:
    x = torch.linspace(-3, 3, 13)
    for name, make in ACTIVATIONS.items():
        expected = x if name == "identity" else getattr(torch.nn.functional, name)(x)
        assert torch.equal(make()(x), expected)


@pytest.mark.parametrize("width", [2, 5, 8, 12])
def test_a_group_norm_of_rows_lets_the_input_through(width: int) -> None:
    model = MLP(4, 3, hidden=[width], norm="group")
    outputs = model(torch.randn(16, 4))
    assert outputs.std(dim=0).min() > 1e-3  # groups of one feature give 0 for every row


def test_a_shortcut_carries_its_input() -> None:
    model = ResNet(1, 2, channels=(3,), blocks=2, norm="batch").eval()
    for block in model.stages:
        nn.init.zeros_(block.residual[-1].weight)  # of the last norm: nothing is left but the shortcut
    x = torch.randn(2, 1, 8, 8)
    torch.testing.assert_close(model(x), model.head(model.stem(x)))


@pytest.mark.parametrize(("kind", "layer"), [(RNN, nn.RNN), (LSTM, nn.LSTM), (GRU, nn.GRU)])
def test_the_output_of_a_sequence_comes_from_its_last_state(
    kind: type[nn.Module], layer: type[nn.Module]
) -> None:
    x = torch.randn(3, 6, 4)
    torch.manual_seed(1)
    model = kind(2, step_features=4, hidden=5, layers=2)
    torch.manual_seed(1)
    recurrent, head = layer(4, 5, num_layers=2), nn.Linear(5, 2)
    last = recurrent(x.transpose(0, 1))[1]
    last = last[0] if kind is LSTM else last  # (layers, B, hidden)
    torch.testing.assert_close(model(x), head(last[-1]))


@pytest.mark.parametrize("make", [lambda: Transformer(**TEXT), lambda: LSTM(7, vocabulary=7)])
def test_a_token_changes_no_prediction_before_it(make: Callable[[], nn.Module]) -> None:
    model = make()
    tokens = torch.randint(0, 7, (2, 6))
    changed = tokens.clone()
    changed[:, 3] = (tokens[:, 3] + 1) % 7
    moved = (model(tokens) - model(changed)).abs().amax(dim=(0, 1))  # (T,)
    assert moved[:3].max() < 1e-6
    assert moved[3:].min() > 1e-6
    torch.testing.assert_close(model(tokens[:, :4]), model(tokens)[:, :, :4])


@pytest.mark.parametrize("name", ["relu", "tanh"])
def test_the_small_cnn_equals_convolution_activation_and_pooling_one_after_another(name: Any) -> None:
    torch.manual_seed(0)
    model, x = SmallCNN(1, (13, 13), 3, (4, 5), activation=name), torch.randn(6, 1, 13, 13)
    weights, activate = [*model.parameters()], getattr(torch, name)
    hidden = activate(functional.conv2d(x, *weights[:2]))
    hidden = activate(functional.conv2d(functional.max_pool2d(hidden, 2), *weights[2:4]))
    hidden = activate(functional.linear(hidden.flatten(1), *weights[4:6]))
    outputs = model(x), functional.linear(hidden, *weights[6:])
    gradients = [torch.autograd.grad(output.square().sum(), weights) for output in outputs]
    assert torch.equal(*outputs)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*gradients, strict=True))


def test_attention_equals_the_formula_of_its_paper() -> None:
    model = Attention(width=8, heads=2)
    x = torch.randn(3, 5, 8)
    query, key, value = model.qkv(x).split(8, dim=-1)
    mixed = []
    for head in (slice(0, 4), slice(4, 8)):
        scores = query[..., head] @ key[..., head].transpose(1, 2) / math.sqrt(4)  # (B, T, T)
        scores = scores.masked_fill(torch.ones(5, 5).triu(1) > 0, -math.inf)
        mixed.append(scores.softmax(dim=-1) @ value[..., head])
    torch.testing.assert_close(model(x), model.out(torch.cat(mixed, dim=-1)))


def test_torchvision_models_keep_their_weight_names_and_see_grey_as_colour() -> None:
    from torchvision.models import resnet18

    grey, colour = torchvision_model("resnet18", 10, 1), torchvision_model("resnet18", 10)
    original = resnet18()
    assert list(grey.state_dict()) == list(original.state_dict())
    weights = {name: value for name, value in original.state_dict().items() if not name.startswith("fc.")}
    for model in (grey, colour):
        assert model.load_state_dict(weights, strict=False).missing_keys == ["fc.weight", "fc.bias"]
    colour.fc.load_state_dict(grey.fc.state_dict())
    x = torch.randn(2, 1, 32, 32)
    assert torch.equal(grey.eval()(x), colour.eval()(x.repeat(1, 3, 1, 1)))


def test_torchvision_models_have_one_output() -> None:
    assert torchvision_model("googlenet", 10).train()(torch.randn(2, 3, 64, 64)).shape == (2, 10)


def test_a_misspelt_torchvision_name_is_corrected() -> None:
    with pytest.raises(UsageError, match="unknown torchvision classifier 'resnet19'; did you mean resnet18"):
        torchvision_model("resnet19", 10)


@pytest.mark.parametrize(
    ("make", "x"),
    [
        (lambda: Linear(5, 3), torch.randn(4, 5)),
        (lambda: Logistic(5, 3), torch.randn(4, 5)),
        (lambda: MLP(5, 3, hidden=(4,), norm="batch", dropout=0.3), torch.randn(4, 5)),
        (lambda: DeepMLP(5, 3, depth=3, width=4), torch.randn(4, 5)),
        (lambda: SmallCNN(1, (8, 8), 3, channels=(3,), norm="batch"), torch.randn(4, 1, 8, 8)),
        (lambda: ResNet(1, 3, channels=(3, 4)), torch.randn(4, 1, 8, 8)),
        (lambda: LSTM(3, step_features=2, hidden=4), torch.randn(4, 3, 2)),
        (lambda: Transformer(7, 5, 7, width=8, heads=2, layers=1, dropout=0.2), torch.randint(0, 7, (4, 5))),
    ],
    ids=["linear", "logistic", "mlp", "deep_mlp", "small_cnn", "small_resnet", "lstm", "transformer"],
)
def test_stacked_lanes_of_a_model_equal_single_lanes(make: Callable[[], nn.Module], x: Tensor) -> None:
    batch = (x.double(), torch.arange(4) % 3) if x.is_floating_point() else (x, x.roll(-1, dims=1))

    def setup() -> Setup:
        torch.manual_seed(0)
        model = make().double()
        optimizer = optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
        torch.manual_seed(1)
        return Setup(model, optimizer, nn.CrossEntropyLoss(), repeat(batch))

    lr = np.full((2, 2), [0.01, 0.1])
    stack = Stack(setup(), 2)
    losses = stack.train(lr)
    for lane in range(2):
        single = setup()
        np.testing.assert_allclose(losses[:, lane], [step.loss for step in train(single, lr[:, lane])], 1e-12)
        for name, tensor in [*single.model.named_parameters(), *single.model.named_buffers()]:
            stacked = (stack.parameters | stack.buffers)[name][lane]
            torch.testing.assert_close(stacked, tensor.detach(), rtol=1e-9, atol=1e-12)
