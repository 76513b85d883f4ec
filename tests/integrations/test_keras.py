from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import lrfind
from lrfind.errors import UsageError
from lrfind.integrations import keras as integration
from tests.helpers.states import bits

EPOCHS = 20


def rows() -> tuple[Any, Any]:
    make = torch.Generator().manual_seed(0)
    x = torch.randn(320, 6, generator=make)
    return x.numpy(), x[:, :3].argmax(dim=1).numpy()


def model(optimizer: Any = "sgd", lr: Any = 1e-3) -> Any:
    import keras

    keras.utils.set_random_seed(0)
    layers = [keras.Input((6,)), keras.layers.Dense(16, activation="relu"), keras.layers.Dense(3)]
    made = keras.Sequential(layers)
    kinds = {"sgd": keras.optimizers.SGD, "adam": keras.optimizers.Adam}
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    made.compile(kinds[optimizer](lr), loss=loss)
    return made


def find(of: Any, **options: Any) -> lrfind.Recommendation:
    return integration.find(of, *rows(), batch_size=32, epochs=EPOCHS, **options)


def weights(of: Any) -> Any:
    return bits([variable.value.detach() for variable in (*of.variables, *of.optimizer.variables)], set())


def by_torch(name: str, **options: Any) -> lrfind.Recommendation:
    """The answer for the same weights, optimizer and data in torch."""
    plain = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))
    with torch.no_grad():
        for layer, dense in zip((plain[0], plain[2]), model(name).layers, strict=True):
            layer.weight.copy_(dense.kernel.value.T)
            layer.bias.copy_(dense.bias.value)
    kinds = {"sgd": torch.optim.SGD, "adam": lambda p, lr: torch.optim.Adam(p, lr=lr, eps=1e-7)}
    loss_fn = nn.CrossEntropyLoss()
    data = torch.utils.data.TensorDataset(*map(torch.tensor, rows()))
    loader = torch.utils.data.DataLoader(data, batch_size=32, shuffle=True)
    return lrfind.find(
        plain, kinds[name](plain.parameters(), lr=1e-3), data=loader,
        loss=lambda batch: loss_fn(plain(batch[0]), batch[1]), **{"steps": EPOCHS * 10, **options},
    )  # fmt: skip


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_the_answer_is_that_of_torch_on_the_same_weights(name: str) -> None:
    of, same = model(name), by_torch(name)
    best = find(of)
    assert best.training == same.training
    assert best.lr == pytest.approx(same.lr, rel=0.02)
    assert float(of.optimizer.learning_rate) == pytest.approx(best.lr)


def test_accumulated_batches_make_one_step() -> None:
    import keras

    of, same = model(), by_torch("sgd", steps=EPOCHS * 5, accumulate=2)
    of.optimizer = keras.optimizers.SGD(1e-3, gradient_accumulation_steps=2)
    best = find(of)
    assert best.training.steps == EPOCHS * 5
    assert best.lr == pytest.approx(same.lr, rel=0.02)


def test_a_training_is_as_if_nobody_had_asked() -> None:
    import keras

    class Losses(keras.callbacks.Callback):
        seen: list[float]

        def on_train_begin(self, logs: Any = None) -> None:
            self.seen = []

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.seen.append(logs["loss"])

    runs = []
    for asks in (False, True):
        of, losses = model("adam"), Losses()
        of.optimizer.build(of.trainable_variables)
        if asks:
            before = weights(of)
            find(of)
            of.optimizer.learning_rate = 1e-3
            assert weights(of) == before
        of.fit(*rows(), batch_size=32, epochs=1, verbose=0, callbacks=[losses])
        runs.append((losses.seen, weights(of)))
    assert runs[0] == runs[1]
    assert len(runs[0][0]) == 10


def test_a_schedule_counts_and_its_peak_becomes_the_rate() -> None:
    import keras

    cosine = keras.optimizers.schedules.CosineDecay(0.0, 180, warmup_target=1e-3, warmup_steps=20)
    of = model("sgd", cosine)
    best = find(of)
    assert best.training.mean_multiplier == pytest.approx(0.5, abs=0.02)
    assert cosine.warmup_target == pytest.approx(best.lr)
    of.fit(*rows(), batch_size=32, epochs=2, verbose=0)
    assert float(of.optimizer.learning_rate) == pytest.approx(best.lr, rel=0.01)


