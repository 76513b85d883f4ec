from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrfind.config import experiment as config
from lrfind.config import templates
from lrfind.config.document import ConfigError, parse
from lrfind.config.experiment import Experiment, check
from lrfind.errors import UsageError
from tests.helpers.runs import CLASSIFIER


def mistakes(text: str, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        check(text, overrides, "f.yaml")
    return [str(mistake).split("\n")[0] for mistake in refused.value.mistakes]


def test_a_bare_name_is_short_for_a_mapping() -> None:
    assert check(CLASSIFIER) == check(CLASSIFIER.replace("mnist_mini", "{name: mnist_mini, args: {}}"))


def test_what_is_dumped_reads_back_the_same() -> None:
    experiment = check(CLASSIFIER, ["range_test.start_lr=1.2345678901234567e-7"])
    assert check(config.dump(experiment)) == experiment


@settings(max_examples=25)
@given(st.text(max_size=12))
def test_any_text_survives_being_dumped(text: str) -> None:
    experiment = check(CLASSIFIER)
    odd = experiment.model_copy(update={"model": experiment.model.model_copy(update={"args": {"a": text}})})
    assert parse(config.dump(odd), "f").value["model"]["args"]["a"] == text


def test_a_name_in_an_override_leaves_the_arguments_of_the_old_name_behind() -> None:
    assert check(CLASSIFIER, ["optimizer.name=adam"]).optimizer.args == {}
    assert check(CLASSIFIER, ["optimizer.name=adam", "optimizer.args.eps=1e-7"]).optimizer.args == {
        "eps": 1e-7
    }


@pytest.mark.parametrize("turned", [False, True])
def test_what_an_override_sets_no_other_one_removes(turned: bool) -> None:
    order = reversed if turned else list
    name = ["optimizer.name=adam", "optimizer.args.eps=1e-7"]
    assert check(CLASSIFIER, [*order(name)]).optimizer.args == {"eps": 1e-7}
    whole = "optimizer={name: sgd, args: {nesterov: true, momentum: 0.9}}"
    assert check(CLASSIFIER, [whole, *name]).optimizer.args == {"eps": 1e-7}
    over = ["range_test.over=momentum", "range_test.values=[0, 0.9]"]
    assert check(CLASSIFIER, [*order(over)]).range_test.values == (0, 0.9)
    both = [*order(["training.steps=5", "training.epochs=2"])]
    assert mistakes(CLASSIFIER, *both)[0].endswith("training: give exactly one of steps and epochs")


def test_a_range_that_an_override_turns_around_is_pointed_at_there() -> None:
    assert mistakes(CLASSIFIER, "range_test.start_lr=1", "range_test.end_lr=0.1")[0].startswith(
        "--set:1:19: error"
    )


def test_steps_and_epochs_give_way_to_each_other_in_overrides() -> None:
    training = check(CLASSIFIER, ["training.steps=7"]).training
    assert (training.steps, training.epochs) == (7, None)
    assert mistakes(CLASSIFIER.replace("epochs: 2", "epochs: 2, steps: 3")) == [
        "f.yaml:6:11: error: training: give exactly one of steps and epochs"
    ]


WRONG = {
    "seed: -1": "seed: must be at least 0; found -1",
    "seed: 1.5": "seed: must be a whole number; found 1.5",
    "seed: true": "seed: must be a whole number; found true",
    "device: gpu": "device: must be 'auto', 'cpu', 'cuda' or 'mps'; found the text 'gpu'",
    "schedule: cosine": "unknown key 'schedule'; did you mean training.schedule?",
    "steps: 3": "unknown key 'steps'; did you mean training.steps or range_test.steps?",
    "modle: mlp": "unknown key 'modle'; did you mean model?",
    "range_test: {step: 3}": "unknown key 'step'; did you mean steps?",
    "range_test: {steps: 1}": "range_test.steps: must be at least 2; found 1",
    "range_test: {end_lr: .inf}": "range_test.end_lr: must be a finite number; found inf",
    "range_test: {start_lr: 1, end_lr: 1}": "range_test.end_lr: must be well above start_lr (1); found 1",
    "range_test: 3": "range_test: must be a mapping of keys to values; found 3",
    "name: a b": "name: must be letters, digits, '.', '_' or '-', starting with a letter or a digit;"
    " found the text 'a b'",
}


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_value_is_reported_in_plain_words(line: str) -> None:
    text = CLASSIFIER.replace("name: good\n", "") + line + "\n"
    (message,) = mistakes(text)
    assert message.startswith("f.yaml:6:")
    assert message.endswith(f"error: {WRONG[line]}")


def replaced(old: str, new: str) -> str:
    assert old in CLASSIFIER
    return CLASSIFIER.replace(old, new)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("lr: 0.01", "lr: -1", "optimizer.lr: must be greater than 0; found -1"),
        ("momentum: 0.9", "lr: 1", "the learning rate belongs in optimizer.lr only; move it there"),
        ("momentum: 0.9", "momentun: 0.9", "sgd: unknown argument 'momentun'; did you mean momentum?"),
        ("momentum: 0.9", "momentum: high", "optimizer.args.momentum: must be a number"),
        ("name: mlp", "name: mpl", "unknown model 'mpl'; did you mean mlp?"),
        ("name: mlp", "name: 'a:'", "'a:' is not of the form pkg.module:attr"),
        ("hidden: [8]", "hidden: 8", "model.args.hidden: must be a list; found 8"),
        ("hidden: [8]", "hiden: [8]", "mlp: unknown argument 'hiden'; did you mean hidden?"),
        ("data: mnist_mini", "data: {name: mnist_mini, batch_size: 0}", "data.batch_size: must be a whole number greater than 0, 'full' or null; found 0"),
        ("data: mnist_mini", "data: {name: mnist_mini, target: x}", "belongs in args: args: {target: ...}"),
        ("epochs: 2", "epochs: 2, batch_size: 8", "unknown key 'batch_size'; did you mean data.batch_size?"),
        ("loss: cross_entropy", "loss: crossentropy", "unknown loss 'crossentropy'; did you mean cross_entropy?"),
        ("optimizer: ", "optimiser: ", "unknown key 'optimiser'; did you mean optimizer?"),
    ],
)  # fmt: skip
def test_names_and_arguments_are_checked_against_the_code(old: str, new: str, message: str) -> None:
    assert any(message in mistake for mistake in mistakes(replaced(old, new)))


