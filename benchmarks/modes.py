"""Which layout and precision is the fastest, student by student of a space.

Training images a second (views included, no teacher; random pixels) of random shapes solved for a
budget, in every mode, as ratios to channels_last in fp32. This is why the engine measures its
mode instead of believing in one.
"""

import random
import statistics
from pathlib import Path

import click
import torch

from benchmarks import results, synthetic
from space import spaces
from space.architecture import Architecture
from space.budget import Budget
from space.build import build
from space.file_format import StudentMetadata, normalisation
from space.solver import solve
from trainers.engine.evaluation import choose_device
from trainers.engine.memory import keep_freed_memory
from trainers.engine.modes import ComputeMode, has_bfloat16
from trainers.engine.training import images_per_second
from trainers.model import Model
from trainers.recipe import RECIPES

IMAGES = 512


def students(space: str, budget: str, size: int, count: int) -> list[Architecture]:
    mean, std = normalisation(3)
    metadata = StudentMetadata(
        classes=tuple(map(str, range(synthetic.CLASSES))), size=size, mean=mean, std=std
    )
    search_space = spaces.search_space(space, size=size, compressed_stem=False)
    rng, limit = random.Random(0), Budget.parse(budget, "int8", None)
    shapes = (
        search_space.shape(
            spaces.random_params(search_space, rng), classes=10, channels=3, size=size
        )
        for _ in range(count)
    )
    return [solve(shape, limit, metadata, multiple=4).architecture for shape in shapes]


def speeds(
    architecture: Architecture,
    size: int,
    device: torch.device,
    modes: list[ComputeMode],
    window: float,
) -> list[float]:
    """Images a second of every mode; the better of two interleaved windows."""
    data = synthetic.photographs(IMAGES, 64, size)
    mean, std = normalisation(3)

    def speed(mode: ComputeMode) -> float:
        model = Model(build(architecture, seed=0), size=size, mean=mean, std=std)
        return images_per_second(model, RECIPES["default"], data, device, window, mode)

    rounds = [[speed(mode) for mode in modes] for _ in range(2)]
    return [max(pair) for pair in zip(*rounds, strict=True)]


@click.command()
@click.option("--spaces", default="mixed,group,mobile,plain", show_default=True)
@click.option("--budget", default="300KB", show_default=True)
@click.option("--size", type=click.IntRange(8, 512), default=64, show_default=True, help="Pixels.")
@click.option("--shapes", type=click.IntRange(1), default=8, show_default=True, help="A space.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@click.option("--seconds", type=click.FloatRange(0.1), default=0.5, show_default=True)
@results.DEVICE
@results.OUT
def main(
    spaces: str,
    budget: str,
    size: int,
    shapes: int,
    threads: int,
    seconds: float,
    device: str,
    out: Path,
) -> None:
    """Compare layouts and precisions over random students."""
    keep_freed_memory()
    torch.set_num_threads(threads)
    chosen = choose_device(device)
    precisions = ["fp32", "bf16"] if has_bfloat16(chosen) else ["fp32"]
    graphs = chosen.type == "cuda"
    modes = [
        ComputeMode(layout, p, graphs)
        for p in precisions
        for layout in ("channels_last", "contiguous")
    ]
    rows: list[dict[str, object]] = []
    for space in spaces.split(","):
        for architecture in students(space.strip(), budget, size, shapes):
            found = speeds(architecture, size, chosen, modes, seconds)
            ratios = {mode.words: s / found[0] for mode, s in zip(modes, found, strict=True)}
            rows.append(
                {
                    "space": space,
                    "images_per_second": found[0],
                    **ratios,
                    "words": architecture.words,
                }
            )
    shown = []
    for mode in modes[1:]:
        ratios_ = [float(str(row[mode.words])) for row in rows]
        faster = sum(ratio > 1.15 for ratio in ratios_)
        shown.append(
            (
                mode.words,
                f"{min(ratios_):.2f}",
                f"{statistics.median(ratios_):.2f}",
                f"{max(ratios_):.2f}",
                f"{faster} of {len(rows)}",
            )
        )
    title = f"Speed against {modes[0].words}: {len(rows)} students of {budget} at {size} px"
    columns = ("mode", "lowest", "median", "highest", "faster by 15 % or more")
    results.console().print(results.table(title, columns, shown))
    path = results.csv_path(out, f"modes-{size}px-{budget}", chosen)
    results.write_csv(path, rows)
    click.echo(str(path))


if __name__ == "__main__":
    results.run(main)
