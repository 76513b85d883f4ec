"""Hyperopt's TPE as the sampler of a search: `lrfind search --sampler hyperopt_tpe:propose`."""

import math

from hyperopt import JOB_STATE_DONE, STATUS_OK, Domain, Trials, hp, tpe


def propose(low, high, history, count, seed):
    """Tell Hyperopt all trials so far, and ask it for `count` lrs."""
    domain = Domain(lambda lr: None, hp.loguniform("lr", math.log(low), math.log(high)))
    trials = Trials()
    for number, trial in enumerate(history):
        place = {"tid": number, "cmd": domain.cmd, "idxs": {"lr": [number]}, "vals": {"lr": [trial.lr]}}
        result = {"status": STATUS_OK, "loss": trial.loss}
        (told,) = trials.new_trial_docs([number], [None], [result], [place])
        trials.insert_trial_doc(told | {"state": JOB_STATE_DONE})
    trials.refresh()
    lrs = []
    for number in range(len(history), len(history) + count):
        (asked,) = tpe.suggest([number], domain, trials, (seed + number) % 2**31, n_startup_jobs=4)
        lrs.append(asked["misc"]["vals"]["lr"][0])
    return lrs
