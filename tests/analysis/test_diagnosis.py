"""The diagnosis of networks that are built to fail, and of healthy ones."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from lrfind.analysis.diagnosis import diagnose
from lrfind.analysis.health import LayerHealth
from lrfind.config.experiment import check
from lrfind.runs.store import Run
from lrfind.views.plots.health import health_figure, view_health
from lrfind.views.text.train import training_text
from tests.helpers.runs import conduct

IMAGES = """
data: {name: mnist_mini, batch_size: 64}
loss: cross_entropy
training: {steps: 61}
range_test: {steps: 100, seeds: 1}
grid: {lrs: [0.003, 0.03], seeds: 1, lanes: single}
"""
BUILT_TO_FAIL = {
    "vanishing": "{name: deep_mlp, args: {depth: 16, activation: sigmoid}}",
    "exploding": "tests.analysis.test_diagnosis:exploding",
    "dead units": "tests.analysis.test_diagnosis:dead",
    "only the head learns": "tests.analysis.test_diagnosis:frozen",
    "no gradient": "tests.analysis.test_diagnosis:detached",
}
HEALTHY = (
    "{name: mlp, args: {hidden: [32, 32]}}",
    "{name: deep_mlp, args: {depth: 12, activation: relu, init: he}}",
    "{name: small_cnn, args: {channels: [8, 8], norm: batch}}",
    "{name: small_resnet, args: {channels: [4, 8, 8]}}",
)


def mlp() -> Any:
    from lrfind.models.mlp import MLP

    return MLP(784, 10, hidden=[32, 32, 32, 32])


def exploding() -> Any:
    model = mlp()
    for parameter in model.parameters():
        parameter.data *= 30
    return model


def dead() -> Any:
    model = mlp()
    model.layers[4].bias.data -= 30
    return model


def frozen() -> Any:
    model = mlp()
    model.layers[:-1].requires_grad_(False)
    return model


def detached() -> Any:
    import torch

    class Detached(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = torch.nn.Linear(784, 32)
            self.head = torch.nn.Linear(32, 10)

        def forward(self, x: Any) -> Any:
            return self.head(self.body(x.flatten(1)).relu().detach())

    return Detached()


def findings_of(command: str, model: str, path: Path, settings: str = "") -> list[dict[str, str]]:
    optimizer = "" if "optimizer" in settings else "\noptimizer: {name: sgd, lr: 0.01}"
    text = f"model: {model}{optimizer}{IMAGES}{settings}"
    run = Run.start(path, command, check(text), text, [])
    with run.held():
        summary = conduct(run)
    assert (path / "health.csv").is_file()
    return summary["health"]["findings"]


@pytest.mark.parametrize(
    ("what", "command"), [*itertools.product(BUILT_TO_FAIL, ("range-test", "grid", "train"))]
)
def test_a_network_built_to_fail_is_diagnosed(what: str, command: str, tmp_path: Path) -> None:
    findings = findings_of(command, BUILT_TO_FAIL[what], tmp_path / "run")
    assert findings[0]["what"] == what
    assert len(findings) == 1 or what == "exploding"  # an exploding network also has dead units
    assert all(finding["evidence"] and finding["advice"] for finding in findings)


@pytest.mark.parametrize(
    ("model", "command"),
    [*itertools.product(HEALTHY, ["range-test"]), *itertools.product(HEALTHY[:2], ["grid", "train"])],
)
def test_a_healthy_network_has_no_findings(model: str, command: str, tmp_path: Path) -> None:
    assert findings_of(command, model, tmp_path / "run") == []


def test_clipping_that_is_always_active_is_a_finding(tmp_path: Path) -> None:
    settings = "\noptimizer: {name: sgd, lr: 0.01}\n"
    text = IMAGES.replace("steps: 61", "steps: 61, clip_norm: 0.01")
    run = Run.start(tmp_path / "run", "train", check(f"model: mlp{settings}{text}"), text, [])
    (finding,) = conduct(run)["health"]["findings"]
    assert finding["what"] == "always clipped"
    assert "clipping changed 100% of the gradient over 2 looks" in finding["evidence"]


def test_the_evidence_names_the_layer_and_the_figures() -> None:
    def look(step: int, norms: dict[str, float | None], **more: Any) -> list[LayerHealth]:
        return [
            LayerHealth(step, layer, 10, norm is not None, True, norm, 1.0, 0.1, 0.0, 0.0, 0.0, **more)
            for layer, norm in norms.items()
        ]

    lane = [*look(0, {"a": 1e-6, "b": 1e-3, "c": 1.0}), *look(5, {"a": 1e-6, "b": 1e-3, "c": 1.0})]
    (finding,) = diagnose([lane])
    assert finding.evidence == "relative to its weights, the gradient of a is only 1.0e-06 times that of c"
    burst = [*look(0, {"a": 1.0}), *look(5, {"a": 1.0}), *look(9, {"a": 2e3})]
    (finding,) = diagnose([burst])
    assert (
        finding.evidence
        == "at step 9, the norm of the gradient is 2.0e+03 times its median at the earlier looks"
    )
    (finding,) = diagnose([look(0, {"a": None, "b": None, "c": None, "d": None, "e": 1.0})])
    assert (
        finding.evidence
        == "the optimizer trains only e, with 10 of 50 weights; the 4 layers before are frozen"
    )
    assert diagnose([lane, look(0, {"a": 1.0}), look(0, {"a": 1.0})]) == []  # one lane of three
    assert diagnose([]) == []


def zero_head() -> Any:
    model = mlp()
    model.layers[-1].weight.data.zero_()
    return model


def constant(output: Any, y: Any) -> Any:
    return (output * 0).sum()


@pytest.mark.parametrize(
    "change",
    [
        "model=tests.analysis.test_diagnosis:zero_head",  # its weights are 0, so its relative gradient is huge
        "data.batch_size=1",  # one row activates few relu units
        "optimizer={name: adam, lr: 0.001}",
    ],
)
def test_what_is_only_unusual_raises_no_alarm(change: str, tmp_path: Path) -> None:
    text = f"model: mlp\noptimizer: {{name: sgd, lr: 0.001}}{IMAGES}"
    run = Run.start(tmp_path / "run", "train", check(text, [change]), text, [])
    assert conduct(run)["health"]["findings"] == []


def test_a_loss_without_a_gradient_is_not_called_dead_units(tmp_path: Path) -> None:
    text = f"model: mlp\noptimizer: {{name: sgd, lr: 0.01}}{IMAGES}"
    constantly = check(text, ["loss=tests.analysis.test_diagnosis:constant"])
    (finding,) = conduct(Run.start(tmp_path / "run", "train", constantly, text, []))["health"]["findings"]
    assert (finding["what"], finding["evidence"]) == (
        "no gradient",
        "the gradient is exactly 0 at every layer",
    )


def nan(output: Any, y: Any) -> Any:
    return output.sum() * float("nan")


def test_gradients_are_not_judged_if_the_loss_was_never_finite(tmp_path: Path) -> None:
    text = f"model: mlp\noptimizer: {{name: sgd, lr: 0.01}}{IMAGES}"
    run = Run.start(
        tmp_path / "run", "train", check(text, ["loss=tests.analysis.test_diagnosis:nan"]), text, []
    )
    summary = conduct(run)
    assert (summary["health"]["findings"], summary["health"]["looks"]) == ([], 0)
    assert "gradients: not judged, because the loss was not finite, or float16 overflowed," in " ".join(
        training_text(summary).split()
    )
    assert "its first loss is not finite; run `lrfind check CONFIG --batch`" in summary["warnings"][0]
    assert health_figure(view_health(run.lanes()[0], summary["health"], on_a_ramp=True), "t")


def test_the_norm_of_the_gradient_is_no_finding_for_an_adaptive_optimizer() -> None:
    long = [LayerHealth(step, "a", 1, True, True, 1e6, 1.0) for step in (0, 40)]
    assert [finding.what for finding in diagnose([long])] == ["exploding"]
    assert diagnose([long], adaptive=True) == []


def test_without_looks_there_is_no_diagnosis(tmp_path: Path) -> None:
    text = f"model: mlp\noptimizer: {{name: sgd, lr: 0.01}}{IMAGES}looks: 0\n"
    run = Run.start(tmp_path / "run", "range-test", check(text), text, [])
    assert conduct(run)["health"] is None
    assert not (tmp_path / "run/health.csv").exists()


def test_a_run_keeps_and_exports_every_look(tmp_path: Path) -> None:
    findings_of("grid", "mlp", tmp_path / "run")
    run = Run.open(tmp_path / "run")
    frame = pd.read_csv(tmp_path / "run/health.csv")
    assert len(frame) == 2 * 2 * 3  # lanes, looks, layers
    for lane in run.lanes():
        rows = frame[frame.lane == lane.lane]
        assert rows.grad_norm.tolist() == [row.grad_norm for row in lane.health]
        assert rows.layer.tolist() == [row.layer for row in lane.health]
        assert rows.lr.tolist() == [lane.lr[row.step] for row in lane.health]
