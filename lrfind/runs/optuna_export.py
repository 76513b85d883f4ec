"""A sweep as an Optuna study, for optuna-dashboard."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from lrfind.analysis.sweeps import judged
from lrfind.config.sections import SweepSection
from lrfind.errors import UsageError, import_optional
from lrfind.runs.store import Run
from lrfind.runs.summary import read_result


def export_study(run: Run, file: Path) -> int:
    """Write a sweep's lanes as the trials of an Optuna study, in a new SQLite file.

    Each lane becomes a trial. Its lr is the parameter, and its seed is an attribute. The value is the loss
    by which the sweep ranks its lrs, and the intermediate values are the training losses at up to a hundred
    steps. Diverged lanes become failed trials,
    and pruned lanes become pruned trials.

    Returns:
        The number of trials that were written.

    Raises:
        UsageError: if the run is not a grid or a search, the file exists, or Optuna is not installed.
    """
    result = read_result(run)
    if not isinstance(result.section, SweepSection):
        raise UsageError(f"'{run.path}' is a run of {result.command}; only a grid or a search is a study.")
    if file.exists():
        raise UsageError(f"'{file}' exists already and is not overwritten; name another file.")
    if not file.parent.is_dir():
        raise UsageError(f"there is no directory '{file.parent}' to write '{file.name}' to.")
    optuna = import_optional("optuna", "export --optuna")
    space = _space(optuna, [lane.peak for lane in result.lanes])
    states = optuna.trial.TrialState
    settled = {"finished": states.COMPLETE, "pruned": states.PRUNED}
    trials = []
    for lane in result.lanes:
        value = judged(lane, result.summary["judge"])
        state = settled.get(lane.outcome, states.FAIL)
        if state == states.COMPLETE and value is None:
            state = states.FAIL
        every = max(1, lane.loss.size // 100)
        seen = {t: float(lane.loss[t]) for t in range(0, lane.loss.size, every)}
        trials.append(
            optuna.trial.create_trial(
                state=state,
                params={"lr": lane.peak},
                distributions=space,
                value=value if state == states.COMPLETE else None,
                intermediate_values=seen,
                user_attrs={
                    "lane": lane.lane,
                    "seed": lane.seed,
                    "outcome": lane.outcome,
                    "metric": lane.metric,
                },
            )
        )
    _write(optuna, f"{run.path.name}", file, trials)
    return len(trials)


def _space(optuna: Any, lrs: list[float]) -> dict[str, Any]:
    return {"lr": optuna.distributions.FloatDistribution(min(lrs), max(lrs), log=True)} if lrs else {}


def _write(optuna: Any, name: str, file: Path, trials: list[Any]) -> None:
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    draft = file.with_name(f".{file.name}.part")
    try:
        draft.unlink(missing_ok=True)
        storage = optuna.storages.RDBStorage(f"sqlite:///{draft}")
        optuna.create_study(storage=storage, study_name=name).add_trials(trials)
        storage.engine.dispose()
        draft.replace(file)
    except Exception as error:  # SQLAlchemy's errors have many names
        first = str(error).partition("\n")[0]
        raise UsageError(f"cannot write '{file}': {first}; name a file in a folder of yours.") from error
    finally:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        optuna.logging.set_verbosity(level)
