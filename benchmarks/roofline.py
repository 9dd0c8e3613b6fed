"""How far a training step is from what the device could do.

    python benchmarks/roofline.py --architecture ntu-ml2020 --size 64

Counted: FLOPs and bytes of one step, by the rules in `benchmarks/traffic.py` (`--layers` prints
them layer by layer). Measured, as the best of several: the device's ceilings with all of PyTorch's
threads, and our own engine.

- FLOP/s: a product of two large square matrices, fp32 as PyTorch is set (on a GPU without TF32,
  which its convolutions may use) and bf16.
- Bytes a second: a copy between arrays far larger than the last-level cache; what is read and what
  is written both count.
- A step: `trainers.engine.training.images_per_second` on random photographs, in the faster of both
  memory layouts for each precision. Once as the recipe asks for it, once without views (`bare`: no
  crops, no colours), which is what the floors count; the teacher is left out, its logits being
  banked.

A floor is an amount over a ceiling: no step of that precision on that device can be faster,
unless caches keep what was counted as memory traffic (a small batch on a CPU). `reached` is
floor / measured. Not measured: evaluation, recalibration, the first step's allocations.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import click
import torch

from benchmarks import results
from benchmarks.synthetic import photographs
from benchmarks.traffic import FLOAT_BYTES, Work, step_work
from space.architecture import Architecture
from space.build import build
from space.count import macs, parameters
from space.errors import InputError, require, require_range
from space.file_format import normalisation
from space.references import REFERENCES, reference
from trainers.engine.evaluation import choose_device, device_name
from trainers.engine.memory import keep_freed_memory
from trainers.engine.modes import LAYOUTS, default_mode
from trainers.engine.training import images_per_second
from trainers.model import Model
from trainers.policies import POLICIES
from trainers.recipe import Recipe, recipe

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
MATRIX = {"cpu": 2048, "cuda": 8192}  # rows
COPY_MB = 512  # a copy's source: sixteen times a last-level cache of 32 MB
BATCHES = 8  # of random photographs
REPEATS = 5
LARGEST = {
    "size": 1024,
    "images": 10**9,
    "epochs": 10**6,
    "repeats": 1000,
    "matrix": 2**16,
    "copy_mb": 10**5,
}


@dataclass(frozen=True)
class Case:
    """What is counted and timed."""

    architecture: Architecture
    size: int
    recipe: Recipe
    device: torch.device
    image_steps: int  # of the whole training

    @property
    def batch(self) -> int:
        return self.recipe.batch


class Line(NamedTuple):
    """One line of the table, and of the CSV file."""

    precision: str
    what: str  # a floor, or how the step was measured
    amount_a_step: int  # FLOPs or bytes; 0 of a measured step
    ceiling_a_second: float
    seconds_a_step: float
    ms_an_image: float
    seconds_in_all: float  # images x epochs
    reached: float | None  # share of the measured step; None of measured steps
    reached_bare: float | None


@dataclass(frozen=True)
class Ceilings:
    """What the device can do, measured."""

    flops: dict[str, float]  # precision -> FLOP/s
    bytes: float  # a second


def read_architecture(text: str, classes: int) -> Architecture:
    """A reference's name, or a file of JSON."""
    if text in REFERENCES:
        return reference(text, classes=classes)
    path = Path(text)
    if not path.is_file():
        raise InputError(
            f"architecture must be one of {', '.join(REFERENCES)} or a JSON file, but got {text!r}"
        )
    try:
        return Architecture.from_json(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the architecture {text} cannot be read: {error}") from None


def best_seconds(work: Callable[[], object], device: torch.device, repeats: int) -> float:
    """The least of several runs, after one that warms up."""
    taken = []
    for _ in range(repeats + 1):
        _synchronise(device)
        began = time.perf_counter()
        work()
        _synchronise(device)
        taken.append(time.perf_counter() - began)
    return min(taken[1:])


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def ceilings(
    precisions: Sequence[str], device: torch.device, matrix: int, copy_mb: int, repeats: int
) -> Ceilings:
    """FLOP/s by precision and bytes a second."""
    flops = {}
    for precision in precisions:
        left, right = (
            torch.rand(matrix, matrix, dtype=DTYPES[precision], device=device) for _ in range(2)
        )
        product = torch.empty_like(left)
        multiply = partial(torch.mm, left, right, out=product)
        seconds = best_seconds(multiply, device, repeats)
        flops[precision] = 2 * matrix**3 / seconds
    source = torch.ones(copy_mb * 1_000_000 // 4, device=device)
    target = torch.zeros_like(source)
    seconds = best_seconds(lambda: target.copy_(source), device, repeats)
    return Ceilings(flops, 2 * source.nbytes / seconds)


def step_seconds(case: Case, precision: str, seconds: float, repeats: int) -> tuple[float, str]:
    """The engine's step in that precision, and the layout that it was fastest in."""
    channels = case.architecture.channels
    count, classes = BATCHES * case.batch, case.architecture.classes
    data = photographs(count, 2, case.size, classes=classes, channels=channels)
    mean, std = normalisation(channels)
    rates = {}
    for layout in LAYOUTS:
        mode = default_mode(case.device, precision)._replace(layout=layout)
        for repeat in range(repeats):
            model = Model(build(case.architecture, seed=0), size=case.size, mean=mean, std=std)
            rate = images_per_second(model, case.recipe, data, case.device, seconds, mode)
            rates[layout, repeat] = rate
    fastest, _ = max(rates, key=lambda key: rates[key])
    return case.batch / max(rates.values()), fastest


def floors(case: Case, precision: str, found: Ceilings) -> dict[str, tuple[int, float, float]]:
    """Name -> (amount a step, ceiling, seconds a step)."""
    work = step_work(case.architecture, case.size, case.batch, precision, case.recipe)
    amounts = {
        "arithmetic": (sum(item.flops for item in work), found.flops[precision]),
        "memory, unfused": (sum(item.unfused for item in work), found.bytes),
        "memory, fused": (sum(item.fused for item in work), found.bytes),
    }
    return {name: (amount, top, amount / top) for name, (amount, top) in amounts.items()}


def lines(case: Case, precision: str, found: Ceilings, measured: dict[str, float]) -> list[Line]:
    """A line a floor, then a line a measured step.

    Args:
        measured: `measured` and `bare` -> seconds a step.
    """
    made = []
    times = floors(case, precision, found) | {name: (0, 0.0, s) for name, s in measured.items()}
    for name, (amount, ceiling, seconds) in times.items():
        line = Line(
            precision=precision,
            what=name,
            amount_a_step=amount,
            ceiling_a_second=ceiling,
            seconds_a_step=seconds,
            ms_an_image=1e3 * seconds / case.batch,
            seconds_in_all=seconds * case.image_steps / case.batch,
            reached=seconds / measured["measured"] if amount else None,
            reached_bare=seconds / measured["bare"] if amount else None,
        )
        made.append(line)
    return made


def report(case: Case, made: Sequence[Line], layouts: Sequence[str]) -> None:
    """Print the student, its conditions and the lines."""
    console = results.console()
    student = case.architecture
    console.print(
        f"{student.words}\n{parameters(student):,} parameters, "
        f"{macs(student, case.size):,} MACs an image of {case.size} pixels, batch {case.batch}, "
        f"on {device_name(case.device)}; {', '.join(layouts)}\n"
    )
    columns = ["floor or step", "a step", "ceiling", "ms a step", "ms an image"]
    columns += [f"s for {case.image_steps:,} images", "reached", "reached, bare"]
    console.print(results.table("", columns, [_cells(line) for line in made]))


def _cells(line: Line) -> tuple[str, ...]:
    unit = "FLOP" if line.what == "arithmetic" else "B"
    counted = bool(line.amount_a_step)
    return (
        f"{line.precision} {line.what}",
        f"{line.amount_a_step / 1e9:,.3f} G{unit}" if counted else "",
        f"{line.ceiling_a_second / 1e9:,.1f} G{unit}/s" if counted else "",
        f"{1e3 * line.seconds_a_step:,.3f}",
        f"{line.ms_an_image:,.4f}",
        f"{line.seconds_in_all:,.2f}",
        *("" if share is None else f"{share:.1%}" for share in (line.reached, line.reached_bare)),
    )


def report_layers(work: Sequence[Work], precision: str) -> None:
    """Print the counts of a step, layer by layer."""
    sums = (sum(column) for column in zip(*(item[2:] for item in work), strict=True))
    cells = [
        (item.name, item.op, *(f"{count / 1e6:,.3f}" for count in item[2:]))
        for item in (*work, Work("sum", "", *sums))
    ]
    columns = ("layer", "op", "forward MFLOP", "backward MFLOP", "unfused MB", "fused MB")
    results.console().print(results.table(f"One step, {precision}", columns, cells))


def measured_lines(
    case: Case, precisions: Sequence[str], found: Ceilings, seconds: float, repeats: int
) -> tuple[list[Line], list[str]]:
    """All lines of the table, and the layout that each precision was fastest in."""
    made, layouts = [], []
    bare = replace(case, recipe=replace(case.recipe, augment=POLICIES["none"]))
    for name in precisions:
        taken, layout = step_seconds(case, name, seconds, repeats)
        taken_bare, _ = step_seconds(bare, name, seconds, repeats)
        made += lines(case, name, found, {"measured": taken, "bare": taken_bare})
        layouts.append(f"{name}: {layout}")
    return made, layouts


@click.command()
@click.option("--architecture", default="ntu-ml2020", show_default=True, help="Name or JSON file.")
@click.option("--classes", default=10, show_default=True, help="Of a named architecture.")
@click.option("--size", default=64, show_default=True, help="Pixels of the square input.")
@click.option("--batch", default=64, show_default=True, help="Images a step.")
@click.option("--recipe", default="default", show_default=True, help="Optimiser and views.")
@click.option("--images", default=9866, show_default=True, help="Training images.")
@click.option("--epochs", default=100, show_default=True)
@click.option("--precision", type=click.Choice(["fp32", "bf16", "both"]), default="both")
@click.option("--layers", is_flag=True, help="Print the counts layer by layer.")
@click.option("--seconds", default=1.5, show_default=True, help="Of each measured run.")
@click.option("--repeats", default=REPEATS, show_default=True, help="Runs; the best counts.")
@click.option("--matrix", type=int, help="Rows of the matrices.  [default: 2048; GPU: 8192]")
@click.option("--copy-mb", default=COPY_MB, show_default=True, help="MB that a copy reads.")
@results.DEVICE
@results.OUT
def main(device: str, precision: str, layers: bool, out: Path, **flags: Any) -> None:
    """Floors of a training step by arithmetic and by memory, and what the engine reaches."""
    keep_freed_memory()
    on = choose_device(device)
    flags["matrix"] = flags["matrix"] or MATRIX[on.type]
    for name, most in LARGEST.items():
        require_range(name.replace("_", "-"), flags[name], 1, most)
    require("seconds", flags["seconds"], flags["seconds"] > 0, "more than 0")
    case = Case(
        read_architecture(flags["architecture"], flags["classes"]),
        flags["size"],
        recipe(flags["recipe"]).with_settings({"batch": flags["batch"]}),
        on,
        flags["images"] * flags["epochs"],
    )
    precisions = tuple(FLOAT_BYTES) if precision == "both" else (precision,)
    if layers:
        for name in precisions:
            work = step_work(case.architecture, case.size, case.batch, name, case.recipe)
            report_layers(work, name)
    repeats = flags["repeats"]
    found = ceilings(precisions, on, flags["matrix"], flags["copy_mb"], repeats)
    made, layouts = measured_lines(case, precisions, found, flags["seconds"], repeats)
    report(case, made, layouts)
    path = results.csv_path(out, "roofline", on)
    results.write_csv(path, [line._asdict() for line in made])
    results.console().print(f"\n{path}")


if __name__ == "__main__":
    results.run(main)
