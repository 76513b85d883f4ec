from __future__ import annotations

from typing import Any

import pytest

from lrfind.views.text.runs import summary_text

REASON = "in 32 steps lr 0.04 learned fastest (loss down 62%); 3,000 steps want 0.31 times that"


def probe(lr: float, steps: int, score: float | None, weight: float | None, seed: int = 0) -> dict[str, Any]:
    beside = {"untouched": 2.3, "stopped": score is None, "weight": weight}
    return {"seed": seed, "lr": lr, "steps": steps, "score": score} | beside


def probes(seed: int = 0, shift: float = 0.0) -> list[dict[str, Any]]:
    return [
        probe(0.001, 8, 2.21 + shift, None, seed),
        probe(0.00316228, 16, 1.93 + shift, None, seed),
        probe(0.01, 32, 1.22 + shift, 0.21, seed),
        probe(0.0316228, 32, 0.874 + shift, 0.62, seed),
        probe(0.1, 32, 1.31 + shift, 0.17, seed),
        probe(0.316228, 5, None, None, seed),
    ]


def trainings(*ends: float | None, seeds: int = 3) -> list[dict[str, Any]]:
    """Of every rate `seeds` trainings, which end at this loss, or diverge."""
    return [
        {
            "lr": lr,
            "seed": seed,
            "outcome": "diverged" if end is None else "finished",
            "train_loss": None if end is None else end + seed / 100,
            "val_loss": None if end is None else end + 0.1 + seed / 100,
            "metric": None if end is None else 0.9,
        }
        for lr, end in zip((0.0041, 0.0123, 0.0369), ends, strict=True)
        for seed in range(seeds)
    ]


def summary(rows: list[dict[str, Any]] | None = None, **changed: Any) -> dict[str, Any]:
    found = {"lr": 0.0123, "low": 0.0078, "high": 0.0195, "confidence": "high", "method": "find", "reason": REASON}  # fmt: skip
    return {
        "schema": 1,
        "command": "find",
        "run": "runs/mnist",
        "suggestion": found,
        "cost": 125,
        "training": {"optimizer": "adam", "steps": 3000, "momentum": 0.0, "mean_multiplier": 0.5},
        "schedule": "cosine",
        "probes": probes() if rows is None else rows,
        "verification": None,
        "lanes": {"planned": 6, "settled": 6, "steps": 150},
        "warnings": [],
        "notes": ["this is a note."],
        "data": None,
        "health": None,
    } | changed


def refused(reason: str, rows: list[dict[str, Any]], **changed: Any) -> dict[str, Any]:
    found = {"lr": None, "low": None, "high": None, "confidence": None, "method": "find", "reason": reason}
    return summary(rows, suggestion=found, **changed)


def proof(verdict: str | None, lr: float | None, reason: str, *ends: float | None) -> dict[str, Any]:
    return {
        "steps": 3000,
        "of": 0.0123,
        "metric": "accuracy",
        "trainings": trainings(*ends),
        "verdict": verdict,
        "lr": lr,
        "reason": reason,
    }


STANDS = proof("stands", 0.0123, "lr 0.0123 ended at 0.41, lower than at a third and at three times that", 0.5, 0.3, None)  # fmt: skip
MOVES = proof("moves", 0.0041, "lr 0.0123 ended at 0.5, lr 0.0041 ended at 0.4, so it loses 7.0% of what the loss can fall", 0.3, 0.4, None)  # fmt: skip
REFUTED = proof("refuted", None, "neither it nor a third of it nor three times it came to its end", None, None, None)  # fmt: skip
UNENDED = proof(None, None, "it has not ended", 0.3, 0.4, 0.5) | {"trainings": trainings(0.3, 0.4, 0.5)[:4]}


def test_an_answer_says_the_rate_for_what_training_why_and_from_what() -> None:
    assert summary_text(summary()) == (
        "Learning rate: 0.0123   [0.0078 to 0.0195]   confidence: high\n"
        "  for 3,000 steps of adam, cosine schedule\n"
        "  in 32 steps lr 0.04 learned fastest (loss down 62%); 3,000 steps want 0.31 times that.\n"
        "\n"
        "  lr       steps  loss   beside the untouched model\n"
        "  0.001    8      2.21   3.9% lower                  left behind\n"
        "  0.00316  16     1.93   16% lower                   left behind\n"
        "  0.01     32     1.22   47% lower                   weight 0.21\n"
        "  0.0316   32     0.874  62% lower                   weight 0.62\n"
        "  0.1      32     1.31   43% lower                   weight 0.17\n"
        "  0.316    5      -      -                           stopped: the loss blew up at step 4\n"
        "\n"
        "  cost: 125 gradient steps, 6 probes\n"
        "note: this is a note."
    )


def test_probes_of_several_seeds_say_whose_they_are() -> None:
    text = summary_text(summary(probes() + probes(1, 0.1)))
    assert "  seed  lr       steps" in text
    assert "  1     0.0316   32     0.974  58% lower" in text


@pytest.mark.parametrize(
    ("found", "first", "told"),
    [
        (STANDS, "confidence: high, verified", "Verified, and it stands: lr 0.0123 ended at 0.41"),
        (MOVES, "from verification; the probes said 0.0123", "Verified, and it moves:"),
        (UNENDED, "confidence: high", "verification has not ended: 4 trainings so far; `lrfind resume"),
    ],
)  # fmt: skip
def test_the_first_line_and_a_sentence_say_what_verification_came_to(
    found: dict[str, Any], first: str, told: str
) -> None:
    answer = summary()["answer"] | {"lr": found["lr"] or 0.0123}
    text = summary_text(summary(suggestion=answer, verification=found))
    assert text.partition("\n")[0].endswith(first)
    assert told in text
    assert ("use this" in text) == (found["verdict"] in ("stands", "moves"))


def test_where_every_training_failed_there_is_no_rate() -> None:
    text = summary_text(refused(f"refuted: {REFUTED['reason']}.", probes(), verification=REFUTED))
    assert text.startswith("No learning rate: refuted: neither it")
    assert "Verified, and refuted: neither it" in text
    assert "use this" not in text


@pytest.mark.parametrize(
    ("reason", "rows", "told"),
    [
        ("the search has not ended.", [], "`lrfind resume runs/mnist` goes on"),
        ("the loss blew up at every rate that was tried, down to the lowest.", probes()[-1:], "try: `lrfind check"),
        ("the budget does not allow a single probe; give more.", [], "give more."),
    ],
)  # fmt: skip
def test_a_refusal_says_why_and_what_to_do(reason: str, rows: list[dict[str, Any]], told: str) -> None:
    text = summary_text(refused(reason, rows))
    assert text.startswith(f"No learning rate: {reason}")
    assert told in text


def test_a_refusal_leaves_nothing_to_verify() -> None:
    waiting = proof(None, None, "it has not ended", None, None, None) | {"trainings": []}
    text = summary_text(refused("nothing learns.", probes(), verification=waiting))
    assert "resume" not in text


def test_losses_that_may_be_negative_are_compared_by_their_difference() -> None:
    text = summary_text(summary([probe(0.01, 32, -3.9, 1.0) | {"untouched": -2.0}]))
    assert "32     -3.9  1.9 lower" in text


def test_a_run_that_was_cut_off_before_anything_was_known_has_a_text() -> None:
    text = summary_text(refused("the search has not ended.", [], training=None, cost=0, notes=[]))
    assert text == "No learning rate: the search has not ended.\n  `lrfind resume runs/mnist` goes on with it"
