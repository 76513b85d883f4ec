from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import lrfind
from lrfind.errors import UsageError
from lrfind.integrations import lightning as integration
from tests.helpers.states import bits

pytestmark = [
    pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers:UserWarning"),
    pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no:UserWarning"),
    pytest.mark.filterwarnings("ignore:GPU available but not used:UserWarning"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists:UserWarning"),
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated:FutureWarning"),
]
EPOCHS = 20


def rows() -> torch.utils.data.TensorDataset:
    make = torch.Generator().manual_seed(0)
    x = torch.randn(320, 6, generator=make)
    return torch.utils.data.TensorDataset(x, x[:, :3].argmax(dim=1))


def loader() -> Any:
    return torch.utils.data.DataLoader(rows(), batch_size=32, shuffle=True)


def layers() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 3))


@cache
def classifier() -> Any:
    from lightning.pytorch import LightningModule

    class Classifier(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layers, self.losses, self.lrs = layers(), [], []

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            loss = cross_entropy(self.layers(batch[0]), batch[1])
            self.log("loss", loss)
            return loss

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.layers.parameters(), lr=1e-4)

    return Classifier


@cache
def record() -> Any:
    from lightning.pytorch import Callback

    class Record(Callback):
        def on_train_batch_end(self, of: Any, model: Any, outputs: Any, *rest: Any) -> None:
            model.losses.append(float(outputs["loss"]))
            model.lrs.append([group["lr"] for optimizer in of.optimizers for group in optimizer.param_groups])

    return Record()


def trainer(*callbacks: Any, **settings: Any) -> Any:
    from lightning.pytorch import Trainer

    settings = {"max_epochs": EPOCHS, "logger": False, "enable_checkpointing": False, **settings}
    return Trainer(
        accelerator="cpu", devices=1, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[*callbacks, record()], **settings,
    )  # fmt: skip


def the_plain_answer(**options: Any) -> lrfind.Recommendation:
    model = layers()
    return lrfind.find(
        model, torch.optim.Adam(model.parameters(), lr=1e-4), data=loader(),
        loss=lambda batch: cross_entropy(model(batch[0]), batch[1]), **{"steps": EPOCHS * 10, **options},
    )  # fmt: skip


def answer(best: lrfind.Recommendation) -> tuple[float, ...]:
    return best.lr, best.low, best.high, best.cost


def stopping_after(steps: int) -> Any:
    from lightning.pytorch import Callback

    class Stop(Callback):
        def on_train_batch_end(self, of: Any, *rest: Any) -> None:
            of.should_stop = of.global_step >= steps

    return Stop()


def test_the_callback_finds_the_rate_of_the_plain_call_and_the_training_uses_it() -> None:
    model, search = classifier()(), integration.FindLR()
    trainer(search, stopping_after(10), min_epochs=0).fit(model, loader())
    assert answer(search.best) == answer(the_plain_answer())
    assert model.lrs == [[search.best.lr]] * 10


def test_find_before_fit_sets_the_same_rate_for_the_fits_of_its_trainer() -> None:
    model, of = classifier()(), trainer(stopping_after(10), min_epochs=0)
    before = bits([*model.state_dict().values()], set())
    best = integration.find(of, model, loader())
    assert bits([*model.state_dict().values()], set()) == before
    assert answer(best) == answer(the_plain_answer())
    of.fit(model, loader())
    assert model.lrs == [[best.lr]] * 10


@pytest.mark.parametrize("how", ["callback", "find"])
def test_a_training_is_as_if_nobody_had_asked(how: str) -> None:
    runs = []
    for asks in (False, True):
        model = classifier()()
        of = trainer(stopping_after(10), min_epochs=0)
        torch.manual_seed(1)
        if asks and how == "find":
            integration.find(of, model, loader())
            of.callbacks[0].best = moved = moved_to(1e-4, of.callbacks[0].best)
        elif asks:
            of.callbacks.insert(0, asking_for(1e-4))
        of.fit(model, loader())
        progress = of.fit_loop.state_dict()
        runs.append((model.losses, bits([*model.state_dict().values()], set()), progress, torch.rand(1)))
    assert runs[0] == runs[1]
    assert len(runs[0][0]) == 10
    assert how == "callback" or moved.lr == 1e-4


def moved_to(lr: float, best: lrfind.Recommendation) -> lrfind.Recommendation:
    return replace(best, lr=lr)


