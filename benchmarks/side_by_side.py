"""Several students at once on one machine: which mechanism fills it?

Training images a second, views included and without a teacher, of

    alone      one student with all the cores
    threads    k threads of one process, a student each (on a GPU: a stream each)
    processes  k processes, a student each

On a CPU the k students share the cores evenly. Data are random pixels; the modes (layout,
precision, CUDA graphs) are the engine's own measured ones. Start-up is not in the figures, and
is printed. Rounds are interleaved, and the medians taken of them.
"""

import multiprocessing
import statistics
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from multiprocessing.connection import Connection
from pathlib import Path

import click
import torch

from benchmarks import results, synthetic
from space.build import build
from space.file_format import normalisation
from space.references import REFERENCES, reference
from trainers.engine.evaluation import choose_device
from trainers.engine.memory import keep_freed_memory
from trainers.engine.modes import ComputeMode
from trainers.engine.training import images_per_second
from trainers.machine import cores
from trainers.model import Model
from trainers.recipe import RECIPES

IMAGES = 1024


def speed(
    name: str, size: int, batch: int, device: torch.device, mode: ComputeMode, window: float
) -> float:
    """Training images a second of one student."""
    mean, std = normalisation(3)
    network = build(reference(name, classes=synthetic.CLASSES, channels=3), seed=0)
    data = synthetic.photographs(IMAGES, 64, size)
    recipe = RECIPES["default"].with_settings({"batch": batch})
    model = Model(network, size=size, mean=mean, std=std)
    return images_per_second(model, recipe, data, device, window, mode)


def in_threads(count: int, measure: Callable[[], float], device: torch.device) -> float:
    together = threading.Barrier(count)

    def work() -> float:
        together.wait()
        on_gpu = device.type == "cuda"
        stream = torch.cuda.stream(torch.cuda.Stream(device)) if on_gpu else nullcontext()
        with stream:
            return measure()

    before = torch.get_num_threads()
    torch.set_num_threads(max(1, cores() // count))
    try:
        with ThreadPoolExecutor(count) as pool:
            return sum(pool.map(lambda _: work(), range(count)))
    finally:
        torch.set_num_threads(before)


class ProcessExecutor:
    """k processes that wait for the word, so that their windows overlap."""

    def __init__(self, count: int, work: tuple[object, ...]) -> None:
        context = multiprocessing.get_context("spawn")
        pipes = [context.Pipe() for _ in range(count)]
        threads = max(1, cores() // count)
        self.ends = [mine for mine, _ in pipes]
        self.all = [
            context.Process(target=serve, args=(theirs, threads, work), daemon=True)
            for _, theirs in pipes
        ]
        for process in self.all:
            process.start()
        for end in self.ends:
            end.recv()

    def speed(self) -> float:
        for end in self.ends:
            end.send(True)
        return float(sum(end.recv() for end in self.ends))

    def stop(self) -> None:
        for process in self.all:
            process.kill()


def serve(end: Connection, threads: int, work: tuple[object, ...]) -> None:
    keep_freed_memory()
    torch.set_num_threads(threads)
    end.send(True)
    while end.recv():
        end.send(speed(*work))  # type: ignore[arg-type]


@click.command()
@click.option("--architecture", type=click.Choice(sorted(REFERENCES)), default="ntu-ml2020")
@click.option("--size", type=click.IntRange(8, 512), default=64, show_default=True, help="Pixels.")
@click.option("--batch", type=click.IntRange(2), default=64, show_default=True)
@click.option("--students", default="2", show_default=True, callback=results.numbers(2))
@click.option("--precision", type=click.Choice(["fp32", "bf16"]), default="fp32")
@click.option("--seconds", type=click.FloatRange(0.1), default=3.0, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
@results.DEVICE
@results.OUT
def main(
    architecture: str,
    size: int,
    batch: int,
    students: tuple[int, ...],
    precision: str,
    seconds: float,
    rounds: int,
    device: str,
    out: Path,
) -> None:
    """Compare one student, k threads and k processes."""
    keep_freed_memory()
    chosen = choose_device(device)
    mode = ComputeMode(precision=precision, graphs=chosen.type == "cuda")
    work = (architecture, size, batch, chosen, mode, seconds)
    began = time.perf_counter()
    groups = {count: ProcessExecutor(count, work) for count in students}
    click.echo(
        f"{sum(students)} processes started in {time.perf_counter() - began:.1f} s", err=True
    )

    arms: dict[tuple[str, int], Callable[[], float]] = {("alone", 1): lambda: speed(*work)}
    for count, group in groups.items():
        arms["threads", count] = lambda k=count: in_threads(k, lambda: speed(*work), chosen)  # type: ignore[misc]
        arms["processes", count] = group.speed
    taken: dict[tuple[str, int], list[float]] = {arm: [] for arm in arms}
    try:
        for _ in range(rounds):
            for arm, measure in arms.items():
                taken[arm].append(measure())
    finally:
        for group in groups.values():
            group.stop()
    alone = statistics.median(taken["alone", 1])
    rows: list[results.Row] = [
        {
            "arm": arm,
            "students": count,
            "images_per_second": statistics.median(speeds),
            "lowest": min(speeds),
            "highest": max(speeds),
            "ratio": statistics.median(speeds) / alone,
            "precision": precision,
            "size": size,
            "batch": batch,
            "architecture": architecture,
        }
        for (arm, count), speeds in taken.items()
    ]
    shown = [
        (
            f"{row['arm']} x{row['students']}",
            f"{row['images_per_second']:,.0f}",
            f"{row['ratio']:.2f}",
        )
        for row in rows
    ]
    results.console().print(
        results.table("Students side by side", ("arm", "images/s", "ratio"), shown)
    )
    path = results.csv_path(out, f"side-by-side-{precision}", chosen)
    results.write_csv(path, rows)
    click.echo(str(path))


if __name__ == "__main__":
    results.run(main)
