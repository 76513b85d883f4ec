from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

import lrfind
from lrfind.errors import UsageError
from lrfind.integrations import fastai as integration
from tests.helpers.states import bits

EPOCHS = 20
pytestmark = pytest.mark.usefixtures("fastai")


def tensors() -> tuple[Any, Any]:
    make = torch.Generator().manual_seed(0)
    x = torch.randn(320, 6, generator=make)
    return x, x[:, :3].argmax(dim=1)


def learner(**settings: Any) -> Any:
    from fastai.data.core import DataLoaders
    from fastai.data.load import DataLoader
    from fastai.learner import Learner

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 3))
    rows = [*zip(*tensors(), strict=True)]
    train = DataLoader(rows, bs=32, shuffle=True, num_workers=0, device="cpu")
    valid = DataLoader(rows[:32], bs=32, num_workers=0, device="cpu")
    dls = DataLoaders(train, valid, device="cpu")
    learn = Learner(dls, model, loss_func=nn.CrossEntropyLoss(), **settings)
    train.rng.seed(0)
    return learn


def answer(best: lrfind.Recommendation) -> tuple[float, ...]:
    return best.lr, best.low, best.high, best.cost


def the_plain_answer(**options: Any) -> lrfind.Recommendation:
    """The same training with an optimizer of torch, in whole steps of its own."""
    learn = learner()
    model, loss_fn = learn.model.train(), learn.loss_func
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.99), eps=1e-5, weight_decay=0.01)

    def step(batch: Any) -> Any:
        loss = loss_fn(model(batch[0]), batch[1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    options = {"steps": EPOCHS * 10, "schedule": integration.one_cycle(EPOCHS * 10), **options}
    return lrfind.find(step=step, data=learn.dls.train, optimizers=[optimizer], **options)


def fit(learn: Any, *, cycle: bool = True) -> tuple[list[float], list[float], Any]:
    """The losses, the rates and the weights of an epoch."""
    with learn.no_logging():
        (learn.fit_one_cycle if cycle else learn.fit)(1)
    losses = [float(loss) for loss in learn.recorder.losses]
    return losses, learn.recorder.lrs, bits([*learn.model.state_dict().values()], set())


def test_the_answer_is_that_of_the_plain_call_and_fit_uses_it() -> None:
    learn = learner()
    best = integration.find(learn, EPOCHS)
    plain = the_plain_answer()
    assert best.training == plain.training
    assert best.lr == pytest.approx(plain.lr, rel=0.02)  # fastai's AdamW rounds in another order
    assert learn.lr == best.lr
    assert learn.opt is None
    _, lrs, _ = fit(learn, cycle=False)
    assert lrs == [best.lr] * 10


def test_one_cycle_has_its_peak_at_the_rate() -> None:
    learn = learner()
    best = integration.find(learn, EPOCHS)
    _, lrs, _ = fit(learn)
    assert lrs == pytest.approx([best.lr * integration.one_cycle(10)(step) for step in range(10)])


def test_a_learner_trains_as_if_nobody_had_asked() -> None:
    from fastai.callback.training import GradientClip

    runs = []
    for asks in (False, True):
        learn = learner(cbs=[GradientClip(0.5)])
        torch.manual_seed(1)
        if asks:
            before = bits([learn.model, learn.dls.train.rng.getstate()], set())
            names = {*vars(learn)}
            integration.find(learn, EPOCHS)
            learn.lr = 1e-3
            assert bits([learn.model, learn.dls.train.rng.getstate()], set()) == before
            assert {*vars(learn)} == names
        runs.append(fit(learn))
    assert runs[0] == runs[1]
    assert len(runs[0][0]) == 10


def test_callbacks_that_take_part_in_a_step_count() -> None:
    from fastai.callback.training import GradientAccumulation

    accumulating = learner(cbs=[GradientAccumulation(64)])
    assert integration.find(accumulating, EPOCHS).training.steps == EPOCHS * 5


def test_frozen_statistics_of_batches_are_frozen_in_the_probes() -> None:
    from fastai.callback.training import BnFreeze

    first = []
    for callbacks in ([], [BnFreeze()]):
        learn = learner(cbs=callbacks)
        norm = nn.BatchNorm1d(16).requires_grad_(False)
        norm.running_var.fill_(100.0)
        learn.model.insert(1, norm)
        first.append(integration.find(learn, EPOCHS).lanes[0].loss[0])
        assert norm.training
    assert first[0] != pytest.approx(first[1], rel=0.01)


def test_a_callback_that_looks_at_the_progress_sees_it_in_the_probes() -> None:
    from fastai.callback.core import Callback

    class Look(Callback):  # type: ignore[misc]
        def after_loss(self) -> None:
            if self.training:
                seen.append((self.epoch, self.pct_train))

    seen: list[tuple[int, float]] = []
    learn = learner(cbs=[Look()])
    integration.find(learn, 2, steps=200)
    probe, seen[:] = seen[:16], []
    with learn.no_logging():
        learn.fit(2)
    assert [epoch for epoch, _ in probe] == [epoch for epoch, _ in seen[:16]]
    assert [share for _, share in probe] == pytest.approx([share for _, share in seen[:16]])


def test_an_optimizer_of_torch_in_a_wrapper_is_used_itself() -> None:
    from fastai.optimizer import OptimWrapper

    learn = learner(opt_func=partial(OptimWrapper, opt=torch.optim.SGD))
    best = integration.find(learn, EPOCHS)
    assert best.training.optimizer == "sgd"
    _, lrs, _ = fit(learn, cycle=False)
    assert lrs == [best.lr] * 10


def test_groups_of_layers_keep_their_ratios() -> None:
    def split(model: Any) -> Any:
        return [[*model[0].parameters()], [*model[3].parameters()]]

    learn = learner(splitter=split, lr=slice(1e-4, 1e-3))
    best = integration.find(learn, EPOCHS)
    assert (learn.lr.start, learn.lr.stop) == pytest.approx((best.lr, 10 * best.lr))


def test_an_existing_optimizer_keeps_its_state_and_gets_the_rate_at_the_next_fit() -> None:
    learn = learner()
    fit(learn)
    state = bits([*learn.opt.state.values()], set())
    hypers = [dict(hyper) for hyper in learn.opt.hypers]
    best = integration.find(learn, EPOCHS)
    assert bits([*learn.opt.state.values()], set()) == state
    assert [dict(hyper) for hyper in learn.opt.hypers] == hypers
    _, lrs, _ = fit(learn, cycle=False)
    assert lrs == [best.lr] * 10


def test_the_plain_call_names_the_adapter() -> None:
    learn = learner()
    learn.create_opt()
    with pytest.raises(UsageError, match=r"Use lrfind.integrations.fastai.find\(learn, n_epoch\)"):
        lrfind.find(learn.model, learn.opt, learn.loss_func, learn.dls.train)