@pytest.mark.filterwarnings("ignore:`build..` was called on layer:UserWarning")
def test_a_model_that_is_not_ready_is_refused_and_ready_when_it_has_been_called() -> None:
    import keras

    class Own(keras.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.layer = keras.layers.Dense(3)

        def call(self, x: Any) -> Any:
            return self.layer(x)

    without_optimizer = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])
    for unready in (keras.Sequential([keras.layers.Dense(3)]), without_optimizer, Own()):
        with pytest.raises(UsageError, match=r"as in model\(x\[:1\]\), and then model.compile"):
            find(unready)
    own = Own()
    own.compile("sgd", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    own.build((None, 6))  # Keras says that the model is built now, but the layer is not
    with pytest.raises(UsageError, match="must have weights"):
        find(own)
    own(rows()[0][:1])
    assert find(own).lr == pytest.approx(float(own.optimizer.learning_rate))


def test_another_backend_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import keras

    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(UsageError, match="KERAS_BACKEND=torch"):
        find(model())


def test_the_plain_call_names_the_adapter() -> None:
    of = model()
    with pytest.raises(UsageError, match=r"Use lrfind.integrations.keras.find\(model, x, y\)"):
        lrfind.find(of, of.optimizer, nn.CrossEntropyLoss(), [rows()])


def test_rows_may_have_weights() -> None:
    x, y = rows()
    best = integration.find(model(), x, y, sample_weight=np.ones(len(x)), epochs=EPOCHS)
    assert best.lr == pytest.approx(find(model()).lr, rel=0.02)


@pytest.mark.parametrize("how", ["factor", "wrapper", "train_step"])
def test_steps_that_keras_changes_are_taken_by_keras(how: str) -> None:
    """The scale of a loss is divided out again, so the rate stays the same."""
    import keras

    class Scaled(keras.Sequential):  # type: ignore[misc]
        def train_step(self, data: Any) -> Any:
            return super().train_step((*data, torch.full((len(data[0]),), 100.0)))

    plain = find(model())
    of = model()
    if how == "factor":
        of.optimizer = keras.optimizers.SGD(1e-3, loss_scale_factor=128.0)
    elif how == "wrapper":
        of.optimizer = keras.optimizers.LossScaleOptimizer(of.optimizer)
    else:
        loss, optimizer = of.loss, of.optimizer
        of = Scaled([keras.Input((6,)), *of.layers])
        of.compile(optimizer, loss=loss)
    of.optimizer.build(of.trainable_variables)
    before = weights(of), bits([metric.result() for metric in of.metrics], set())
    best = find(of)
    assert float(of.optimizer.learning_rate) == pytest.approx(best.lr)
    assert best.lanes[0].loss[0] == pytest.approx(
        (100 if how == "train_step" else 1) * plain.lanes[0].loss[0]
    )
    assert best.lr < 0.1 * plain.lr if how == "train_step" else best.lr == pytest.approx(plain.lr, rel=0.02)
    of.optimizer.learning_rate = 1e-3
    assert (weights(of), bits([metric.result() for metric in of.metrics], set())) == before


def test_several_inputs_need_a_loader() -> None:
    import keras

    inputs = [keras.Input((6,)), keras.Input((6,))]
    of = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Add()(inputs)))
    of.compile("sgd", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = rows()
    for several in ([torch.tensor(x), torch.tensor(x)], {"a": x, "b": x}):
        with pytest.raises(UsageError, match=r"give a DataLoader of batches \(\[x1, x2\], y\)"):
            integration.find(of, several, y)
    pairs = [([x[i], x[i]], y[i]) for i in range(len(x))]
    assert integration.find(of, torch.utils.data.DataLoader(pairs, 32, shuffle=True), epochs=EPOCHS).lr > 0
