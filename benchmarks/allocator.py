"""What it costs that freed memory goes back to the kernel after every step.

Training images a second, views included and without a teacher (random pixels), of processes
that differ in nothing but `trainers.engine.memory.keep_freed_memory`, in turns.
"""

import multiprocessing
import statistics
from multiprocessing.connection import Connection
from pathlib import Path

import click
import torch

from benchmarks import results
from benchmarks.side_by_side import speed
from space.references import REFERENCES
from trainers.engine.memory import keep_freed_memory
from trainers.engine.modes import ComputeMode

CPU = torch.device("cpu")
ARMS = {"given back": False, "kept": True}


def measure(keep: bool, threads: int, work: tuple[object, ...]) -> float:
    """In a process of its own: what glibc does depends on what the process did before."""
    context = multiprocessing.get_context("spawn")
    end, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs, keep, threads, work), daemon=True)
    process.start()
    images_per_second: float = end.recv()
    process.join()
    return images_per_second


def serve(end: Connection, keep: bool, threads: int, work: tuple[object, ...]) -> None:
    torch.set_num_threads(threads)
    if keep:
        keep_freed_memory()
    end.send(speed(*work))  # type: ignore[arg-type]


@click.command()
@click.option("--architecture", type=click.Choice(sorted(REFERENCES)), default="ntu-ml2020")
@click.option("--size", type=click.IntRange(8, 512), default=64, show_default=True, help="Pixels.")
@click.option("--batch", type=click.IntRange(2), default=64, show_default=True)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@click.option("--seconds", type=click.FloatRange(0.1), default=2.0, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=7, show_default=True)
@results.OUT
def main(
    architecture: str, size: int, batch: int, threads: int, seconds: float, rounds: int, out: Path
) -> None:
    """Compare glibc's default with memory that is kept."""
    rows: list[results.Row] = []
    for precision in ("fp32", "bf16"):
        taken: dict[str, list[float]] = {arm: [] for arm in ARMS}
        for _ in range(rounds):
            for arm, keep in ARMS.items():
                work = (architecture, size, batch, CPU, ComputeMode(precision=precision), seconds)
                taken[arm].append(measure(keep, threads, work))
        medians = {arm: statistics.median(speeds) for arm, speeds in taken.items()}
        rows += [
            {
                "precision": precision,
                "arm": arm,
                "images_per_second": medians[arm],
                "lowest": min(taken[arm]),
                "highest": max(taken[arm]),
                "ratio": medians[arm] / medians["given back"],
                "architecture": architecture,
                "size": size,
                "batch": batch,
                "threads": threads,
            }
            for arm in ARMS
        ]
    shown = [
        (
            f"{row['precision']}, {row['arm']}",
            *(f"{row[name]:,.0f}" for name in ("images_per_second", "lowest", "highest")),
            f"{row['ratio']:.2f}",
        )
        for row in rows
    ]
    columns = ("memory", "images/s", "lowest", "highest", "ratio")
    results.console().print(results.table("Freed memory, kept or given back", columns, shown))
    path = results.csv_path(out, "allocator", CPU)
    results.write_csv(path, rows)
    click.echo(str(path))


if __name__ == "__main__":
    results.run(main)
