"""Networks that cannot learn, and healthy ones that learn slowly: no number without its reason, no refusal."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

import lrfind
from tests.helpers.cannot_learn import CANNOT
from tests.helpers.learn_slowly import SLOW
from tests.helpers.trainings import Training

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "momentum": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, 1e-3),
}
FINE_TUNING = [name for name in SLOW if name.startswith("fine-tuning")]
ALIKE = 10**0.15  # the largest ratio of two answers that count as the same


def asked(
    task: Callable[[], Training], optimizer: str, factor: float = 1.0, offset: float = 0.0
) -> lrfind.Recommendation:
    torch.manual_seed(0)
    model, loss, batches, groups = task()
    trained = groups or [p for p in model.parameters() if p.requires_grad]
    return lrfind.find(
        model,
        OPTIMIZERS[optimizer](trained),
        lambda output, y: factor * loss(output, y) + offset,
        batches,
        steps=600,
        progress=False,
    )


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("task", CANNOT)
def test_what_cannot_learn_is_refused_or_gets_a_low_confidence_with_its_reason(
    task: str, optimizer: str
) -> None:
    training, words = CANNOT[task]
    try:
        best = asked(training, optimizer)
        confidence, reason = best.confidence, best.reason
    except lrfind.NoSuggestion as refusal:
        confidence, reason = "refused", refusal.reason
    assert confidence in ("refused", "low")
    assert reason.startswith(words) if words.startswith("Gradients") else words in reason


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("task", SLOW)
def test_what_is_healthy_but_slow_is_answered(task: str, optimizer: str) -> None:
    best = asked(SLOW[task], optimizer)
    assert 1e-7 < best.lr < 1e3
    assert not (task in FINE_TUNING and ("plateau" in best.reason or "Gradients" in best.reason))


MODELS = ["8 orthogonal layers", "batch norm", "a language model", "a last layer of 0", "fine-tuning a new head alone", "an ill-conditioned regression"]  # fmt: skip


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("task", MODELS)
def test_no_constant_in_the_loss_and_with_adam_no_factor_moves_the_answer(task: str, optimizer: str) -> None:
    best = asked(SLOW[task], optimizer).lr
    changes = [
        (1.0, 5.0),
        (1.0, 100.0),
        (1.0, -5.0),
        *[(100.0, 0.0), (1e-3, 0.0)][: 2 * (optimizer == "adam")],
    ]
    for factor, offset in changes:
        moved = asked(SLOW[task], optimizer, factor, offset).lr
        assert best / ALIKE < moved < best * ALIKE, (factor, offset)
