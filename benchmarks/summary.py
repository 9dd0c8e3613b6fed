"""Rounds in numbers: the table and the CSV rows of `throughput.py`."""

import datetime
import math
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, median, stdev
from typing import NamedTuple

import torch
from rich.table import Table

from benchmarks import results
from benchmarks.rounds import Arm, Measured, Ran
from benchmarks.task import Task
from trainers.engine.evaluation import device_name

SEARCH_TRIALS = 10
DASH = "-"


class Line(NamedTuple):
    """An arm's figures; without rounds, why there are none."""

    arm: str
    note: str = ""
    rounds: int = 0
    seconds: float = math.nan  # a trial, median
    least: float = math.nan
    most: float = math.nan
    ratio: float = math.nan  # seconds of the arm that is compared with, by the arm's
    search: float = math.nan  # seconds of ten trials and of what is paid once
    accuracy: float = math.nan  # mean
    deviation: float = math.nan  # standard, of the sample
    students: int = 0


def summary(
    arms: Sequence[Arm],
    missing: Sequence[Line],
    measured: Measured,
    base: str,
    once: Mapping[str, float] | None,
) -> list[Line]:
    """A line for every arm that has been measured, and those that could not be.

    Args:
        base: the arm that all are compared with.
        once: seconds that an arm pays once a search; None where no searches are compared.
    """
    of_base = median(ran.seconds for ran in measured[base]) if measured.get(base) else math.nan
    lines = [
        _line(arm, measured[arm.name], of_base, math.nan if once is None else once.get(arm.name, 0))
        for arm in arms
        if measured.get(arm.name)
    ]
    return [*lines, *missing]


def _line(arm: Arm, rounds: Sequence[Ran], of_base: float, once: float) -> Line:
    seconds = [ran.seconds for ran in rounds]
    accuracies = [accuracy for ran in rounds for accuracy in ran.accuracies]
    return Line(
        arm=arm.name,
        note=", ".join(part for part in (rounds[-1].note, arm.note) if part),
        rounds=len(rounds),
        seconds=median(seconds),
        least=min(seconds),
        most=max(seconds),
        ratio=of_base / median(seconds),
        search=SEARCH_TRIALS * median(seconds) + once,
        accuracy=fmean(accuracies),
        deviation=stdev(accuracies) if len(accuracies) > 1 else math.nan,
        students=len(accuracies),
    )


def shown(lines: Sequence[Line], task: Task, base: str, ablation: bool) -> Table:
    """The table; `base` is what the ratios are of."""
    columns = ["arm", "s a trial", "min", "max", "images/s", "trials/h", "ms an image"]
    columns += [f"speed of {base}" if ablation else f"x {base}", "accuracy"]
    columns += [] if ablation else [f"{SEARCH_TRIALS} trials, s"]
    count, size = len(task.data.train), task.data.size
    title = (
        f"{count} images of {size} pixels, batch {task.recipe.batch}, {task.recipe.epochs} epochs, "
        f"{device_name(task.device)}, {task.cores} cores, torch {torch.__version__}"
    )
    rows = [_cells(line, task.images)[: len(columns)] for line in lines]
    return results.table(title, columns, rows)


def _cells(line: Line, images: int) -> list[str]:
    if not line.rounds:
        return [line.arm, *[DASH] * 9]
    spread = "" if math.isnan(line.deviation) else f" +- {line.deviation:.1%}"
    return [
        line.arm,
        *(f"{value:.2f}" for value in (line.seconds, line.least, line.most)),
        f"{images / line.seconds:,.0f}",
        f"{3600 / line.seconds:,.0f}",
        f"{1e3 * line.seconds / images:.3f}",
        DASH if math.isnan(line.ratio) else f"{line.ratio:.2f}",
        f"{line.accuracy:.1%}{spread} (n = {line.students})",
        f"{line.search:.1f}",
    ]


def csv_rows(lines: Sequence[Line], task: Task) -> list[dict[str, object]]:
    """One and the same columns for every arm; what was not measured is empty."""
    about: dict[str, object] = {
        "date": datetime.date.today().isoformat(),
        "torch": torch.__version__,
        "device": str(task.device),
        "processor": processor(task.device),
        "cores": task.cores,
    }
    setting: dict[str, object] = {
        "size": task.data.size,
        "batch": task.recipe.batch,
        "epochs": task.recipe.epochs,
        "images": len(task.data.train),
    }
    return [about | {"arm": line.arm} | setting | _values(line, task.images) for line in lines]


def _values(line: Line, images: int) -> dict[str, object]:
    values: dict[str, object] = {
        "rounds": line.rounds,
        "seconds": line.seconds,
        "seconds_min": line.least,
        "seconds_max": line.most,
        "images_per_second": images / line.seconds,
        "trials_per_hour": 3600 / line.seconds,
        "ms_per_image": 1e3 * line.seconds / images,
        "ratio": line.ratio,
        "accuracy_mean": line.accuracy,
        "accuracy_std": line.deviation,
        "students": line.students,
        f"seconds_{SEARCH_TRIALS}_trials": line.search,
        "note": line.note,
    }
    nothing = {k: "" for k, v in values.items() if isinstance(v, float) and math.isnan(v)}
    return values | nothing


def processor(device: torch.device) -> str:
    """The GPU's name, or the CPU's as Linux tells it."""
    if device.type == "cuda":
        return device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
