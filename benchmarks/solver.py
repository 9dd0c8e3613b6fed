"""How full and how fast the solver is: `python benchmarks/solver.py`.

A row is 1,000 random shapes of a space at 64 pixels, 11 classes, width multiple 4, int8.
"""

import random
import time
from itertools import product
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks import results
from space.file_format import StudentMetadata
from space.solver import Budget, InfeasibleError, Solution, solve
from space.spaces import FAMILIES, random_params, search_space

BUDGETS = ("20KB", "100KB", "300KB", "1MB")
SHAPES = 1_000
CARD = StudentMetadata(
    classes=tuple(f"class {index}" for index in range(11)),
    size=64,
    mean=(0.5543, 0.4506, 0.3442),
    std=(0.2716, 0.2734, 0.2779),
)


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def solved(name: str, budget: Budget) -> tuple[list[Solution], list[float]]:
    """Solutions and milliseconds of processor time of each."""
    space, rng = search_space(name, size=CARD.size), random.Random(0)
    solutions, milliseconds = [], []
    for _ in range(SHAPES):
        shape = space.shape(random_params(space, rng), classes=11, channels=3, size=CARD.size)
        started = time.process_time()
        try:
            solutions.append(solve(shape, budget, CARD))
        except InfeasibleError:
            continue
        milliseconds.append(1_000 * (time.process_time() - started))
    return solutions, milliseconds


def row(name: str, text: str) -> dict[str, Any]:
    solutions, milliseconds = solved(name, Budget.parse(text))
    shares = [solution.share for solution in solutions]
    evaluations = [float(solution.evaluations) for solution in solutions]
    return {
        "space": name,
        "budget": text,
        "share_p1": quantile(shares, 0.01),
        "share_p50": quantile(shares, 0.5),
        "full": sum(share >= 0.99 for share in shares) / SHAPES,  # share of the shapes
        "ms_p50": quantile(milliseconds, 0.5),
        "ms_p99": quantile(milliseconds, 0.99),
        "evaluations_p50": quantile(evaluations, 0.5),
        "evaluations_p99": quantile(evaluations, 0.99),
        "repaired": sum(bool(solution.repairs) for solution in solutions),
    }


@click.command(help=__doc__)
@results.OUT
def main(out: Path) -> None:
    rows = [row(name, text) for name, text in product(FAMILIES, BUDGETS)]
    results.write_csv(results.csv_path(out, "solver", torch.device("cpu")), rows)
    shown = [[f"{v:.4g}" if isinstance(v, float) else str(v) for v in r.values()] for r in rows]
    results.console().print(results.table("The solver", list(rows[0]), shown))


if __name__ == "__main__":
    results.run(main)
