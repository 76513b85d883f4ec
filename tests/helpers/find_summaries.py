"""Summaries of a `find`, as its text and its plot read them."""

from __future__ import annotations

from typing import Any

REASON = "Of the probes of 32 steps, lr 0.03 has the lowest loss (62% lower than the untouched model). For so few steps the best rate is estimated at 0.04; for 3,000 steps use 0.31x that rate."


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
            "steps": 12 if end is None else 3000,
            "train_loss": None if end is None else end + seed / 100,
            "val_loss": None if end is None else end + 0.1 + seed / 100,
            "metric": None if end is None else 0.9,
        }
        for lr, end in zip((0.0041, 0.0123, 0.0369), ends, strict=True)
        for seed in range(seeds)
    ]


def summary(rows: list[dict[str, Any]] | None = None, **changed: Any) -> dict[str, Any]:
    answer = {"lr": 0.0123, "low": 0.0078, "high": 0.0195, "confidence": "high", "method": "find", "reason": REASON}  # fmt: skip
    return {
        "schema_version": 2,
        "command": "find",
        "run": "runs/mnist",
        "answer": answer,
        "probing_ended": True,
        "cost": 125,
        "training": {"optimizer": "adam", "steps": 3000, "momentum": 0.0, "mean_multiplier": 0.5},
        "schedule": "cosine",
        "probes": probes() if rows is None else rows,
        "groups": None,
        "refinement": None,
        "verification": None,
        "lanes": {"planned": 6, "settled": 6, "steps": 150, "outcomes": {"finished": 6}},
        "warnings": [],
        "notes": ["this is a note."],
        "data": None,
        "health": None,
    } | changed


def refused(reason: str, rows: list[dict[str, Any]], **changed: Any) -> dict[str, Any]:
    answer = {"lr": None, "low": None, "high": None, "confidence": None, "method": "find", "reason": reason}
    return summary(rows, answer=answer, **changed)


def proof(verdict: str | None, lr: float | None, reason: str, *ends: float | None) -> dict[str, Any]:
    return {
        "steps": 3000,
        "of": 0.0123,
        "metric": "accuracy",
        "trainings": trainings(*ends),
        "verdict": verdict,
        "lr": lr,
        "reason": reason,
        "judge": "val_loss",
    }


STANDS = proof("stands", 0.0123, "lr 0.0123 ended at 0.41, lower than at a third of it and at three times it", 0.5, 0.3, None)  # fmt: skip
MOVES = proof("moves", 0.0041, "lr 0.0123 ended at 0.5 and lr 0.0041 ended at 0.4, so the rate loses 7.0% of the possible fall", 0.3, 0.4, None)  # fmt: skip
REFUTED = proof("refuted", None, "no training finished: neither at the rate nor at a third of it nor at three times it", None, None, None)  # fmt: skip
UNENDED = proof(None, None, "it has not ended", 0.3, 0.4, 0.5) | {"trainings": trainings(0.3, 0.4, 0.5)[:4]}