def test_every_mistake_is_reported_at_once_and_in_order() -> None:
    text = "name: [\n]\nseed: x\nmodel: nothing\ndata: mnist_mini\noptimizer: sgd\nseed: 3\n"
    lines = [int(mistake.split(":")[1]) for mistake in mistakes(text, "training.steps=0")]
    assert lines == [1, 1, 3, 4, 7]


def test_an_override_with_a_mistake_is_pointed_at_in_the_argument() -> None:
    assert mistakes(CLASSIFIER, "optimizer.lr=fast") == [
        "--set:1:14: error: optimizer.lr: must be a number; found the text 'fast'"
    ]


def test_a_malformed_override_is_reported_with_all_the_others() -> None:
    messages = mistakes(CLASSIFIER.replace("lr: 0.01", "lr: -1"), "nonsense", "optimizer.lr=[1", "seed=x")
    assert [message.split(" error")[0] for message in messages] == [
        "--set:1:1:",
        "--set:1:6:",
        "--set:1:16:",
        "f.yaml:5:28:",
    ]


@pytest.mark.parametrize(
    "annotation",
    ["'Foo'", "int | 'X'", "3", "int | 9**9**9**9", "Callable[[int], int]", "np.ndarray", "x if y else z"],
)
def test_an_annotation_that_is_not_plain_is_left_alone(
    annotation: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "odd_for_config.py").write_text(f"def net(a: {annotation}): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert check(CLASSIFIER, ["model={name: 'odd_for_config:net', args: {a: 1}}"])


def test_missing_parts_are_named() -> None:
    assert [m.partition("error: ")[2] for m in mistakes("name: x")] == [
        "'model' is missing",
        "'data' is missing",
        "'optimizer' is missing",
    ]


@pytest.mark.parametrize(
    ("text", "content"), [("", "is empty"), ("[1]", "is a list"), ("abc", "is a single value")]
)
def test_a_config_that_is_not_a_mapping_is_refused(text: str, content: str) -> None:
    assert content in mistakes(text)[0]


def test_a_value_that_cannot_be_read_is_one_mistake() -> None:
    assert len(mistakes(f"{CLASSIFIER}seed: {10**30}")) == 1


def test_arguments_of_a_users_own_code_are_read_from_its_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine_for_config.py").write_text(
        "raise SystemExit('imported')\ndef net(width: int, depth=2): ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    own = "model: {name: mine_for_config:net, args: {width: 3}}"
    assert check(replaced("model: {name: mlp, args: {hidden: [8]}}", own)).model.name == "mine_for_config:net"
    wrong = own.replace("width: 3", "widht: 3")
    messages = mistakes(replaced("model: {name: mlp, args: {hidden: [8]}}", wrong))
    assert any("unknown argument 'widht'; did you mean width?" in message for message in messages)
    assert any("needs the argument 'width'" in message for message in messages)


def test_unreadable_files_say_why(tmp_path: Path) -> None:
    (tmp_path / "exp.yaml").write_text(CLASSIFIER)
    with pytest.raises(UsageError, match=r"did you mean .*exp\.yaml"):
        config.read(tmp_path / "exq.yaml")
    with pytest.raises(UsageError, match="is a directory"):
        config.read(tmp_path)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="not UTF-8"):
        config.read(tmp_path / "binary.yaml")


def test_without_a_config_the_one_here_is_used_else_the_packaged_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path, why = templates.find_config(None)
    assert path.stem == "mnist_cnn"
    assert "packaged" in why
    Path("lrfind.yaml").write_text(CLASSIFIER)
    assert templates.find_config(None)[0] == Path("lrfind.yaml")


@pytest.mark.parametrize("template", templates.templates())
def test_every_template_is_a_good_config_and_fits_the_schema(template: str) -> None:
    text = templates.starter(template)
    assert isinstance(check(text), Experiment)
    jsonschema.validate(parse(text, "f").value, Experiment.model_json_schema())


def test_the_schema_is_json_and_refuses_what_is_wrong() -> None:
    schema = json.loads(json.dumps(Experiment.model_json_schema()))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**parse(CLASSIFIER, "f").value, "sead": 1}, schema)
