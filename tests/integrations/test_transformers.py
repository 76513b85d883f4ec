from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lrfind
from lrfind.errors import UsageError
from lrfind.integrations import transformers as integration
from tests.helpers.states import bits

pytestmark = [
    pytest.mark.usefixtures("here"),  # a Trainer makes its output folder
    pytest.mark.filterwarnings(
        "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning",  # peft calls it
        "ignore:'pin_memory' argument is set as true:UserWarning",
    ),
]
STEPS = 200


def language_model() -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"vocab_size": 32, "hidden_size": 16, "intermediate_size": 32, "max_position_embeddings": 16}
    parts = {"num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2}
    return LlamaForCausalLM(LlamaConfig(**sizes, **parts))


def rows() -> list[dict[str, Tensor]]:
    """Sequences that go up by one, two or three."""
    make = torch.Generator().manual_seed(1)
    start, by = (torch.randint(low, high, (128, 1), generator=make) for low, high in ((0, 32), (1, 4)))
    return [{"input_ids": row, "labels": row} for row in (start + torch.arange(12) * by) % 32]


def trainer(kind: Any = None, *, model: nn.Module | None = None, **settings: Any) -> Any:
    from transformers import Trainer, TrainingArguments

    settings = {"max_steps": STEPS, "lr_scheduler_type": "cosine", "warmup_steps": 10, **settings}
    args = TrainingArguments(
        output_dir="never written", per_device_train_batch_size=16, use_cpu=True, report_to=[],
        save_strategy="no", disable_tqdm=True, logging_steps=1, dataloader_pin_memory=False, **settings,
    )  # fmt: skip
    parts = {} if kind is not None else {"optimizers": (None, None)}
    return (kind or Trainer)(model or language_model(), args, train_dataset=rows(), **parts)


def logged(of: Any, name: str) -> list[float]:
    return [row[name] for row in of.state.log_history if "loss" in row]


def trained(of: Any, steps: int = 10) -> tuple[list[float], list[float], Tensor]:
    """The losses, the lrs and the weights after the first steps of a training that was planned longer."""
    from transformers import TrainerCallback

    class Stop(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
            control.should_training_stop = state.global_step == steps

    of.add_callback(Stop())
    of.train()
    weights = torch.cat([parameter.detach().flatten() for parameter in of.model.parameters()])
    return logged(of, "loss"), logged(of, "learning_rate"), weights


def the_plain_answer(**options: Any) -> lrfind.Recommendation:
    from transformers import get_scheduler

    of = trainer()
    model, loader = of.model, of.get_train_dataloader()
    options = {"steps": STEPS, "clip_norm": 1.0, **options}
    return lrfind.find(
        model, of.create_optimizer(), data=loader, loss=lambda batch: model(**batch).loss,
        schedule=lambda optimizer: get_scheduler("cosine", optimizer, 10, options["steps"]), **options,
    )  # fmt: skip


def test_the_answer_is_that_of_the_plain_call_and_the_training_uses_it() -> None:
    of = trainer()
    best = integration.find(of)
    plain = the_plain_answer()
    assert (best.lr, best.low, best.high, best.cost) == (plain.lr, plain.low, plain.high, plain.cost)
    assert best.training == plain.training
    assert of.args.learning_rate == best.lr
    _, lrs, _ = trained(of)
    assert lrs == pytest.approx([best.lr * step / 10 for step in range(10)])
    assert of.optimizer.param_groups[0]["initial_lr"] == best.lr


def test_the_trainer_is_as_before_and_trains_as_if_nobody_had_asked() -> None:
    asked, other = trainer(), trainer()
    before = bits(asked, set())
    integration.find(asked)
    asked.args.learning_rate = other.args.learning_rate
    assert asked.optimizer is None
    assert bits(asked, set()) == before
    torch.manual_seed(0)
    ours = trained(asked)
    torch.manual_seed(0)
    theirs = trained(other)
    assert ours[:2] == theirs[:2]
    assert len(ours[0]) == 10
    assert torch.equal(ours[2], theirs[2])


def test_epochs_accumulation_and_precision_are_those_of_the_trainer() -> None:
    best = integration.find(
        trainer(max_steps=-1, num_train_epochs=30, gradient_accumulation_steps=3, bf16=True)
    )
    assert best.training.steps == 30 * 3  # 8 batches in an epoch, the last two in a step of their own
    plain = the_plain_answer(steps=90, accumulate=3, precision="bfloat16")
    assert best.lr == pytest.approx(plain.lr, rel=0.2)


def test_each_token_counts_the_same_in_all_batches_of_a_step() -> None:
    of = trainer(gradient_accumulation_steps=4)
    generator = torch.Generator().manual_seed(0)
    for row in of.train_dataset:
        length = int(torch.randint(2, 12, (1,), generator=generator))
        row["labels"] = torch.where(torch.arange(12) < length, row["labels"], -100)
    torch.nn.init.normal_(of.model.lm_head.weight)  # some tokens have much higher losses than others
    step = of.data_collator(of.train_dataset[:64])
    of.get_train_dataloader = lambda: torch.utils.data.DataLoader(
        of.train_dataset, batch_size=16, collate_fn=of.data_collator
    )
    loss = of.model(**step).loss.item()  # the mean over all tokens
    assert integration.find(of).lanes[0].loss[0] == pytest.approx(loss, rel=1e-5)


def test_options_go_before_what_the_trainer_says() -> None:
    best = integration.find(trainer(), steps=1000, schedule="constant", budget=30)
    assert (best.training.steps, best.training.mean_multiplier) == (1000, 1.0)
    assert best.cost <= 30


def test_the_callback_finds_the_same_rate_when_the_training_begins() -> None:
    of = trainer()
    callback = integration.FindLR(of)
    of.add_callback(callback)
    losses, lrs, weights = trained(of)
    assert callback.best.lr == the_plain_answer().lr == of.args.learning_rate
    assert lrs == pytest.approx([callback.best.lr * step / 10 for step in range(10)])

    same = trainer(learning_rate=callback.best.lr)
    by_hand = trained(same)
    assert losses == by_hand[0]
    assert torch.equal(weights, by_hand[2])


def test_only_the_adapter_of_a_lora_model_is_trained_and_gets_its_rate() -> None:
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(language_model(), LoraConfig(r=4, target_modules=["q_proj", "v_proj", "o_proj"]))
    of = trainer(model=model)
    frozen = {name: bits(p, set()) for name, p in model.named_parameters() if not p.requires_grad}
    best = integration.find(of)
    assert best.lr > 0
    assert frozen == {name: bits(p, set()) for name, p in model.named_parameters() if not p.requires_grad}
    _, lrs, _ = trained(of, steps=2)
    assert lrs[1] == pytest.approx(best.lr / 10)


def test_a_loss_of_the_trainers_own_is_used() -> None:
    from transformers import Trainer

    class Scaled(Trainer):
        def compute_loss(self, model: nn.Module, inputs: Any, *args: Any, **options: Any) -> Any:
            self.calls = getattr(self, "calls", 0) + 1
            return 3.0 * super().compute_loss(model, inputs, *args, **options)

    best = integration.find(trainer(Scaled))
    plain = integration.find(trainer())
    assert best.lanes[0].loss[0] == pytest.approx(3 * plain.lanes[0].loss[0], rel=1e-6)


@pytest.mark.parametrize("batches", [1, 2])
def test_a_loss_that_depends_on_the_step_sees_it_in_the_probes(batches: int) -> None:
    from transformers import Trainer

    class Weighed(Trainer):
        def compute_loss(self, *args: Any, **options: Any) -> Any:
            seen.append((self.state.global_step, self.state.epoch))
            return super().compute_loss(*args, **options)

    seen: list[tuple[int, float]] = []
    of = trainer(Weighed, gradient_accumulation_steps=batches)
    integration.find(of)
    probes = seen[batches % 2 :][: 12 * batches : batches]  # behind the batch whose shapes are compared
    trained(of, steps=12)
    assert probes == seen[-12 * batches :: batches]


def scaling(by: float) -> Any:
    """A trainer that multiplies its gradients in its own `training_step`."""
    from transformers import Trainer

    class Scaling(Trainer):
        def training_step(self, model: nn.Module, *args: Any, **options: Any) -> Tensor:
            loss = super().training_step(model, *args, **options)
            for parameter in model.parameters():
                parameter.grad.mul_(by)
            return loss

    return Scaling


@pytest.mark.parametrize("settings", [{}, {"bf16": True, "gradient_accumulation_steps": 2}])
def test_a_training_step_of_the_trainers_own_is_taken(settings: Any) -> None:
    of = trainer(scaling(1.0), optim="sgd", **settings)
    before, lr = bits(of, set()), of.args.learning_rate
    rate = integration.find(of).lr
    of.args.learning_rate = lr
    assert bits(of, set()) == before
    assert rate == integration.find(trainer(optim="sgd", **settings)).lr
    settings = {**settings, "optim": "sgd", "max_grad_norm": 0.0}
    assert integration.find(trainer(scaling(100.0), **settings)).lr < 0.1 * rate


def test_a_callback_that_changes_gradients_does_so_in_the_probes() -> None:
    from transformers import TrainerCallback

    class Scaling(TrainerCallback):
        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
            for group in parts["optimizer"].param_groups:
                for parameter in group["params"]:
                    parameter.grad.mul_(100.0)

    of = trainer(optim="sgd", max_grad_norm=0.0)
    callback = integration.FindLR(of)
    of.add_callback(callback)
    of.add_callback(Scaling())
    trained(of, steps=1)
    same = integration.find(trainer(scaling(100.0), optim="sgd", max_grad_norm=0.0))
    assert (callback.best.lr, callback.best.cost) == (same.lr, same.cost)


def test_an_optimizer_of_a_former_training_gets_the_rate_too() -> None:
    of = trainer()
    of.args.max_steps = 4
    of.train()
    best = integration.find(of)
    of.train()
    assert max(logged(of, "learning_rate")) <= best.lr
    assert of.optimizer.param_groups[0]["initial_lr"] == best.lr


def test_a_trainer_whose_optimizer_has_an_lr_of_its_own_is_warned_of() -> None:
    from transformers import Trainer

    class Fixed(Trainer):
        def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
            self.optimizer = self.optimizer or torch.optim.AdamW(self.model.parameters(), lr=2e-4)
            return self.optimizer

    with pytest.warns(UserWarning, match="Fixed makes an optimizer with lr 0.0002"):
        integration.find(trainer(Fixed))


def test_data_without_a_length_needs_a_number_of_steps(tmp_path: Path) -> None:
    class Endless(torch.utils.data.IterableDataset[Any]):
        def __iter__(self) -> Any:
            yield from rows()

    of = trainer()
    of.train_dataset, of.args.max_steps = Endless(), -1
    with pytest.raises(UsageError, match="set args.max_steps"):
        integration.find(of)


def test_noise_that_the_trainer_adds_when_it_begins_is_warned_of() -> None:
    with pytest.warns(UserWarning, match="a training without NEFTune"):
        integration.find(trainer(neftune_noise_alpha=5.0), budget=30)
