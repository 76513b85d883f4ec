"""The adapters without their frameworks: they are imported at once, and say what is missing when they are used."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from sklearn.pipeline import Pipeline
from torch import nn

from lrfind.errors import UsageError
from lrfind.integrations import fastai, ignite, keras, lightning, sklearn, skorch, transformers

FRAMEWORKS = ("transformers", "lightning", "skorch", "fastai", "ignite", "keras", "sklearn")
OTHER_NAMES = ("pytorch_lightning",)
CALLS: dict[str, tuple[str, Any]] = {
    "transformers": ("transformers", lambda: transformers.find(None)),
    "transformers, callback": ("transformers", lambda: transformers.FindLR),
    "lightning": ("lightning", lambda: lightning.find(None, None)),
    "lightning, callback": ("lightning", lambda: lightning.FindLR),
    "skorch": ("skorch", lambda: skorch.find(None, None)),
    "skorch, callback": ("skorch", lambda: skorch.FindLR),
    "fastai": ("fastai", lambda: fastai.find(None)),
    "ignite": ("pytorch-ignite", lambda: ignite.find(None, None, None)),
    "ignite, handler": ("pytorch-ignite", lambda: ignite.FindLR(None).attach(None)),
    "keras": ("keras", lambda: keras.find(None, None)),
    "sklearn": ("scikit-learn", lambda: sklearn.find(None, None, None)),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_missing_package_is_named_with_the_way_to_install_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    to_install, call = CALLS[name]
    for module in [m for m in sys.modules if m.split(".")[0] in (*FRAMEWORKS, *OTHER_NAMES)]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(sys, "meta_path", [Missing(), *sys.meta_path])
    for adapter in (transformers, lightning, skorch):
        monkeypatch.delitem(vars(adapter), "FindLR", raising=False)
    with pytest.raises(UsageError, match=f"is not installed: pip install {to_install}$") as caught:
        call()
    assert caught.value.exit_code == 2


class Missing:
    """A finder that says of every framework that it is not installed."""

    def find_spec(self, name: str, *_: Any) -> None:
        if name.split(".")[0] in (*FRAMEWORKS, *OTHER_NAMES):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: transformers.find(nn.Linear(1, 1)), "a Trainer of transformers; .* Linear. A model without"),
        (
            lambda: lightning.find(nn.Linear(1, 1), None),
            "a Trainer of lightning; .* Linear. The trainer come",
        ),
        (
            lambda: skorch.find(Pipeline([]), None),
            "a NeuralNet of skorch; .* Pipeline. Of a Pipeline or a se",
        ),
        (lambda: fastai.find(nn.Linear(1, 1)), "learn must be a Learner of fastai; found .* type Linear."),
        (
            lambda: ignite.find(nn.Linear(1, 1), None, None),
            "trainer must be an Engine of ignite; found an obj",
        ),
        (
            lambda: keras.find(nn.Linear(1, 1), None),
            "model must be a Model of keras; found an object of type",
        ),
    ],
)
def test_an_object_of_another_kind_is_refused(
    call: Any, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    with pytest.raises(UsageError, match=message):
        call()


def test_the_adapters_import_no_framework_and_lrfind_imports_no_adapter() -> None:
    adapters = "\n".join(f"import lrfind.integrations.{name}" for name in FRAMEWORKS)
    code = (
        "import sys, lrfind\nassert not any(name.startswith('lrfind.integrations') for name in sys.modules)\n"
        f"assert 'torch' not in sys.modules\n{adapters}\n"
        f"assert not {{*{FRAMEWORKS!r}}} & {{*sys.modules}}"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
