from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import lrfind
from lrfind.errors import UsageError
from lrfind.integrations import skorch as integration
from tests.helpers.states import bits

EPOCHS = 20


def rows() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    make = np.random.default_rng(0)
    x = make.normal(size=(320, 6)).astype(np.float32)
    return x, (x[:, :3] + 0.1 * make.normal(size=(320, 3))).argmax(axis=1)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 3))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out


def net(kind: Any = None, **settings: Any) -> Any:
    from skorch import NeuralNetClassifier

    settings = {
        "criterion": nn.CrossEntropyLoss, "optimizer": torch.optim.Adam, "lr": 1e-4, "batch_size": 32,
        "max_epochs": EPOCHS, "iterator_train__shuffle": True, "train_split": None, "verbose": 0, **settings,
    }  # fmt: skip
    return (kind or NeuralNetClassifier)(settings.pop("module", Net), **settings)


def the_plain_answer(**options: Any) -> lrfind.Recommendation:
    torch.manual_seed(0)
    model = Net()
    x, y = rows()
    data = torch.utils.data.TensorDataset(torch.tensor(x), torch.tensor(y))
    loader = torch.utils.data.DataLoader(data, batch_size=32, shuffle=True)
    loss_fn = nn.CrossEntropyLoss()
    return lrfind.find(
        model, torch.optim.Adam(model.parameters(), lr=1e-4), data=loader,
        loss=lambda batch: loss_fn(model(batch[0]), batch[1]), steps=EPOCHS * 10, **options,
    )  # fmt: skip


def batch_losses(of: Any) -> list[float]:
    return [batch["train_loss"] for epoch in of.history for batch in epoch["batches"]]


def weights(of: Any) -> Any:
    return bits([*of.module_.state_dict().values()], set())


def test_the_answer_is_that_of_the_plain_call_and_fit_uses_it() -> None:
    of = net()
    torch.manual_seed(0)
    best = integration.find(of, *rows())
    plain = the_plain_answer()
    assert (best.lr, best.low, best.high, best.cost) == (plain.lr, plain.low, plain.high, plain.cost)
    assert of.lr == best.lr
    assert not of.initialized_
    of.fit(*rows())
    assert of.optimizer_.param_groups[0]["lr"] == best.lr


def test_a_net_trains_as_if_nobody_had_asked() -> None:
    runs = []
    for asks in (False, True):
        torch.manual_seed(0)
        of = net()
        if asks:
            integration.find(of, *rows())
            of.set_params(lr=1e-4)
        of.set_params(max_epochs=1)
        of.fit(*rows())
        runs.append((batch_losses(of), weights(of)))
    assert runs[0] == runs[1]
    assert len(runs[0][0]) == 10


def test_an_initialized_net_goes_on_with_its_weights_and_the_rate() -> None:
    torch.manual_seed(0)
    of = net().initialize()
    before = bits(of, set())
    best = integration.find(of, *rows())
    assert of.optimizer_.param_groups[0]["lr"] == of.lr == best.lr
    of.optimizer_.param_groups[0]["lr"] = of.lr = 1e-4
    assert bits(of, set()) == before


def test_the_callback_finds_the_rate_when_the_training_begins() -> None:
    from skorch.callbacks import LRScheduler

    cosine = ("scheduler", LRScheduler("CosineAnnealingLR", T_max=EPOCHS, step_every="epoch"))
    torch.manual_seed(0)
    of = net(callbacks=[cosine, ("find", integration.FindLR({"seed": 3}))], max_epochs=1)
    of.set_params(max_epochs=EPOCHS)
    of.fit(*rows())
    found = dict(of.callbacks_)["find"].best_
    by_step = the_plain_answer(
        seed=3, schedule=lambda step: 0.5 * (1 + np.cos(np.pi * (step // 10) / EPOCHS))
    )
    assert found.lr == pytest.approx(by_step.lr)
    lrs = of.history[:, "event_lr"]
    assert lrs == pytest.approx([found.lr * 0.5 * (1 + np.cos(np.pi * n / EPOCHS)) for n in range(EPOCHS)])
    pickle.loads(pickle.dumps(integration.FindLR()))


def test_clipping_and_param_groups_are_those_of_the_net() -> None:
    from skorch.callbacks import GradientNormClipping

    groups = [("layers.0*", {"lr": 1e-3})]
    of = net(
        optimizer__param_groups=groups, callbacks=[GradientNormClipping(0.01)], optimizer=torch.optim.SGD
    )
    best = integration.find(of, *rows())
    of.initialize()
    assert [group["lr"] for group in of.optimizer_.param_groups] == pytest.approx([best.lr, best.lr / 10])
    assert best.lr > integration.find(net(optimizer=torch.optim.SGD), *rows()).lr


def test_a_net_with_two_optimizers_takes_its_own_steps() -> None:
    from skorch import NeuralNetClassifier

    class Two(NeuralNetClassifier):
        def initialize_optimizer(self) -> Any:
            self.optimizer_ = torch.optim.Adam(self.module_.layers[0].parameters(), lr=self.lr)
            self.head_optimizer_ = torch.optim.Adam(self.module_.layers[3].parameters(), lr=2 * self.lr)
            return self

    of = net(Two)
    best = integration.find(of, *rows())
    assert best.optimizer_count == 2
    of.initialize()
    assert of.head_optimizer_.param_groups[0]["lr"] == pytest.approx(2 * best.lr)


def test_the_criterion_of_a_classifier_is_refused_where_skorch_would_change_its_input() -> None:
    """skorch takes the logarithm of what the module returns, before its NLLLoss."""
    of = net(module=nn.Sequential(Net(), nn.Softmax(dim=1)), criterion=nn.NLLLoss).initialize()
    loader = of.get_iterator(of.get_dataset(*rows()), training=True)
    with pytest.raises(UsageError, match="log-probabilities.*lrfind.integrations.skorch"):
        lrfind.find(of.module_, of.optimizer_, of.criterion_, loader, steps=100)
    assert integration.find(of, *rows()).lr < 1