def asking_for(lr: float) -> Any:
    """A callback that asks, and then takes another rate."""

    class Asking(integration.FindLR):
        def on_train_start(self, of: Any, model: Any) -> None:
            super().on_train_start(of, model)
            assert model.lrs == []
            moved_to(lr, self.best).apply(of.optimizers)

    return Asking()


def test_accumulation_and_clipping_are_those_of_the_trainer() -> None:
    search = integration.FindLR()
    of = trainer(search, stopping_after(1), accumulate_grad_batches=2, gradient_clip_val=0.5, min_epochs=0)
    of.fit(classifier()(), loader())
    assert answer(search.best) == answer(the_plain_answer(steps=EPOCHS * 5, accumulate=2, clip_norm=0.5))


@pytest.mark.parametrize("interval", ["step", "epoch"])
def test_a_scheduler_counts_in_its_interval_and_gets_the_rate(interval: str) -> None:
    ticks = EPOCHS if interval == "epoch" else EPOCHS * 10

    class Scheduled(classifier()):  # type: ignore[misc]
        def configure_optimizers(self) -> Any:
            optimizer = super().configure_optimizers()
            scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=ticks)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": interval}}

    model, search = Scheduled(), integration.FindLR()
    trainer(search, stopping_after(20), min_epochs=0).fit(model, loader())
    every = 10 if interval == "epoch" else 1

    def cosine(step: int) -> float:
        return 0.5 * (1 + math.cos(math.pi * (step // every) / ticks))

    assert search.best.lr == pytest.approx(the_plain_answer(schedule=cosine).lr)
    expected = [search.best.lr * cosine(step) for step in range(20)]
    assert [lr for (lr,) in model.lrs[:9]] == pytest.approx(
        expected[:9] if interval == "epoch" else expected[1:10]
    )


def test_an_optimizer_that_computes_the_loss_itself_takes_the_steps_of_lightning() -> None:
    class Quasi(classifier()):  # type: ignore[misc]
        def configure_optimizers(self) -> Any:
            return torch.optim.LBFGS(self.layers.parameters(), lr=0.01, max_iter=2)

    model, search = Quasi(), integration.FindLR()
    trainer(search, stopping_after(2), min_epochs=0).fit(model, loader())
    assert model.lrs[0] == [search.best.lr]
    assert search.best.training.optimizer == "lbfgs"


def test_a_module_that_optimizes_by_hand_with_two_optimizers() -> None:
    class ByHand(classifier()):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            loss = cross_entropy(self.layers(batch[0]), batch[1])
            for optimizer in self.optimizers():
                optimizer.zero_grad()
            self.manual_backward(loss)
            for optimizer in self.optimizers():
                optimizer.step()
            return loss

        def configure_optimizers(self) -> Any:
            body, head = self.layers[0], self.layers[3]
            return [
                torch.optim.Adam(body.parameters(), lr=1e-4),
                torch.optim.Adam(head.parameters(), lr=2e-4),
            ]

    model, search = ByHand(), integration.FindLR()
    trainer(search, stopping_after(4), min_epochs=0).fit(model, loader())
    assert search.best.optimizer_count == 2
    assert model.lrs[0] == pytest.approx([search.best.lr, 2 * search.best.lr])

    plain = layers()
    optimizers = [
        torch.optim.Adam(part.parameters(), lr=lr) for part, lr in ((plain[0], 1e-4), (plain[3], 2e-4))
    ]

    def step(batch: Any) -> Tensor:
        loss = cross_entropy(plain(batch[0]), batch[1])
        plain.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        return loss

    same = lrfind.find(step=step, data=loader(), optimizers=optimizers, steps=EPOCHS * 10)
    assert answer(search.best) == answer(same)


def test_a_hook_of_the_modules_own_makes_lightning_take_the_steps() -> None:
    class Clipped(classifier()):  # type: ignore[misc]
        clipped = 0

        def configure_gradient_clipping(self, optimizer: Any, **limits: Any) -> None:
            self.clipped += 1
            self.clip_gradients(optimizer, gradient_clip_val=0.5, gradient_clip_algorithm="norm")

    model, search = Clipped(), integration.FindLR()
    trainer(search, stopping_after(1), min_epochs=0).fit(model, loader())
    assert model.clipped == 1  # the count of the probes is taken back
    assert search.best.lr == pytest.approx(the_plain_answer(clip_norm=0.5).lr, rel=0.2)


def test_nothing_is_logged_meanwhile(tmp_path: Path) -> None:
    from lightning.pytorch.loggers import CSVLogger

    logger = CSVLogger(tmp_path)
    search = integration.FindLR()
    of = trainer(search, stopping_after(2), logger=logger, log_every_n_steps=1, min_epochs=0)
    of.fit(classifier()(), loader())
    logger.save()
    assert len(next(tmp_path.rglob("metrics.csv")).read_text().splitlines()) <= 1 + 2 + 1


def test_a_lightning_optimizer_outside_of_its_trainer_is_told_apart() -> None:
    from lightning.pytorch.core.optimizer import LightningOptimizer

    model = layers()
    wrapped = LightningOptimizer(torch.optim.Adam(model.parameters()))
    with pytest.raises(UsageError, match="LightningAdam takes no step outside .* attribute `_optimizer`"):
        lrfind.find(model, wrapped, nn.CrossEntropyLoss(), loader(), steps=100)


def test_a_module_without_its_trainer_is_pointed_to_the_adapter() -> None:
    with pytest.raises(UsageError, match=r"Use lrfind.integrations.lightning.find\(trainer, module\)"):
        lrfind.find(trainer(), None, None, loader())


def scaled(**hooks: Any) -> Any:
    """A module for SGD whose loss has a scale that hooks can change."""

    class Scaled(classifier()):  # type: ignore[misc]
        scale = 1.0

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return self.scale * super().training_step(batch, batch_idx)

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=1e-2)

    for name, hook in hooks.items():
        setattr(Scaled, name, hook)
    return Scaled()


def enlarge(model: Any, *others: Any) -> None:
    model.scale = 100.0


@pytest.mark.parametrize("hook", integration.HOOKS[:6])
def test_a_hook_of_the_module_that_changes_steps_is_called_in_the_probes(hook: str) -> None:
    model = scaled(**{hook: enlarge})
    assert (
        integration.find(trainer(), model, loader()).lr
        < 0.05 * integration.find(trainer(), scaled(), loader()).lr
    )
    assert model.scale == 1.0


@pytest.mark.parametrize("how", ["callback", "find"])
def test_a_callback_that_changes_gradients_does_so_in_the_probes(how: str) -> None:
    from lightning.pytorch.callbacks import LambdaCallback

    change = LambdaCallback(on_after_backward=lambda of, model: enlarge(model))
    search = integration.FindLR()
    of = trainer(change, *[search] * (how == "callback"), stopping_after(1), min_epochs=0)
    best = integration.find(of, scaled(), loader()) if how == "find" else of.fit(scaled(), loader())
    assert (best or search.best).lr < 0.05 * integration.find(trainer(), scaled(), loader()).lr


def test_steps_that_lightning_takes_accumulate_anew_in_each_epoch() -> None:
    """The last of the ten batches of an epoch is a step of its own, and its loss is not divided."""
    last: list[int] = []
    model = scaled(on_before_optimizer_step=lambda model, _: last.append(model.trainer.fit_loop.batch_idx))
    best = integration.find(trainer(accumulate_grad_batches=3), model, loader())
    assert last[:12] == [2, 5, 8, 9] * 3
    assert min(best.lanes[0].loss[:12]) > 0.9


@pytest.mark.parametrize("batches", [1, 2])
@pytest.mark.parametrize("takes_the_steps", [False, True])
def test_a_loss_that_depends_on_the_step_and_the_epoch_sees_them_in_the_probes(
    batches: int, takes_the_steps: bool
) -> None:
    seen: list[tuple[int, int]] = []

    def weigh(model: Any, batch: Any, batch_idx: int) -> Tensor:
        seen.append((model.global_step, model.current_epoch))
        return cross_entropy(model.layers(batch[0]), batch[1])

    hooks: dict[str, Any] = {"on_after_backward": lambda model: None} if takes_the_steps else {}
    of = trainer(accumulate_grad_batches=batches)
    integration.find(of, scaled(training_step=weigh, **hooks), loader())
    if not takes_the_steps:
        del seen[0]  # the batch on which the shapes are compared
    assert seen[:16] == [(batch // batches, batch // 10) for batch in range(16)]
    assert (of.global_step, of.current_epoch) == (0, 0)


def test_batches_beyond_the_limit_of_the_trainer_are_not_read() -> None:
    seen: list[int] = []

    def look(model: Any, batch: Any, batch_idx: int) -> Tensor:
        seen.append(int(batch[2][0]))
        return cross_entropy(model.layers(batch[0]), batch[1])

    numbered = torch.utils.data.TensorDataset(*rows().tensors, torch.arange(320))
    in_order = torch.utils.data.DataLoader(numbered, batch_size=32)
    integration.find(trainer(limit_train_batches=2), scaled(training_step=look), in_order, steps=95)
    assert {*seen[:32]} == {0, 32}


class Stream(torch.utils.data.IterableDataset[Any]):
    """Rows without a length."""

    def __iter__(self) -> Iterator[Any]:
        return iter([*rows()])


def test_a_plan_that_lightning_does_not_know_must_be_given() -> None:
    class Scheduled(classifier()):  # type: ignore[misc]
        def configure_optimizers(self) -> Any:
            optimizer = super().configure_optimizers()
            return [optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=EPOCHS)]

    stream = torch.utils.data.DataLoader(Stream(), batch_size=32)
    endless = {"max_epochs": -1, "max_steps": -1}
    for data, settings in ((stream, {}), (loader(), endless)):
        with pytest.raises(UsageError, match=r"how many steps .* FindLR\(steps=10_000\)"):
            integration.find(trainer(**settings), classifier()(), data)
    with pytest.raises(UsageError, match=r"the data has no length\. .* FindLR\(schedule='cosine'\)"):
        integration.find(trainer(), Scheduled(), stream, steps=200)
    best = integration.find(trainer(), Scheduled(), stream, steps=200, schedule="cosine")
    assert best.training.mean_multiplier == pytest.approx(0.5, abs=0.01)


def freeze(model: Any) -> None:
    model.calls = [*getattr(model, "calls", []), model.layers[0].requires_grad_(False)]


@pytest.mark.parametrize("hook", integration.FIRST_HOOKS)
def test_a_module_that_freezes_layers_when_it_begins_does_so_in_the_probes(hook: str) -> None:
    model, search, frozen = scaled(**{hook: freeze}), integration.FindLR(), scaled()
    freeze(frozen)
    trainer(search, stopping_after(1), min_epochs=0).fit(model, loader())
    assert len(model.calls) == 1  # the call before the probes is taken back
    assert answer(search.best) == answer(integration.find(trainer(), frozen, loader()))


def test_a_hook_that_needs_what_is_put_aside_is_left_out_and_named() -> None:
    def look(model: Any, *others: Any) -> None:
        model.trainer.callback_metrics["loss"].item()

    with pytest.warns(UserWarning, match="without the module's hook on_train_batch_end.* KeyError: 'loss'"):
        best = integration.find(trainer(), scaled(on_train_batch_end=look), loader())
    assert best.lr == pytest.approx(integration.find(trainer(), scaled(), loader()).lr, rel=0.2)


def test_a_callback_that_chooses_the_accumulation_is_asked() -> None:
    from lightning.pytorch.callbacks import GradientAccumulationScheduler

    best = integration.find(trainer(GradientAccumulationScheduler({0: 4, 9: 1})), scaled(), loader())
    assert best.training.steps == EPOCHS * 3


def test_a_callback_that_freezes_layers_needs_the_callback() -> None:
    from lightning.pytorch.callbacks import BackboneFinetuning

    with pytest.raises(UsageError, match=r"BackboneFinetuning, which freezes layers.*FindLR\(\)"):
        integration.find(trainer(BackboneFinetuning()), scaled(), loader())


def test_a_module_without_forward_is_sent_to_its_adapter() -> None:
    module = classifier()()
    with pytest.raises(UsageError, match=r"Classifier has no forward; .*lightning.find\(trainer, module\)"):
        lrfind.find(module, module.configure_optimizers(), nn.CrossEntropyLoss(), loader())
    plain = type("Plain", (nn.Module,), {})()
    plain.layer = nn.Linear(6, 3)
    with pytest.raises(UsageError, match=r"Plain has no forward; .* returns the loss as loss=\.\n"):
        lrfind.find(plain, torch.optim.SGD(plain.parameters()), nn.CrossEntropyLoss(), loader())


def test_a_manual_optimization_that_accumulates_says_over_how_many_batches() -> None:
    class Accumulating(classifier()):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            loss = cross_entropy(self.layers(batch[0]), batch[1])
            self.manual_backward(loss / 2)
            if batch_idx % 2:
                self.optimizers().step()
                self.optimizers().zero_grad()
            return loss

    with pytest.raises(UsageError, match="once in 2 calls, but accumulate is 1: give accumulate=2"):
        integration.find(trainer(), Accumulating(), loader())
    best = integration.find(trainer(), Accumulating(), loader(), accumulate=2)
    assert best.training.steps == EPOCHS * len(loader()) // 2
