"""What lrfind finds on this machine: packages, devices, data, a place for runs. torch is imported late.

A package that is broken must not stop the report about it, so all is tried, and nothing is raised.
"""

from __future__ import annotations

import contextlib
import os
import platform
import sys
from importlib import metadata, resources
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from lrfind import __version__
from lrfind.config.templates import find_config
from lrfind.errors import counted, in_one_line
from lrfind.runs.connection import LOCAL, file_system
from lrfind.runs.files import why_not_writable
from lrfind.training.remembered import read_timings, timings_file

FOR_CONTRIBUTORS = {"dev", "bench"}
"""The extras that users do not need."""
DOWNLOADED = {"mnist": "data/MNIST/raw", "fashion_mnist": "data/FashionMNIST/raw"}
"""The data sets that are downloaded, and where their files are unless the config says another `root`."""


def examine() -> dict[str, Any]:
    """Return what was found, as plain data.

    Returns:
        `lrfind`, `python`, `packages`, `devices`, `data`, `runs`, `config` and `timings`, each with what was
        found; and `problems`, the sentences about what is needed and broken, empty if nothing is.
    """
    packages, devices, data, runs = _packages(), _devices(), _data(), _runs(Path("runs"))
    broken = [row for row in packages if row["extra"] is None and row["problem"]]
    lost = [row for row in data if row["packaged"] and not row["found"]]
    problems = [f"{row['name']} {row['problem']}: {row['install']}" for row in broken]
    problems += [f"{row['name']} does not work: {row['problem']}" for row in devices if row["problem"]]
    problems += [f"{row['path']} is missing: install lrfind again" for row in lost]
    problems += [] if runs["problem"] is None else [f"{runs['folder']} cannot be written: {runs['problem']}"]
    path, why = find_config(None)
    return {
        "lrfind": __version__,
        "python": {"version": platform.python_version(), "executable": sys.executable},
        "packages": packages,
        "devices": devices,
        "data": data,
        "runs": runs,
        "config": {"path": str(path), "why": why},
        "timings": {"path": str(timings_file()), "count": len(read_timings())},
        "problems": problems,
    }


def _packages() -> list[dict[str, Any]]:
    """Return a row for each package that lrfind needs, and for those of each extra."""
    try:
        installed = metadata.metadata("lrfind")
    except metadata.PackageNotFoundError:  # a source tree that was not installed
        return []
    needed = [Requirement(text) for text in installed.get_all("Requires-Dist") or ()]
    extras = [name for name in installed.get_all("Provides-Extra") or () if name not in FOR_CONTRIBUTORS]
    rows = [_package(part, None) for part in needed if _applies(part, "")]
    for extra in extras:
        rows += [_package(part, extra) for part in needed if _applies(part, extra) and not _applies(part, "")]
    return rows


def _applies(part: Requirement, extra: str) -> bool:
    return part.marker is None or part.marker.evaluate({"extra": extra})


def _package(part: Requirement, extra: str | None) -> dict[str, Any]:
    """Return the row of a package: its version, and what is wrong with it."""
    version, problem = None, "is missing"
    with contextlib.suppress(metadata.PackageNotFoundError):
        version = metadata.version(part.name)
        fits = part.specifier.contains(version, prereleases=True)
        problem = "" if fits else f"{version} does not fit {part.specifier}"
    wanted = f"'lrfind[{extra}]'" if extra else f"'{part.name}{part.specifier}'"
    return {
        "name": part.name,
        "extra": extra,
        "version": version,
        "problem": problem or None,
        "install": f"pip install {wanted}",
    }


def _devices() -> list[dict[str, Any]]:
    """Return a row for each device: what it is, and whether a small computation works on it."""
    try:
        import torch
    except Exception as error:
        return [{"name": "torch", "description": "", "problem": in_one_line(error, 300)}]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = counted(torch.get_num_threads(), "thread")
    rows = [{"name": "cpu", "description": f"{counted(cores or 1, 'core')}, {threads} of torch"}]
    if torch.cuda.is_available():
        rows.append({"name": "cuda", "description": torch.cuda.get_device_name()})
    if torch.backends.mps.is_available():
        rows.append({"name": "mps", "description": "Apple's GPU"})
    return [{**row, "problem": _why_unusable(row["name"])} for row in rows]


def _why_unusable(device: str) -> str | None:
    """Return why a gradient cannot be computed on a device; None if it can."""
    import torch

    try:
        weight = torch.ones(8, 8, device=device, requires_grad=True)
        (gradient,) = torch.autograd.grad((weight @ weight).sum(), [weight])
        return None if bool((gradient == 16).all()) else "its numbers are wrong"
    except Exception as error:
        return in_one_line(error, 300)


def _data() -> list[dict[str, Any]]:
    """Return a row for each data set that is a file: those of the package, and those that are downloaded."""
    package = Path(str(resources.files("lrfind.datasets")))
    packaged = {"mnist_mini": package / "mnist_mini.npz", "text": package / "sonnets.txt"}
    rows = [{"name": name, "path": str(path), "packaged": True} for name, path in packaged.items()]
    rows += [{"name": name, "path": path, "packaged": False} for name, path in DOWNLOADED.items()]
    return [{**row, "found": Path(str(row["path"])).exists()} for row in rows]


def _runs(folder: Path) -> dict[str, Any]:
    """Return where runs are written, on which file system, and why they cannot be, if that is so."""
    place = folder if folder.is_dir() else Path.cwd()
    number, kind = why_not_writable(place), file_system(place)
    return {
        "folder": str(folder.absolute()),
        "file_system": kind,
        "write_ahead_log": kind in LOCAL,
        "problem": None if number is None else os.strerror(number),
    }
