"""How the seconds of an epoch grow: with images, pixels, parameters, and workers side by side.

    python benchmarks/cost_curves.py
    python benchmarks/cost_curves.py --data FOLDER --axes images,resolution

One thing is changed at a time, everything else stays at a middle point (`--middle-...`). The
student is the middle shape of the space `mobile` (the middle one of each parameter's values, for 64
pixels) solved for a budget in int8. Random photographs, or the first ones of `--data`.

- images, resolution, parameters: seconds of a second epoch of `trainers.engine.training.train`,
  that is training without a teacher, recalibration of batch norm (8 batches, however many there
  are) and evaluation on a quarter as many images; in the device's default mode, which is held
  fixed.
- workers: seconds of a search's processes (`search.workers.processes`) for one epoch of each of
  `--students` equal students, divided by their number; checkpoints and files included, starting
  the processes not; of `--data` they see all photographs. The cores are shared out, so below 0
  means that students side by side beat threads; -1 is the ideal only where one worker cannot use
  the device alone.

Rounds go through all points in turn, so that a machine that slows down slows all of them.
Printed: the slope of log(seconds) over log(amount), fitted to the medians (numpy.polyfit), its
range over the rounds, and the slope between the last two medians, where fixed costs hide least. At
most 1 means that cost grows linearly or more slowly; resolution is counted in pixels, size squared.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import click
import numpy as np
from rich.progress import Progress

from benchmarks import results
from benchmarks.epochs import Point, Setting, crew_seconds, epoch_seconds, student_of
from space.count import parameters
from space.errors import require, require_one_of, require_range
from trainers.engine.evaluation import choose_device, device_name
from trainers.engine.memory import keep_freed_memory
from trainers.engine.modes import default_mode

AXES = ("images", "resolution", "parameters", "workers")
MOST = {"images": 1, "resolution": 1, "parameters": 1, "workers": 0}  # slopes that are good


class Fit(NamedTuple):
    """The slope of log(seconds) over log(amount)."""

    exponent: float
    low: float  # over the rounds
    high: float
    last: float  # between the last two medians

    def verdict(self, most: float) -> str:
        if self.exponent <= most:
            return f"at most {most}"
        return f"at most {most}, within noise" if self.low <= most else f"more than {most}"


def amount(axis: str, point: Point) -> int:
    """What the axis counts."""
    return {
        "images": point.images,
        "resolution": point.size**2,
        "parameters": parameters(student_of(point.budget)),
        "workers": point.workers,
    }[axis]


def fit(amounts: Sequence[int], taken: Sequence[Sequence[float]]) -> Fit:
    """Slopes of several rounds' seconds; `taken` holds the rounds of each point."""
    logs = np.log(amounts)
    medians = np.log([median(times) for times in taken])
    rounds = [float(np.polyfit(logs, np.log(row), 1)[0]) for row in zip(*taken, strict=True)]
    last = (medians[-1] - medians[-2]) / (logs[-1] - logs[-2])
    return Fit(float(np.polyfit(logs, medians, 1)[0]), min(rounds), max(rounds), float(last))


def measure(
    points: Mapping[str, Sequence[Point]], setting: Setting, rounds: int
) -> dict[str, list[list[float]]]:
    """Axis -> the rounds of each point."""
    taken: dict[str, list[list[float]]] = {a: [[] for _ in row] for a, row in points.items()}
    console = results.console()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("Training", total=rounds * sum(map(len, points.values())))
        for _ in range(rounds):
            for axis, row in points.items():
                time_one: Callable[[Point, Setting], float]
                time_one = crew_seconds if axis == "workers" else epoch_seconds
                for point, times in zip(row, taken[axis], strict=True):
                    times.append(time_one(point, setting))
                    bar.advance(task)
    return taken


def report(
    points: Mapping[str, Sequence[Point]], taken: Mapping[str, list[list[float]]]
) -> list[dict[str, object]]:
    """Print a table of points and one of slopes; gives the rows of the CSV file."""
    cells, slopes, rows = [], [], []
    for axis, row in points.items():
        amounts = [amount(axis, point) for point in row]
        found = fit(amounts, taken[axis])
        slopes.append(
            (
                axis,
                f"{found.exponent:.2f}",
                f"{found.low:.2f} to {found.high:.2f}",
                f"{found.last:.2f}",
                found.verdict(MOST[axis]),
            )
        )
        for count, times in zip(amounts, taken[axis], strict=True):
            seconds = (median(times), min(times), max(times))
            cells.append((axis, f"{count:,}", *(f"{number:.3f}" for number in seconds)))
            named = dict(zip(("seconds", "lowest", "highest"), seconds, strict=True))
            rows.append({"axis": axis, "amount": count, **named, **found._asdict()})
    console = results.console()
    console.print(results.table("", ["axis", "amount", "s an epoch", "lowest", "highest"], cells))
    columns = ["axis", "exponent", "over rounds", "last two points", "verdict"]
    console.print(results.table("", columns, slopes))
    return rows


