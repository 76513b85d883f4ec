"""What `find` and `range_test` return: snippets that run, verification later, HTML, plots and short texts."""

from __future__ import annotations

import copy
import gc
import pickle
import re
import weakref
from html.parser import HTMLParser
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

import lrfind
from tests.helpers.worlds import World, data

LONG = re.compile(r"\d\.\d{8}")
"""A number that nobody wants to read."""


def asked(world: World, **options: Any) -> lrfind.Recommendation:
    options = {"steps": 40, "progress": False, **options}
    return lrfind.find(world.model, world.optimizer, world.loss_fn, world.loader, **options)


class Reader(HTMLParser):
    """Collects the text and the tags of HTML, and checks that every tag is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text, self.open, self.sources, self.tags = "", list[str](), list[str](), list[str]()
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [str(value) for name, value in attrs if name in ("src", "href")]
        if tag != "img":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, text: str) -> None:
        self.text += text


def run_snippet(text: str, **names: Any) -> dict[str, Any]:
    """Run a snippet as a script would, and return its variables."""
    names["torch"] = torch
    exec(text, names)
    return names


def test_the_snippet_makes_the_optimizer_and_the_schedule_that_the_rate_is_for() -> None:
    world = World("sgd with momentum")
    best = asked(world, schedule=("cosine", {"warmup": 4}), clip_norm=1.0)
    script = run_snippet(best.snippet(), model=world.model)
    optimizer, lrs = script["optimizer"], []
    assert type(optimizer) is torch.optim.SGD
    assert optimizer.param_groups[0]["momentum"] == 0.9
    for _ in range(40):
        lrs.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        script["scheduler"].step()
    rounded = float(f"{best.lr:.3g}")
    np.testing.assert_allclose(lrs, rounded * best.origin.shape.multiplier, atol=1e-9)
    assert "measured with clip_norm 1.0" in best.snippet()
    assert f"# Confidence: {best.confidence}." in best.snippet()
    assert {best: 1}[best] == 1
    assert best != copy.copy(best)


def test_the_snippet_of_param_groups_gives_each_its_share_of_the_rate() -> None:
    world = World("adam")
    groups = [
        {"params": world.model.body.parameters(), "lr": 0.001},
        {"params": world.model.head.parameters()},
    ]
    world.optimizer = torch.optim.Adam(groups, lr=0.01)
    best = asked(world, schedule="linear")
    fresh = torch.optim.Adam([{"params": g["params"]} for g in world.optimizer.param_groups], lr=1.0)
    script = run_snippet(best.snippet(), optimizer=fresh)
    lrs = [group["lr"] for group in script["optimizer"].param_groups]
    assert lrs == [pytest.approx(best.lr, rel=0.01), pytest.approx(10 * best.lr, rel=0.01)]
    assert "with 2 param groups" in best.snippet()
    assert "LinearLR" in best.snippet()
    assert "max_momentum=0.95" in asked(world, schedule="one_cycle").snippet()


@pytest.mark.parametrize(
    ("schedule", "sentence"),
    [
        (lambda step: 1.0, "# The schedule is your own function: use it with this peak."),
        (torch.optim.lr_scheduler.StepLR, None),
        (None, "# The lr stays at its peak, so there is no scheduler."),
    ],
)
def test_the_snippet_says_what_it_does_not_know(schedule: Any, sentence: str | None) -> None:
    world = World("adam")
    if sentence is None:
        schedule = torch.optim.lr_scheduler.StepLR(world.optimizer, step_size=10)
        sentence = "# The schedule is your own StepLR: use it with this peak."
    assert sentence in asked(world, schedule=schedule).snippet()


def test_a_part_of_the_model_or_a_class_of_a_function_is_not_made_anew() -> None:
    world = World("adam")

    class Own(torch.optim.SGD):
        pass

    for optimizer in (
        Own(world.model.parameters(), 0.1),
        torch.optim.SGD(world.model.head.parameters(), 0.1),
    ):
        world.optimizer = optimizer
        assert "# Make `optimizer` as before, with 1 param group" in asked(world).snippet()
    test = World("adam").test()
    assert "It knows neither the length nor the schedule" in test.snippet()
    assert f"peak = {test.suggest().lr:.3g}" in test.snippet()


def test_verify_is_what_find_with_verify_says_and_leaves_no_trace() -> None:
    world = World("adam")
    at_once = asked(world, verify=True, verify_seeds=2)
    best = asked(world)
    before = world.state()
    verified = best.verify(seeds=2, progress=False)
    assert world.state() == before
    assert (verified.lr, verified.reason, verified.verdict) == (
        at_once.lr,
        at_once.reason,
        at_once.verdict,
    )
    assert [lane.loss.tolist() for lane in verified.verification] == [
        lane.loss.tolist() for lane in at_once.verification
    ]
    assert verified.cost == at_once.cost
    assert len(best.verify(seeds=1, beyond=5.0, progress=False).verification) == 4


def test_verify_refuses_a_model_that_was_trained_in_between_and_takes_it_back_with_its_weights() -> None:
    world = World("adam")
    best, weights = asked(world), copy.deepcopy(world.model.state_dict())
    world.train()
    with pytest.raises(lrfind.UsageError, match="the weights have changed since `find` was called"):
        best.verify(seeds=1, progress=False)
    world.model.load_state_dict(weights)
    assert best.verify(seeds=1, progress=False).verdict is not None


def test_a_rate_that_was_moved_to_another_plan_is_verified_for_this_plan() -> None:
    world = World("adam")
    moved = asked(world, schedule="cosine").for_plan(steps=30, schedule="linear")
    verified = moved.verify(seeds=1, progress=False)
    lane = verified.verification[0]
    np.testing.assert_allclose(lane.lr / lane.peak, 1 - np.arange(30) / 30)
    assert "steps = 30" in moved.snippet()
    assert "LinearLR" in moved.snippet()


def test_a_result_keeps_neither_model_nor_optimizer_nor_data_alive() -> None:
    world = World("adam")
    best = asked(world)
    held = [weakref.ref(part) for part in (world.model, world.optimizer, world.loader)]
    del world
    gc.collect()
    assert [reference() for reference in held] == [None, None, None]
    with pytest.raises(lrfind.UsageError, match="the model or the optimizer of this result is gone"):
        best.verify()
    assert "torch.optim.Adam(model.parameters(), lr=peak)" in best.snippet()


def test_a_loader_and_a_loss_that_were_made_in_the_call_are_there_to_verify() -> None:
    world = World("adam")
    loader = DataLoader(data(), batch_size=15, shuffle=True)
    best = lrfind.find(world.model, world.optimizer, nn.CrossEntropyLoss(), loader, steps=30, progress=False)
    del loader
    gc.collect()
    assert best.verify(seeds=1, progress=False).verdict is not None


def test_a_copied_result_has_all_numbers_but_no_objects() -> None:
    best = asked(World("adam"))
    for other in (copy.deepcopy(best), pickle.loads(pickle.dumps(best))):
        assert (other.lr, other.snippet()) == (best.lr, best.snippet())
        with pytest.raises(lrfind.UsageError, match="or the result is a copy"):
            other.verify()


def everything() -> list[tuple[Any, str]]:
    """Every result that a notebook shows, with a text that its HTML has."""
    world = World("adam")
    parts = (world.model, world.optimizer, world.loss_fn, world.loader)
    options: dict[str, Any] = {"steps": 20, "seeds": 2, "progress": False}
    best = asked(world).verify(seeds=1, progress=False)
    grid = lrfind.grid(*parts, lrs=[0.001, 0.01, 0.1], **options)
    compared = lrfind.compare(
        *parts, schedules=["constant", "cosine"], common_peak=0.01, tuning_seeds=1, **options
    )
    return [
        (best, "Learning rate: "),
        (world.test(), "Suggested learning rate: "),
        (world.test(steps=5, end_lr=0.1), "No suggestion"),
        (grid, "earning rate: "),
        (compared, "Lowest loss: "),
    ]


def test_the_html_of_every_result_is_small_whole_and_needs_nothing_from_elsewhere() -> None:
    for result, text in everything():
        html = result._repr_html_()
        page = Reader(html)
        assert text in page.text
        assert len(html) < 250_000
        assert page.sources
        assert all(source.startswith("data:image/png;base64,") for source in page.sources)
        assert {"table", "img", "details"} <= {*page.tags}
        assert "script" not in page.tags
        assert not LONG.search(page.text)
        assert not LONG.search(repr(result))
    assert plt.get_fignums() == []


def test_names_of_the_users_are_escaped() -> None:
    world = World("adam")
    schedules = {"<script>alert(1)</script>": "constant", "a&b\x1b[31m": "cosine"}
    result = lrfind.compare(
        world.model, world.optimizer, world.loss_fn, world.loader, schedules=schedules, common_peak=0.01,
        steps=8, seeds=1,
    )  # fmt: skip
    page = Reader(result._repr_html_())
    assert "script" not in page.tags
    assert "<script>alert(1)</script>" in page.text
    assert "\x1b" not in page.text


def test_a_plot_shows_the_trainings_that_refined_and_verified_the_rate() -> None:
    world = World("adam")
    plain = asked(world)
    whole = asked(world, steps=400, budget="5x").verify(seeds=1, progress=False)
    assert len(plain.plot().figure.axes) == 1
    above, *below = whole.plot().figure.axes
    labels = [ax.get_legend_handles_labels()[1][0] for ax in below]
    assert labels[0].endswith("that refine the answer")
    assert labels[1].startswith("trainings that verify the answer (verification: ")
    assert whole.plot(above) is above
    plt.close("all")


def test_a_suggestion_is_printed_with_few_digits() -> None:
    suggestion = World("adam").test(seeds=2).suggest()
    assert re.fullmatch(r"Suggestion\(lr=\S+, low=\S+, high=\S+, method='consensus'\): .*", repr(suggestion))
    assert not LONG.search(repr(suggestion))
