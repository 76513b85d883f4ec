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


def test_a_trained_net_may_have_a_callback_that_cannot_be_copied_any_more() -> None:
    from skorch.callbacks import Callback

    class Count(Callback):  # type: ignore[misc]
        def on_train_begin(self, net: Any, **others: Any) -> None:
            self.batches = 0  # scikit-learn takes a name without an underscore at its end for a parameter

    of = net(callbacks=[Count()]).fit(*rows())
    assert integration.find(of, *rows()).lr == of.lr


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


def test_an_optimizer_that_computes_the_loss_itself_takes_the_steps_of_the_net() -> None:
    of = net(optimizer=torch.optim.LBFGS, lr=0.01, optimizer__max_iter=2, max_epochs=4)
    torch.manual_seed(0)
    best = integration.find(of, *rows())
    torch.manual_seed(0)
    model, (x, y) = Net(), rows()
    data = torch.utils.data.TensorDataset(torch.tensor(x), torch.tensor(y))
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.01, max_iter=2)

    def step(batch: Any) -> Tensor:
        losses = []

        def closure() -> Tensor:
            optimizer.zero_grad()
            losses.append(nn.functional.cross_entropy(model(batch[0]), batch[1]))
            losses[-1].backward()
            return losses[-1]

        optimizer.step(closure)
        return losses[0].detach()

    loader = torch.utils.data.DataLoader(data, batch_size=32, shuffle=True)
    plain = lrfind.find(step=step, data=loader, optimizers=[optimizer], steps=40)
    assert best.lr == pytest.approx(plain.lr)


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


@pytest.mark.parametrize("how", ["find", "callback before", "callback after"])
def test_a_scheduler_with_lrs_of_its_own_gets_the_rate_as_its_highest(how: str) -> None:
    from skorch.callbacks import LRScheduler

    cycle = {"base_lr": 0.001, "max_lr": 0.01, "step_size_up": 20, "cycle_momentum": False}
    scheduler = LRScheduler(torch.optim.lr_scheduler.CyclicLR, step_every="batch", **cycle)
    search = ("search", integration.FindLR())
    places = {"find": [], "callback before": [search], "callback after": [("other", scheduler), search]}
    callbacks = places[how] if how == "callback after" else [*places[how], ("other", scheduler)]
    of = net(callbacks=callbacks, optimizer=torch.optim.SGD, max_epochs=4)
    best = integration.find(of, *rows()) if how == "find" else None
    of.fit(*rows())
    best = best or dict(of.callbacks_)["search"].best_
    lrs = [lr for epoch in of.history for lr in (row["event_lr"] for row in epoch["batches"])]
    assert max(lrs) == pytest.approx(best.lr)
    assert min(lrs) == pytest.approx(0.1 * best.lr)


def test_a_scheduler_that_does_not_take_the_rate_is_warned_of() -> None:
    from skorch.callbacks import LRScheduler

    with pytest.warns(
        UserWarning, match="does not reach the training: the highest lr of WarmRestartLR is 0.05"
    ):
        integration.find(net(callbacks=[LRScheduler("WarmRestartLR")], optimizer=torch.optim.SGD), *rows())


def test_callbacks_that_change_parameters_or_batches_do_so_in_the_probes() -> None:
    from skorch.callbacks import Callback, Freezer, Initializer

    class Enlarge(Callback):  # type: ignore[misc]
        def on_batch_begin(self, net: Any, batch: Any = None, **others: Any) -> None:
            batch[0].mul_(100)

    def rate(*callbacks: Any, module: Any = Net, scale: float = 1.0) -> float:
        torch.manual_seed(0)
        x, y = rows()
        of = net(callbacks=[*callbacks], module=module, optimizer=torch.optim.SGD).initialize()
        before = bits(of, set())
        best: float = integration.find(of, x * np.float32(scale), y).lr
        of.optimizer_.param_groups[0]["lr"] = of.lr = 1e-4
        assert bits(of, set()) == before
        return best

    def frozen() -> nn.Module:
        of = Net()
        of.layers[0].requires_grad_(False)
        return of

    def large() -> nn.Module:
        of = Net()
        of.layers[0].weight.data.mul_(20)
        return of

    plain = rate()
    assert rate(Freezer("layers.0.*")) == rate(module=frozen) != plain
    assert rate(Initializer("layers.0.weight", fn=lambda w: w.data.mul_(20))) == rate(module=large) != plain
    assert rate(Enlarge()) == pytest.approx(rate(scale=100.0), rel=0.2)


def test_steps_that_count_the_batches_of_the_history_are_taken() -> None:
    """As skorch's own recipe for accumulated gradients does."""
    from skorch import NeuralNetClassifier

    class Accumulating(NeuralNetClassifier):  # type: ignore[misc]
        def train_step(self, batch: Any, **others: Any) -> Any:
            first = len(self.history[-1, "batches"]) % 2 == 1
            if first:
                self.optimizer_.zero_grad()
            step = self.train_step_single(batch, **others)
            if not first:
                self.optimizer_.step()
            return step

    with pytest.raises(UsageError, match="once in 2 calls, but accumulate is 1: give accumulate=2"):
        integration.find(net(Accumulating), *rows())
    best = integration.find(net(Accumulating), *rows(), accumulate=2)
    assert best.training.steps == integration.find(net(), *rows()).training.steps / 2


def test_the_criterion_of_a_classifier_is_refused_where_skorch_would_change_its_input() -> None:
    """skorch takes the logarithm of what the module returns, before its NLLLoss."""
    of = net(module=nn.Sequential(Net(), nn.Softmax(dim=1)), criterion=nn.NLLLoss).initialize()
    loader = of.get_iterator(of.get_dataset(*rows()), training=True)
    with pytest.raises(UsageError, match="log-probabilities.*lrfind.integrations.skorch"):
        lrfind.find(of.module_, of.optimizer_, of.criterion_, loader, steps=100)
    assert integration.find(of, *rows()).lr < 1
