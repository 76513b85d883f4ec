from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import StandardScaler

from lrfind.config.document import parse
from lrfind.config.experiment import check
from lrfind.datasets.csv_config import csv_config
from lrfind.datasets.csv_file import csv
from lrfind.datasets.rows import split_rows
from lrfind.errors import UsageError

ROWS = 80
SEED = 3


def people() -> pd.DataFrame:
    generator = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "id": range(ROWS),
            "age": generator.integers(20, 60, ROWS),
            "city": generator.choice(["rome", "oslo", "bern"], ROWS),
            "bmi": generator.normal(25, 3, ROWS),
            "smoker": generator.random(ROWS) < 0.3,
            "price": generator.normal(100, 9, ROWS),
        }
    )


def write(folder: Path, frame: pd.DataFrame | str | bytes) -> str:
    path = folder / "people.csv"
    if isinstance(frame, pd.DataFrame):
        frame = frame.to_csv(index=False)
    path.write_bytes(frame.encode() if isinstance(frame, str) else frame)
    return str(path)


def test_columns_are_what_pandas_and_sklearn_make_of_the_training_rows(tmp_path: Path) -> None:
    frame = people()
    data = csv(write(tmp_path, frame), "price", ignore=["id"], seed=SEED)
    train, held = split_rows(ROWS, 0.2, SEED)
    numbers = StandardScaler().fit(frame[["age", "bmi"]].to_numpy()[train])
    categories = pd.get_dummies(frame[["city", "smoker"]], columns=["city", "smoker"]).to_numpy(dtype=float)
    target = StandardScaler().fit(frame[["price"]].to_numpy()[train])
    for (x, y), rows in ((data.train, train), (data.validation, held)):
        expected = np.hstack([numbers.transform(frame[["age", "bmi"]].to_numpy()[rows]), categories[rows]])
        np.testing.assert_allclose(x, expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(
            y, target.transform(frame[["price"]].to_numpy()[rows]), rtol=1e-5, atol=1e-6
        )
    assert data.transforms[0] == "columns: numbers: age, bmi; categories: city (3), smoker (2); ignored: id"


def test_a_category_of_no_training_row_is_all_zeros(tmp_path: Path) -> None:
    frame = people()
    _, held = split_rows(ROWS, 0.2, SEED)
    frame.loc[held[0], "city"] = "atlantis"
    data = csv(write(tmp_path, frame), "price", ignore=["id", "age", "bmi", "smoker"], seed=SEED)
    assert data.train[0].shape[1] == 3
    assert data.validation[0].sum(dim=1).tolist() == [0.0] + [1.0] * (len(held) - 1)


@pytest.mark.parametrize("missing", ["mean", "median"])
def test_gaps_are_filled_from_the_training_rows(tmp_path: Path, missing: str) -> None:
    frame = people().astype({"smoker": object})
    train, held = split_rows(ROWS, 0.2, SEED)
    for column in ("bmi", "city", "smoker"):
        frame.loc[[train[4], held[1]], column] = None
    data = csv(
        write(tmp_path, frame), "price", missing=missing, ignore=["id", "age"], standardize=False, seed=SEED
    )
    bmi = SimpleImputer(strategy=missing).fit(frame[["bmi"]].to_numpy(dtype=float)[train])
    city = SimpleImputer(strategy="most_frequent").fit(frame[["city"]].to_numpy()[train])
    for (x, y), rows in ((data.train, train), (data.validation, held)):
        np.testing.assert_allclose(
            x[:, 0], bmi.transform(frame[["bmi"]].to_numpy(dtype=float)[rows])[:, 0], rtol=1e-6
        )
        filled = pd.get_dummies(city.transform(frame[["city"]].to_numpy()[rows])[:, 0]).to_numpy(dtype=float)
        np.testing.assert_array_equal(x[:, 1:4], filled)
        np.testing.assert_allclose(y[:, 0], frame["price"].to_numpy()[rows], rtol=1e-6)
    assert "missing values filled: 6;" in data.transforms[1]
    assert f"numbers with the {missing}" in data.transforms[1]


def test_rows_with_gaps_can_be_dropped(tmp_path: Path) -> None:
    frame = people()
    frame.loc[[3, 9], "bmi"] = None
    frame.loc[9, "price"] = None
    data = csv(write(tmp_path, frame), "price", missing="drop", ignore=["id"])
    assert len(data.train[0]) + len(data.validation[0]) == ROWS - 2
    assert data.transforms[0] == "rows with missing values dropped: 2 of 80"


@pytest.mark.parametrize(
    ("target", "classes", "sentence"),
    [
        ("city", 3, "target city: 3 classes, bern, oslo, rome (inferred"),
        ("smoker", 2, "target smoker: 2 classes, False, True (inferred"),
        ("rooms", 4, "target rooms: 4 classes, 1, 2, 3, 4 (inferred"),
        ("age", None, "target age: regression (inferred"),
        ("price", None, "target price: regression (inferred"),
    ],
)
def test_the_task_is_inferred_and_reported(
    tmp_path: Path, target: str, classes: int | None, sentence: str
) -> None:
    frame = people().assign(rooms=[1, 2, 3, 4] * 20)
    data = csv(write(tmp_path, frame), target, ignore=["id"], seed=SEED)
    assert data.classes == classes
    assert any(transform.startswith(sentence) for transform in data.transforms)
    if classes is None:
        assert (data.train[1].dtype, data.train[1].ndim) == (torch.float32, 2)
    else:
        both = torch.cat([data.train[1], data.validation[1]])
        assert both.dtype == torch.int64
        assert torch.bincount(both).tolist() == frame[target].value_counts().sort_index().tolist()


def test_a_task_that_is_given_is_not_inferred(tmp_path: Path) -> None:
    frame = people().assign(rooms=[1, 2, 3, 4] * 20)
    data = csv(write(tmp_path, frame), "rooms", task="regression", standardize=False)
    assert set(data.train[1].flatten().tolist()) == {1.0, 2.0, 3.0, 4.0}


def test_other_separators_and_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    path = write(tmp_path, "\ufeffa;y\n1;2.5\n2;3.5\n3;1.5\n4;0.5\n")
    assert csv(path, "y", separator=";").train[0].shape == (3, 1)
    path = write(tmp_path, " size ;y \n1,5;2,25\n2,5;3,25\n3,5;1,25\n")
    data = csv(path, "y", separator=";", decimal=",", standardize=False)
    assert sorted([*data.train[1].flatten(), *data.validation[1].flatten()]) == [1.25, 2.25, 3.25]
    assert data.transforms[0] == "columns: numbers: size"


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        ("", {}, "people.csv cannot be used as it is.*the file is empty"),
        ("a,y\n", {}, "0 rows of data left"),
        ("ab\n1\n", {}, "one column only, 'ab'.*Name the separator"),
        ("a;y\n1;2\n", {"separator": ","}, "one column only, 'a;y'.*separator may be ';'.*separator: ;"),
        ("a,y\n1,2\n3,4,5\n", {}, "line 3 has 3 fields, and the first line only 2"),
        ("a,y\n1,2,3\n3,4,5\n", {}, "line 2 has 3 fields, and the first line only 2"),
        ('a,y\n1,"2\n3,4\n', {}, "look for a quote that is not closed"),
        ("a, a,y\n1,2,3\n3,4,5\n", {}, "two columns called 'a'"),
        ("a,yield\n1,2\n3,4\n", {"target": "yeild"}, "unknown column 'yeild'; did you mean yield?"),
        ("a,y\n1,2\n3,4\n", {"ignore": ["b"]}, "unknown column 'b'; known: a, y"),
        ("a,y\n1,2\n3,4\n", {"keep": ["b"]}, "unknown column 'b'; known: a, y"),
        ("a,y\n1,2\n3,4\n", {"ignore": ["y"]}, "both the target and in data.args.ignore"),
        ("a,y\n1,2\n3,4\n", {"ignore": ["a"]}, "no column except the target 'y' is left"),
        ("a,y\n1,2\n3,4\n", {"separator": ", "}, "separator must be one character"),
        ("a,y\n1,2\n3,4\n", {"seed": -1}, "seed must be a whole number, 0 or more"),
        ("a,y\n1,1e300\n3,-1e300\n3,9\n", {}, "numbers that are too large to be standardised"),
        ("a,y\n1,2\n3,2\n", {}, "target 'y': '2' in every row"),
        ("a,y\n1,u\n3,v\n4,w\n", {}, "target 'y': 3 different values in 3 rows.*Too many for classes"),
        ("a,y\n1,1\n3,2\n4,3\n", {"task": "classification"}, "`task: regression` predicts the number"),
        ("a,y\n1,u\n3,v\n4,u\n5,v", {"task": "regression"}, "text such as 'u' .lines 2 and 4. and 'v'.*needs numbers"),
        ("a,y\n\n1,1.5\n\n,2\n,3", {}, "'a': 2 missing values: an empty field .lines 5 and 6"),
        ('a,b,y\n1,"x\n",1\n1,x,2\n,z,3', {}, "'a': a missing value: an empty field .line 5"),
        ('a,b,y\n"1,5",2,2.5\n"2,5",3,3.5', {}, "'1,5' .line 2. and '2,5' .line 3., while other columns have '.'"),
        ('a,b,y\n1.5,2,"2,5"\n1.5,3,"3,5"', {}, "target 'y': numbers such as .* Write all decimals in the same way[.]$"),
        ("a,y\n1,1.5\n4,\n5,2", {"missing": "mean"}, "target 'y': a missing value.*line 3.*never filled"),
        ("a,y\n,1\n,2\n,3", {"missing": "mean"}, "'a': no values.*Put it into `ignore`"),
        ("a,y\n,1\n,2\n,3", {"missing": "drop"}, "'a': no values.*Put it into `ignore`"),
        ("a,y\n,1\n3,\n4,3", {"missing": "drop"}, "1 row of data left"),
        ("a,y\n1,1.5\ninf,2.5\n5,2", {}, "'a': infinite values: 'inf' .line 3"),
        ("a,y\n1,1.5\n2,2.5\nx,2\n4,3", {}, "'a': numbers, but also text: 'x' .line 4.*missing_values: .x."),
        ("a,b,y\nu,1,1.5\nv,2,2.5\nw,2,2\nx,9,3", {}, "'a': text with 4 different values, too many.*Put it into `ignore`"),
        ("sep=;\na;y\n1;2", {}, "line 1 is 'sep=;', which only Excel reads. Delete that line; .*data.args.separator"),
        ("a,y\n1,2".encode("utf-16-le"), {}, "in UTF-16, without its mark.*iconv -f UTF-16LE -t UTF-8 OLD > NEW"),
        (b"a,y\n1,caf\xe9\n", {}, "is not UTF-8 text .byte 9 is 0xe9"),
    ],
)  # fmt: skip
def test_a_table_that_cannot_be_used_says_where_and_what_to_do(
    tmp_path: Path, text: str | bytes, arguments: dict, message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        csv(write(tmp_path, text), **{"target": "y", **arguments})
    assert re.search(message, " ".join(str(caught.value).split()))


def messy(rows: int = 60) -> str:
    """A table from a spreadsheet with German settings, in which nearly every column has a problem."""
    lines = ["\ufeffcustomer_id;name;joined;area;rent;discount;smoker;rooms;country;note;price"]
    for i in range(rows):
        area = "n/a" if i == 5 else f"{20 + i},{i % 10}"
        price = "" if i in (7, 30) else f"{100 + 3 * i},50"
        note = '"two\nlines"' if i == 3 else "ab"[i % 2]
        smoker = ["Yes", "yes", "No", "NO "][i % 4]
        cells = [
            1000 + 7 * i,
            f"Person {i}",
            f"2024-{i % 12 + 1:02}-{i % 28 + 1:02}",
            area,
            f"{1 + i % 9}.{100 + i} €",
        ]
        cells += [f"{i % 40}%", smoker, "unknown" if i % 20 == 0 else i % 25, "Norway", note, price]
        lines.append(";".join(map(str, cells)))
    return "\n".join(lines) + "\n"


def mending_args(error: UsageError) -> dict:
    """The arguments in the block that a message proposes."""
    block = yaml.safe_load(str(error)[str(error).index("\ndata:\n") :])
    assert block["data"]["name"] == "csv"
    return block["data"]["args"]


def test_all_problems_are_listed_at_once_and_the_proposed_lines_mend_them(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        csv(write(tmp_path, messy()), "price")
    message = str(caught.value)
    for part in (
        "target 'price': numbers such as '100,50' (line 2)",
        "target 'price': 2 missing values: an empty field (lines 10 and 33)",
        "column 'name': text with 60 different values",
        "column 'joined': dates or times such as '2024-01-01' (line 2)",
        "column 'area': a missing value: 'n/a' (line 8)",
        "column 'rent': numbers such as '1.100 €' (line 2)",
    ):
        assert part in " ".join(message.split()), part
    args = mending_args(caught.value)
    assert args["decimal"] == ","
    assert args["thousands"] == "."
    data = csv(**args, standardize=False)
    assert "columns: numbers: area, rent, discount; categories: smoker (2), rooms (25), note (3)" in " ".join(
        data.transforms
    )
    rows = torch.cat([data.train[0], data.validation[0]])
    assert sorted(rows[:, 1].tolist()) == sorted(
        (1 + i % 9) * 1000 + 100 + i for i in range(60) if i not in (7, 30)
    )


@pytest.mark.parametrize(
    ("column", "args"),
    [
        (lambda i: f'"{i},500"', {"thousands": ","}),
        (lambda i: f'"{i},5"', {"ignore": ["a"]}),
        (lambda i: f"1 {i + 100}.5", {"thousands": " "}),
        (lambda i: f"1'{i + 100}", {"thousands": "'"}),
        (lambda i: f'"$1,{i + 100}.25"', {"thousands": ","}),
        (lambda i: "inf" if i == 3 else i + 0.5, {"missing": "median", "missing_values": ["inf", "-inf"]}),
        (lambda i: "n.d." if i % 9 == 0 else i + 0.5, {"missing": "median", "missing_values": ["n.d."]}),
        (
            lambda i: "k.A." if i == 0 else f'"1,{i + 100}.25"',
            {"thousands": ",", "missing": "median", "missing_values": ["k.A."]},
        ),
        (lambda i: "" if i == 3 else i + 0.5, {"missing": "median"}),
        (lambda i: f"{i % 24}:{i}", {"ignore": ["a"]}),
    ],
    ids=[
        "thousands", "both decimals", "spaces", "apostrophes", "dollars", "infinite", "sentinel", "notation and sentinel", "gap",
        "times",
    ],
)  # fmt: skip
def test_a_notation_has_a_setting_that_reads_it(tmp_path: Path, column: Callable, args: dict) -> None:
    lines = [f"{column(i)},{i * 1.5},{i % 7}.5" for i in range(40)]
    path = write(tmp_path, "\n".join(["a,b,y", *lines]))
    with pytest.raises(UsageError) as caught:
        csv(path, "y")
    proposed = mending_args(caught.value)
    assert proposed.pop("target") == "y"
    assert proposed.pop("path") == path
    assert proposed == args
    data = csv(path, "y", **args)
    assert data.train[0].shape[1] == (1 if "ignore" in args else 2)


def test_a_sign_that_all_numbers_share_is_left_out(tmp_path: Path) -> None:
    text = "a,b,y\n" + "".join(f"{i}%,€ {i}.5,{i * 3}\n" for i in range(30))
    data = csv(write(tmp_path, text), "y", standardize=False)
    rows = torch.cat([data.train[0], data.validation[0]])
    assert sorted(rows[:, 1].tolist()) == [i + 0.5 for i in range(30)]
    assert "a: numbers, read without their '%'" in data.transforms


def test_words_that_differ_only_in_case_or_spaces_are_one_class(tmp_path: Path) -> None:
    words = ["Yes", "yes", "YES ", "No", "Yes", "no", "No"] * 5
    text = "a,y\n" + "".join(f"{i * 0.5},{word}\n" for i, word in enumerate(words))
    data = csv(write(tmp_path, text), "y")
    assert data.classes == 2
    remark = next(remark for remark in data.transforms if remark.startswith("y: "))
    assert remark.startswith("y: 'No' is also 'no'; 'Yes' is also 'YES' and 'yes'")
    assert torch.bincount(torch.cat([data.train[1], data.validation[1]])).tolist() == [15, 20]
    assert csv(write(tmp_path, text), "y", ignore_case=False).classes == 5


@pytest.mark.parametrize(
    ("numbers", "name", "left_out"),
    [
        (range(80), "row", True),
        (range(1079, 999, -1), "nr", True),
        (range(0, 800, 10), "CustomerId", True),
        (range(0, 800, 10), "user_id", True),
        (range(0, 800, 10), "population", False),
        (range(0, 800, 10), "humid", False),
        ([1] * 79 + [2], "id", False),
        ([3] * 80, "country", True),
    ],
)
def test_columns_that_tell_nothing_are_left_out_with_a_remark(
    tmp_path: Path, numbers: Sequence[int], name: str, left_out: bool
) -> None:
    path = write(tmp_path, people().drop(columns="id").assign(**{name: list(numbers)}))
    data, kept = csv(path, "price"), csv(path, "price", keep=[name])
    assert any(remark.startswith(f"left out: {name} (") for remark in data.transforms) == left_out
    assert not any(remark.startswith("left out") for remark in kept.transforms)
    assert kept.train[0].shape[1] - data.train[0].shape[1] == left_out


@pytest.mark.parametrize("name", ["Unnamed: 0", "1", "1e3", "id, old", "{id}", "on"])
def test_the_line_that_keeps_a_column_is_yaml_that_names_it(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, people().rename(columns={"id": name}))
    (remark,) = (text for text in csv(path, "price").transforms if text.startswith("left out"))
    line = remark.partition("`")[2].rpartition("`")[0]
    assert parse(line, "line").value == {"keep": [name]}


def test_an_unknown_column_of_a_wide_table_gets_the_one_that_is_meant_or_a_few(tmp_path: Path) -> None:
    path = write(tmp_path, pd.DataFrame({f"x{place}": [1, 2] for place in range(100)} | {"Price": [3, 4]}))
    with pytest.raises(UsageError, match="unknown column 'price'; did you mean Price\\?$"):
        csv(path, "price")
    with pytest.raises(UsageError, match="known: Price, x0, .* and 63 more.$"):
        csv(path, "cost")


def test_classes_may_be_called_by_numbers_and_words(tmp_path: Path) -> None:
    text = "a,y\n" + "".join(f"{i}.5,{[1, 2, 3, '4+'][i % 4]}\n" for i in range(40))
    data = csv(write(tmp_path, text), "y")
    assert any(remark.startswith("target y: 4 classes, 1, 2, 3, 4+") for remark in data.transforms)


def test_a_row_number_that_is_the_only_column_is_kept(tmp_path: Path) -> None:
    data = csv(write(tmp_path, "x,y\n" + "".join(f"{i},{i * i}\n" for i in range(30))), "y")
    assert data.train[0].shape == (24, 1)


def test_rows_without_a_target_are_dropped_while_other_gaps_are_filled(tmp_path: Path) -> None:
    frame = people()
    frame.loc[[3, 9], "price"] = None
    frame.loc[[4, 9], "bmi"] = None
    data = csv(write(tmp_path, frame), "price", missing="mean", missing_target="drop")
    assert len(data.train[0]) + len(data.validation[0]) == ROWS - 2
    assert data.transforms[0] == "rows with missing values dropped: 2 of 80"
    assert any(remark.startswith("missing values filled: 1;") for remark in data.transforms)


def test_a_file_without_names_gets_numbered_ones(tmp_path: Path) -> None:
    path = write(tmp_path, "5.1,3.5,setosa\n4.9,3.0,setosa\n6,2,virginica\n5,2,virginica\n")
    with pytest.raises(UsageError, match="first line looks like a row of data") as caught:
        csv(path, "species")
    args = mending_args(caught.value)
    assert (args["header"], args["target"]) == (False, "column 3")
    data = csv(**args)
    assert data.classes == 2
    assert len(data.train[0]) + len(data.validation[0]) == 4


def test_a_problem_that_only_the_file_can_mend_stands_beside_those_that_settings_mend(tmp_path: Path) -> None:
    path = write(tmp_path, "a,b,y\n1,2,u\n,3,u\n3,4,u\n")
    with pytest.raises(UsageError, match=r"(?s)'u' in every row.*the others are\s+mended.*missing: median"):
        csv(path, "y")


@pytest.mark.parametrize("missing", ["?", "NA", "null", "NaN", "n/a", "", " "])
def test_usual_spellings_of_nothing_are_missing_values(tmp_path: Path, missing: str) -> None:
    text = "a,b,y\n" + "".join(f"{missing if i == 4 else i * 0.5},{i % 2},{i}.5\n" for i in range(30))
    with pytest.raises(UsageError, match="'a': a missing value: .*line 6"):
        csv(write(tmp_path, text), "y")


@pytest.mark.parametrize("target", ["a", "y"])
def test_one_word_among_numbers_with_a_decimal_comma_does_not_hide_them(tmp_path: Path, target: str) -> None:
    rows = [f"{'k.A.' if i == 3 else f'1.{800 + i},4'};{i % 2}" for i in range(40)]
    text = csv_config(write(tmp_path, "\n".join(["a;y", *rows])), target)
    args = check(text, [], "first.yaml").data.args
    assert (args["decimal"], args["thousands"], args["missing_values"]) == (",", ".", ["k.A."])
    assert "# - a: numbers such as '1.800,4' (line 2)" in text
    assert "so `decimal` and `thousands` are set" in text


def test_a_first_config_for_a_table_is_valid_and_says_what_was_decided(tmp_path: Path) -> None:
    path = write(tmp_path, messy().replace(";note;", ';"no\nte";', 1))
    text = csv_config(path, "price")
    experiment = check(text, [], "first.yaml")
    assert (experiment.data.args["decimal"], experiment.loss.name) == (",", "mse")  # type: ignore[union-attr]
    assert "# - left out: customer_id" in text
    data = csv(**experiment.data.args)
    assert data.classes is None
    with pytest.raises(UsageError, match="first line looks like a row of data"):
        csv_config(write(tmp_path, "1,2\n3,4\n5,7\n"), "price")


def test_a_missing_file_names_the_nearest_one(tmp_path: Path) -> None:
    write(tmp_path, "a,y\n")
    with pytest.raises(UsageError, match=r"no file poeple.csv in .*did you mean people.csv\?"):
        csv(str(tmp_path / "poeple.csv"), "y")
    with pytest.raises(UsageError, match="there is no folder"):
        csv(str(tmp_path / "none" / "people.csv"), "y")
    with pytest.raises(UsageError, match="is a folder; give a file"):
        csv(str(tmp_path), "y")