def read_budgets(_context: click.Context, _parameter: click.Parameter, text: str) -> list[str]:
    """`50KB,300KB`: each is one that the middle shape can keep."""
    texts = [part.strip() for part in text.split(",") if part.strip()]
    for part in texts:
        student_of(part)
    return texts


def read_axes(_context: click.Context, _parameter: click.Parameter, text: str) -> list[str]:
    names = [part.strip() for part in text.split(",") if part.strip()]
    for name in names:
        require_one_of("axes", name, AXES)
    return names


@click.command()
@click.option("--axes", default=",".join(AXES), show_default=True, callback=read_axes)
@click.option(
    "--images", default="500,1000,2000,3000", show_default=True, callback=results.numbers(8)
)
@click.option("--sizes", default="32,48,64,96", show_default=True, callback=results.numbers(8))
@click.option("--budgets", default="50KB,100KB,300KB,1MB", show_default=True, callback=read_budgets)
@click.option("--workers", default="1,2", show_default=True, callback=results.numbers(1))
@click.option("--middle-images", default=1000, show_default=True)
@click.option("--middle-size", default=64, show_default=True, help="Pixels.")
@click.option("--middle-budget", default="100KB", show_default=True)
@click.option("--batch", default=64, show_default=True)
@click.option("--students", default=4, show_default=True, help="Of the workers' axis.")
@click.option("--rounds", default=3, show_default=True, help="Medians are taken over them.")
@click.option("--data", type=click.Path(exists=True, file_okay=False), help="Photographs.")
@click.option("--cache", default="~/.cache/distilnas", show_default=True)
@results.DEVICE
@results.OUT
def main(axes: list[str], rounds: int, device: str, out: Path, **flags: Any) -> None:
    """Seconds of an epoch against images, resolution, parameters and workers."""
    keep_freed_memory()
    on = choose_device(device)
    require_range("rounds", rounds, 1, 1000)
    require_range("students", flags["students"], 1, 1000)
    student_of(flags["middle_budget"])
    middle = Point(flags["middle_images"], flags["middle_size"], flags["middle_budget"])
    setting = Setting(
        device=on,
        device_flag=device,
        batch=flags["batch"],
        data=flags["data"],
        cache=Path(flags["cache"]).expanduser(),
        students=flags["students"],
    )
    setting.recipe(1).check()
    points = {axis: row for axis, row in all_points(middle, flags).items() if axis in axes}
    for axis, row in points.items():
        amounts = [amount(axis, point) for point in row]
        rising = len(row) > 1 and len(set(amounts)) == len(row)
        require(axis, amounts, rising, "two different values or more, or there is no slope")
    results.console().print(
        f"{student_of(middle.budget).words}\nmiddle: {middle.images:,} images of {middle.size} "
        f"pixels, {middle.budget}; batch {setting.batch}, {default_mode(on).words}, "
        f"{rounds} rounds on {device_name(on)}"
    )
    if set(axes) != {"workers"}:
        epoch_seconds(middle, setting)  # a process's first training also loads libraries
    rows = report(points, measure(points, setting, rounds))
    path = results.csv_path(out, "cost-curves", on)
    results.write_csv(path, rows)
    results.console().print(f"\n{path}")


def all_points(middle: Point, flags: Mapping[str, Any]) -> dict[str, list[Point]]:
    """Axis -> its points, in rising order."""
    budgets = sorted(flags["budgets"], key=lambda text: parameters(student_of(text)))
    return {
        "images": [replace(middle, images=count) for count in sorted(flags["images"])],
        "resolution": [replace(middle, size=size) for size in sorted(flags["sizes"])],
        "parameters": [replace(middle, budget=text) for text in budgets],
        "workers": [replace(middle, workers=count) for count in sorted(flags["workers"])],
    }


if __name__ == "__main__":
    results.run(main)
