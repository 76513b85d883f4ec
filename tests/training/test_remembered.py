from __future__ import annotations

import json
from pathlib import Path

import pytest

from lrfind.training.estimate import Estimate
from lrfind.training.remembered import forget_timings, remember_ratio, remembered_ratio, timings_file
from tests.helpers.command import Command
from tests.training.test_calibration import mode_of

PROBLEM = {"model": "MLP", "lanes": 8, "flops": 2.5e6}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("LRFIND_CACHE_DIR", str(folder))
    return folder


def test_a_ratio_is_remembered_for_the_same_problem_until_it_is_forgotten(cache: Path) -> None:
    assert remembered_ratio(PROBLEM) is None
    remember_ratio(PROBLEM, 1.25)
    remember_ratio({**PROBLEM, "lanes": 4}, 0.5)
    assert remembered_ratio(PROBLEM) == 1.25
    assert remembered_ratio({**PROBLEM, "lanes": 2}) is None
    assert [row["model"] for row in json.loads(timings_file().read_text())] == ["MLP", "MLP"]
    assert [path.name for path in cache.iterdir()] == ["timings.json"]
    assert forget_timings() == 2
    assert remembered_ratio(PROBLEM) is None


def test_a_damaged_or_unwritable_file_is_no_error(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.mkdir()
    for content in ("", "{", "[1]", '{"ratio": 1}', '[{"ratio": "fast"}]'):
        timings_file().write_text(content)
        assert remembered_ratio(PROBLEM) is None
    remember_ratio(PROBLEM, 2.0)
    assert remembered_ratio(PROBLEM) == 2.0
    monkeypatch.setenv("LRFIND_CACHE_DIR", str(timings_file()))  # a file where the folder should be
    remember_ratio(PROBLEM, 3.0)
    assert remembered_ratio(PROBLEM) is None


def test_a_user_without_a_home_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("LRFIND_CACHE_DIR", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    assert timings_file().parts[-2:] == ("lrfind", "timings.json")


def test_a_timed_choice_is_not_timed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Estimate, "ratio", lambda self, lanes: 1.1)
    first = mode_of(mode="auto", lanes=4, steps=10**6)
    assert first.reason.startswith("in a timing test")
    monkeypatch.setattr("lrfind.training.calibration._Calibration._time_stack", None)
    again = mode_of(mode="auto", lanes=4, steps=10**6)
    assert again.name == first.name
    assert again.ratio == pytest.approx(first.ratio, abs=1e-3)
    assert again.reason.startswith("in an earlier timing test on this machine, 4 lanes")


def test_doctor_names_the_file_and_deletes_it(lrfind: Command) -> None:
    remember_ratio(PROBLEM, 1.25)
    lrfind("doctor", "--json")
    assert json.loads(lrfind.out)["timings"] == {"path": str(timings_file()), "count": 1}
    lrfind("doctor", "--forget")
    assert "1 remembered timing deleted" in lrfind.err
    assert not timings_file().exists()
