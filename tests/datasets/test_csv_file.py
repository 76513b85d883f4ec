from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import StandardScaler

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
        ("", {}, "people.csv is empty"),
        ("a,y\n", {}, "has 0 rows of data left"),
        ("a;y\n1,5;2\n2,5;3\n", {}, "one column, 'a;y'; .* Is data.args.separator ';'"),
        ("a,y\n1,2\n3,4,5\n", {}, "Expected 2 fields in line 3, saw 3"),
        ("a,y\n1,2,3\n3,4,5\n", {}, "more fields than the first line has names"),
        ("a, a,y\n1,2,3\n3,4,5\n", {}, "two columns called 'a'"),
        ("a,yield\n1,2\n3,4\n", {"target": "yeild"}, "unknown column 'yeild'; did you mean yield?"),
        ("a,y\n1,2\n3,4\n", {"ignore": ["b"]}, "unknown column 'b'; known: a, y"),
        ("a,y\n1,2\n3,4\n", {"ignore": ["y"]}, "both the target and in data.args.ignore"),
        ("a,y\n1,2\n3,4\n", {"ignore": ["a"]}, "no column except the target 'y' is left"),
        ("a,y\n1,2\n3,4\n", {"separator": ", "}, "separator must be one character"),
        ("a,y\n1,2\n3,4\n", {"seed": -1}, "seed must be a whole number, 0 or more"),
        ("a,y\n1,1e300\n3,-1e300\n3,9\n", {}, "numbers that are too large to be standardised"),
        ("a,y\n1,2\n3,2\n", {}, "the target 'y' is '2.*' in every row"),
        ("a,y\n1,u\n3,v\n4,w\n", {}, "'y' has 3 different values in 3 rows, too many for classes"),
        ("a,y\n1,u\n3,v\n4,u\n5,v", {"task": "regression"}, "'y' has text such as 'u' .*line 2.* needs numbers"),
        ("a,y\n\n1,1.5\n\n,2\n,3", {}, "'a' has 2 missing values .*line 5.*`mean` or `median` fills the gaps"),
        ('a,b,y\n1,"x\n",1\n1,x,2\n,z,3', {}, "'a' has a missing value .*line 5"),
        ("a,y\n1,1.5\n4,\n5,2", {"missing": "mean"}, "'y' has a missing value .*line 3.*never filled in"),
        ("a,y\n,1\n,2\n,3", {"missing": "mean"}, "'a' has no values; put it into data.args.ignore"),
        ("a,y\n,1\n,2\n,3", {"missing": "drop"}, "'a' has no values; put it into data.args.ignore"),
        ("a,y\n,1\n3,\n4,3", {"missing": "drop"}, "has 1 row of data left"),
        ("a,y\n1,1.5\ninf,2.5\n5,2", {}, "'a' has infinite values .*line 3"),
        ("a,y\n1,1.5\n2,2.5\n?,2\n4,3", {}, "'a' has numbers, but also '.' .*line 4"),
        ("a,y\nu,1.5\nv,2.5\nw,2\nx,3", {}, "'a' has text with 4 different values, too many .* put the column into data.args.ignore"),
        (b"a,y\n1,caf\xe9\n", {}, "is not UTF-8 text .byte 9 is 0xe9"),
    ],
)  # fmt: skip
def test_a_table_that_cannot_be_used_says_where_and_what_to_do(
    tmp_path: Path, text: str | bytes, arguments: dict, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        csv(write(tmp_path, text), **{"target": "y", **arguments})


def test_a_missing_file_names_the_nearest_one(tmp_path: Path) -> None:
    write(tmp_path, "a,y\n")
    with pytest.raises(UsageError, match=r"no file poeple.csv in .*did you mean people.csv\?"):
        csv(str(tmp_path / "poeple.csv"), "y")
    with pytest.raises(UsageError, match="there is no folder"):
        csv(str(tmp_path / "none" / "people.csv"), "y")
    with pytest.raises(UsageError, match="is a folder; give a file"):
        csv(str(tmp_path), "y")
