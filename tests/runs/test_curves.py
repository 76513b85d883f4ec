from __future__ import annotations

import bz2
import gzip
import lzma
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from lrfind.errors import UsageError
from lrfind.runs import curves
from lrfind.runs.curves import read_curves


def test_curves_are_read_from_any_csv(tmp_path: Path) -> None:
    path = tmp_path / "curve.csv"
    path.write_text("Step, LR, Loss\n0, 0.1, 2\n1, 0.001, 3.5\n2, 0.01, nan\n")
    (curve,), raw, method = read_curves(path)
    assert curve.lr.tolist() == [0.001, 0.01, 0.1]
    np.testing.assert_array_equal(curve.loss, [3.5, np.nan, 2])
    assert (curve.planned, raw, method) == (3, False, "consensus")
    path.write_text("lane,lr,loss\n0,1,2\n0,2,3\n1,1,5\n")
    assert [c.loss.tolist() for c in read_curves(path)[0]] == [[2, 3], [5]]


def test_a_row_without_a_loss_keeps_its_line(tmp_path: Path) -> None:
    path = tmp_path / "curve.csv"
    path.write_text("lr,loss\n0.3,1\n0.1,\n0.01,2\n")
    (curve,), _, _ = read_curves(path)
    assert curve.lines.tolist() == [4, 3, 2]
    assert curve.gaps.tolist() == [1]
    assert "(line 3)" in curve.notes[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rate,loss\n1,2\n", "no column lr; its columns are: rate, loss"),
        ("lr,loss\n1,low\n", "line 2: loss is 'low', not a number"),
        (
            "lr,loss\n2,1\n1,2\n1,3\n",
            "line 4: lr is 1, as in line 3.*several runs or seeds, .* a column named lane",
        ),
        ("sep=;\nlr;loss\n1;2\n", "line 1 is 'sep=;', which only Excel reads; delete that line"),
        ("lr,loss\n1,2\n-1,2\n", "line 3: lr is '-1', not a positive number"),
        ("lr|loss\n1|2\n", "with a comma between"),
        ("", "cannot be read as CSV"),
        ("lr,loss\n1,2,3\n2,3,4\n", "rows with more cells than its first line names"),
        ('lr,loss\n"1,2\n', "cannot be read as CSV"),
        ("lr,LR,loss\n1,2,3\n", "has 2 columns called lr; capitals and spaces do not count"),
        ("lr,loss,loss\n1,2,3\n", "has 2 columns called loss"),
    ],
)
def test_a_csv_without_a_curve_says_why(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "curve.csv"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        read_curves(path)


@pytest.mark.parametrize("end", ["\n\n", "\n  \n,\n", "\r\n\r\n"])
def test_empty_rows_are_left_out_and_the_other_rows_keep_their_lines(tmp_path: Path, end: str) -> None:
    path = tmp_path / "curve.csv"
    path.write_bytes(f"lr,loss\n\n0.1,3\n0.2,1{end}".encode())
    (curve,), _, _ = read_curves(path)
    assert (curve.lr.tolist(), curve.lines.tolist()) == ([0.1, 0.2], [3, 4])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize(
    ("suffix", "compress"),
    [("", bytes), (".gz", partial(gzip.compress, mtime=0)), (".bz2", bz2.compress), (".xz", lzma.compress)],
)
def test_encodings_and_compressed_files_are_read(
    tmp_path: Path, encoding: str, suffix: str, compress: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / f"curve.csv{suffix}"
    path.write_bytes(compress("lr,loss,größe\n0.1,3,ü\n0.2,1,é\n".encode(encoding)))
    (curve,), _, _ = read_curves(path)
    assert curve.loss.tolist() == [3, 1]


@pytest.mark.parametrize("text", ["Lr;loss\n0,1;3\n\n0,2;1,5\n", "lr\tloss\n0.1\t3\n0.2\t1.5\n"])
def test_the_columns_of_a_spreadsheet_may_stand_between_semicolons_or_tabs(tmp_path: Path, text: str) -> None:
    path = tmp_path / "curve.csv"
    path.write_text(text)
    (curve,), _, _ = read_curves(path)
    assert (curve.lr.tolist(), curve.loss.tolist()) == ([0.1, 0.2], [3, 1.5])


GZIPPED = gzip.compress(b"lr,loss\n0.1,3\n" * 1000, mtime=0)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.csv",
            "lr,loss,größe\n".encode("latin-1"),
            r"not UTF-8 text \(byte 10 is 0xf6\).*iconv -f latin1",
        ),
        ("a.csv", "lr,loss\n".encode("utf-16-be"), "in UTF-16, without its mark.*iconv -f UTF-16BE -t UTF-8"),
        ("a.csv", "lr,loss\n".encode("utf-32"), "is in UTF-32. Convert it: iconv -f UTF-32 -t UTF-8"),
        ("a.csv", b"PK\x03\x04\xe4", "an Excel workbook. Unpack it, or save its sheet as CSV in UTF-8.$"),
        (
            "a.csv",
            GZIPPED,
            "is compressed with gzip.* Or, if it is compressed, let its name end in .gz, .bz2 or .xz",
        ),
        ("a.csv.gz", b"lr,loss\n1,2\n", "cannot be read: BadGzipFile"),
        ("a.csv.gz", GZIPPED[:-20], "cannot be decompressed: EOFError"),
        ("a.csv.gz", GZIPPED[:30] + bytes(20) + GZIPPED[50:], "cannot be|not text"),
        ("a.csv.xz", b"lr,loss\n1,2\n", "cannot be decompressed: LZMAError"),
        (
            "a.csv.gz",
            gzip.compress(bytes(10_001), mtime=0),
            "larger than 10,000 bytes once it is decompressed",
        ),
        ("a.csv", bytes(10_001), "larger than 10,000 bytes"),
    ],
)
def test_an_odd_file_says_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes, message: str
) -> None:
    monkeypatch.setattr(curves, "MOST_BYTES", 10_000)
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UsageError, match=message):
        read_curves(path)


