from __future__ import annotations

from typing import Any

import pytest

from lrfind.views.text.find import cost_in_words, find_text
from tests.helpers.find_summaries import (
    MOVES,
    REFUTED,
    STANDS,
    UNENDED,
    probe,
    probes,
    proof,
    refused,
    summary,
)


def in_a_line(text: str) -> str:
    return " ".join(text.split())


def test_an_answer_says_the_rate_for_what_training_why_and_from_what() -> None:
    assert find_text(summary()) == (
        "Learning rate: 0.0123   about as good: 0.0078 to 0.0195   confidence: high\n"
        "  for 3,000 steps of adam, cosine schedule\n"
        "  Of the probes of 32 steps, lr 0.03 has the lowest loss (62% lower than the\n"
        "  untouched model). For so few steps the best rate is estimated at 0.04; for\n"
        "  3,000 steps use 0.31x that rate.\n"
        "\n"
        "  Each probe is a short training at a constant rate. Its loss is the mean over\n"
        "  the last half of it. The best rate of the probes is a mean in log lr, in which\n"
        "  a rate counts more if its loss is lower.\n"
        "\n"
        "  lr       steps  loss   against untouched model\n"
        "  0.001    8      2.21   3.9% lower               not continued\n"
        "  0.00316  16     1.93   16% lower                not continued\n"
        "  0.01     32     1.22   47% lower                counts 21%\n"
        "  0.0316   32     0.874  62% lower                counts 62%\n"
        "  0.1      32     1.31   43% lower                counts 17%\n"
        "  0.316    5      -      -                        loss blew up at step 4\n"
        "\n"
        "  cost: 125 gradient steps in 6 probes\n"
        "note: this is a note."
    )


def test_probes_of_several_seeds_say_whose_they_are() -> None:
    text = find_text(summary(probes() + probes(1, 0.1)))
    assert "  seed  lr       steps" in text
    assert "  1     0.0316   32     0.974  58% lower" in text


def test_the_rule_by_which_rates_count_is_that_of_the_weights() -> None:
    plateau = [probe(lr, 32, 2.29, weight, seed=1) for lr, weight in ((0.01, 0.0), (0.1, 0.5), (1.0, 0.5))]
    assert "in which only the highest rates that do no harm count" in in_a_line(find_text(summary(plateau)))
    mixed = in_a_line(find_text(summary(probes() + plateau)))
    assert "counts more if its loss is lower; with a seed with which none lowered it" in mixed


def test_the_multiplier_of_a_param_group_is_that_of_the_common_rate() -> None:
    rate = {"name": "body", "lr": 0.00123, "ratio": 0.1, "multiplier": 1.0, "losses": [None, None, None]}
    groups = {"rates": [rate], "reason": "Measured.", "untouched": 1.0, "probes": 3, "steps": 64}
    assert "0.00123  0.1x" in find_text(summary(groups=groups))


def test_the_cost_says_what_the_trainings_are_for() -> None:
    whole = summary()
    whole |= {
        key: {"trainings": [{"steps": 60}] * count} for key, count in (("refinement", 5), ("verification", 9))
    }
    words = "and 300 steps in 5 trainings to refine the rate, and 540 steps in 9 trainings to verify the rate"
    assert cost_in_words(whole).endswith(words)


def test_the_losses_of_param_groups_are_not_said_to_be_those_at_the_recommended_lr() -> None:
    rate = {"name": "body", "lr": 0.00123, "ratio": 0.1, "multiplier": 1.0, "losses": [0.7, 0.5, 0.6]}
    groups = {"rates": [rate], "reason": "Measured.", "untouched": 1.0, "probes": 3, "steps": 64}
    text = in_a_line(find_text(summary(groups=groups)))
    assert "at this lr" not in text
    assert "These probes have 64 steps. Their rates lie around the one that learns fastest in so few" in text
    assert "These probes have" not in find_text(summary(groups=groups | {"probes": 0}))


@pytest.mark.parametrize(
    ("found", "first", "told"),
    [
        (STANDS, "confidence: high, verified", "Verified with trainings of 3,000 steps, and the rate stands: lr 0.0123 ended at 0.41"),
        (MOVES, "from verification; the probes recommended 0.0123", "Verified with trainings of 3,000 steps: the rate moves, for the reason above."),
        (UNENDED, "confidence: high", "Verification has not ended: 4 trainings so far. Run"),
    ],
)  # fmt: skip
def test_the_first_line_and_a_sentence_say_what_verification_came_to(
    found: dict[str, Any], first: str, told: str
) -> None:
    answer = summary()["answer"] | {"lr": found["lr"] or 0.0123}
    text = find_text(summary(answer=answer, verification=found))
    assert first in in_a_line(text.partition("\n  for ")[0])
    assert told in in_a_line(text)
    assert ("use this" in text) == (found["verdict"] in ("stands", "moves"))


def test_where_every_training_failed_there_is_no_rate() -> None:
    text = find_text(refused(f"refuted: {REFUTED['reason']}.", probes(), verification=REFUTED))
    assert text.startswith("No learning rate: refuted: no training finished")
    assert "trainings of 3,000 steps: the rate is refuted, for the reason above." in in_a_line(text)
    assert "use this" not in text


@pytest.mark.parametrize(
    ("reason", "rows", "told"),
    [
        ("the loss blew up at every rate that was tried, down to the lowest.", probes()[-1:], "loss blew up at step"),
        ("the budget does not allow a single probe; give more.", [], "give more."),
    ],
)  # fmt: skip
def test_a_refusal_says_why_and_what_to_do(reason: str, rows: list[dict[str, Any]], told: str) -> None:
    text = find_text(refused(reason, rows))
    assert in_a_line(text).startswith(f"No learning rate: {reason}")
    assert told in in_a_line(text)


def test_a_refusal_leaves_nothing_to_verify() -> None:
    waiting = proof(None, None, "it has not ended", None, None, None) | {"trainings": []}
    text = find_text(refused("nothing learns.", probes(), verification=waiting))
    assert "resume" not in text


def test_losses_that_may_be_negative_are_compared_by_their_difference() -> None:
    text = find_text(summary([probe(0.01, 32, -3.9, 1.0) | {"untouched": -2.0}]))
    assert "32     -3.9  1.9 lower" in text


def test_a_run_that_was_cut_off_before_anything_was_known_has_a_text() -> None:
    text = find_text(
        refused("probing has not ended.", [], probing_ended=False, training=None, cost=0, notes=[])
    )
    assert text == "No learning rate: probing has not ended.\n  Run `lrfind resume runs/mnist` to continue."