def test_a_device_and_a_pipe_without_a_writer_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curves, "MOST_BYTES", 10_000)
    with pytest.raises(UsageError, match="larger than 10,000 bytes"):
        read_curves(Path("/dev/zero"))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="cannot be read as CSV"):
        read_curves(tmp_path / "pipe")


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no file or run directory"):
        read_curves(tmp_path / "none.csv")


def test_a_table_with_thousands_of_columns_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "wide.csv"
    path.write_text("lr,loss" + ",a" * 5000 + "\n0.1,3\n")
    with pytest.raises(UsageError, match="has 5,002 columns, more than 1,000; keep lr and loss"):
        read_curves(path)


@pytest.mark.parametrize(
    "text",
    [
        "lr,loss\n1,2\n3,nan\n2,inf\n", "LR , Loss\r\n1e-3, 0.1\r\n1e-2,-0\r\n\r\n", "step,loss,lr\n0,1,0.1\n1,,0.2\n",
        "lane,lr,loss\n7,0.1,1\n3,0.3,4\n7,0.2,2\n3,0.1,3\n", "lane,lr,loss\na,0.1,1\nb,0.1,2\na,0.2,3\n",
        "lr,loss,note\n0.1,1,x\n0.2,2,y\n", "lr,loss\n0.1,1\n\n0.2,2\n", "lr,loss\n", 'lr,loss\n"0.1",1\n1_0,2\n',
    ],
)  # fmt: skip
def test_numbers_read_at_once_are_those_read_cell_by_cell(
    tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "curve.csv").write_text(text, newline="")
    at_once = read_curves(tmp_path / "curve.csv")[0]
    monkeypatch.setattr("lrfind.runs.curves._numbers", lambda text: None)
    for a, b in zip(at_once, read_curves(tmp_path / "curve.csv")[0], strict=True):
        np.testing.assert_array_equal([a.lr, a.loss, a.lines], [b.lr, b.loss, b.lines])
